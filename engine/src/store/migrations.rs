//! Lists of migrations: forward only, each file applied once.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::EventStoreError;

/// A file of a folder of migrations.
#[derive(Clone, Copy, Debug)]
pub struct MigrationFile {
    /// Its number, from 1.
    pub version: i64,
    /// What it brings; the file is named by number and name.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// What applies a list. Migrations of later builds are left alone, so an old and a new build can
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

/// Whether the newest migration that was found is at least the last of a list.
pub(super) fn check_migrated(files: &[MigrationFile], found: i64) -> Result<(), EventStoreError> {
    let needed = files.last().map_or(0, |file| file.version);
    if found >= needed {
        Ok(())
    } else {
        Err(EventStoreError::NotMigrated { found, needed })
    }
}

/// The driver's error, where a migration failed by one.
pub(super) fn cause(error: sqlx::migrate::MigrateError) -> sqlx::Error {
    match error {
        sqlx::migrate::MigrateError::Execute(error)
        | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => error,
        other => sqlx::Error::Migrate(Box::new(other)),
    }
}
