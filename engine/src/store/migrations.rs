//! Lists of migrations: forward only, each file applied once.

use sqlx::{
    SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{EventStoreError, UnsuitableServer};

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

/// What a database says of its migrations.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The newest one; 0 for none.
    pub(super) newest: i64,
    /// The checksum of the first one.
    pub(super) first: Option<Vec<u8>>,
}

impl Applied {
    /// Checks that the database began with the first of a list, and has come to its last.
    pub(super) fn check(&self, files: &[MigrationFile]) -> Result<(), EventStoreError> {
        let list = migrator(files);
        let ours = list.iter().next().map(|first| &*first.checksum);
        if self.first.is_some() && self.first.as_deref() != ours {
            return Err(UnsuitableServer::OtherBaseline.into());
        }
        let needed = files.last().map_or(0, |file| file.version);
        if self.newest >= needed {
            Ok(())
        } else {
            let found = self.newest;
            Err(EventStoreError::NotMigrated { found, needed })
        }
    }
}

/// The driver's error, if it caused the migration to fail; none if the database has other
/// migrations than the list.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's errors are many and grow; the others mean one thing here"
)]
pub(super) fn cause(error: MigrateError) -> Option<sqlx::Error> {
    match error {
        MigrateError::VersionMismatch(_) => None,
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Some(error),
        other => Some(sqlx::Error::Migrate(Box::new(other))),
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
