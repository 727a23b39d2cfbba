//! Lists of migrations: forward only, each file applied once.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::EventStoreError;

/// A file in a folder of migrations.
#[derive(Clone, Copy, Debug)]
pub struct MigrationFile {
    /// Its number, from 1.
    pub version: i64,
    /// Its name; the file is called by number and name.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// The migrator for a list. It ignores migrations of later builds, so an old and a new build can
/// run on one schema.
pub(super) fn migrator(files: &[MigrationFile]) -> Migrator {
    let mut migrator = Migrator::with_migrations(
        files
            .iter()
            .map(|file| {
                let sql = file.sql.into_sql_str();
                Migration::new(
                    file.version,
                    file.name.into(),
                    MigrationType::Simple,
                    sql,
                    false,
                )
            })
            .collect(),
    );
    migrator.set_ignore_missing(true);
    migrator
}

/// Checks that the newest applied migration is at least the last of a list.
pub(super) fn check_migrated(files: &[MigrationFile], found: i64) -> Result<(), EventStoreError> {
    let needed = files.last().map_or(0, |file| file.version);
    if found >= needed {
        Ok(())
    } else {
        Err(EventStoreError::NotMigrated { found, needed })
    }
}

/// The driver's error, if it caused the migration to fail.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's errors are many and grow; the others mean one thing here"
)]
pub(super) fn cause(error: sqlx::migrate::MigrateError) -> sqlx::Error {
    match error {
        sqlx::migrate::MigrateError::Execute(error)
        | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => error,
        other => sqlx::Error::Migrate(Box::new(other)),
    }
}

/// Asserts that a list contains every file of its folder below `migrations/`, and nothing else.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "reads the folder")]
pub(super) fn assert_complete(files: &[MigrationFile], folder: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../migrations")
        .join(folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Other files, such as the rights of the runtime role, are not migrations.
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    let listed: Vec<_> = (1..)
        .zip(files)
        .map(|(number, file)| {
            assert_eq!(file.version, number, "numbers go up one by one");
            (
                format!("{:04}_{}.sql", file.version, file.name),
                file.sql.to_owned(),
            )
        })
        .collect();
    assert_eq!(listed, found);
}
