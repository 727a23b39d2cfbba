//! The tables of the queues: a list of migrations of their own, because the store knows no broker.

use glyph_workflow_engine::store::{EventStoreError, MigrationFile, SqliteEventStore};

/// The table that records applied migrations.
const TABLE: &str = "_queue_migrations";

/// The migrations, oldest first. Forward only: a released file is never changed.
const MIGRATIONS: [MigrationFile; 1] = [MigrationFile {
    version: 1,
    name: "queue",
    sql: include_str!("../../../migrations/embedded_queue/0001_queue.sql"),
}];

/// Brings the tables of the queues up to date.
pub(super) async fn apply(store: &SqliteEventStore) -> Result<(), EventStoreError> {
    store.migrate_beside(TABLE, &MIGRATIONS).await
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_list_of_migrations_is_its_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/embedded_queue");
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
        found.sort();
        let listed: Vec<_> = MIGRATIONS
            .iter()
            .map(|file| {
                let name = format!("{:04}_{}.sql", file.version, file.name);
                (name, file.sql.to_owned())
            })
            .collect();
        assert_eq!(listed, found);
    }
}
