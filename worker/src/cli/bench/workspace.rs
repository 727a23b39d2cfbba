//! Where a run happens: apart from existing data, and removed afterwards.

use std::path::{Path, PathBuf};

use glyph_workflow_engine::store::{PgEventStore, PgSettings};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::super::{
    CliError,
    connect::{amqp, sqlite_file},
    files::private_folder,
};
use crate::{
    amqp::delete_topology,
    settings::{BrokerUrl, DatabaseUrl, SecretUrl, Services, Settings},
};

/// A place that is made for a run.
pub(super) enum Workspace {
    /// A prefix on the broker and a schema of the database.
    Services,
    /// A folder with a file.
    Folder(PathBuf),
}

impl Workspace {
    /// Creates it and points `settings` to it. A deployment on the same services must not take the
    /// commands of a run, nor see its tasks.
    pub(super) async fn make(settings: &mut Settings) -> Result<Self, CliError> {
        settings.prefix.push_str("-bench");
        settings.schema.push_str("_bench");
        let beside = match (&settings.database, &settings.broker) {
            (None, None) => std::env::temp_dir(),
            // The same folder as the configured file, so that the same disk is measured.
            (Some(DatabaseUrl::Sqlite(url)), _) => {
                let file = sqlite_file(url)?;
                file.parent()
                    .map_or_else(std::env::temp_dir, Path::to_owned)
            }
            _ => {
                // A run that was killed may have left its own.
                Self::Services.remove(settings).await?;
                return Ok(Self::Services);
            }
        };
        let folder = beside.join(format!("glyph-bench-{}", Uuid::now_v7()));
        private_folder(&folder).map_err(|error| {
            CliError::failed("folder", format!("{}: {error}", folder.display()))
        })?;
        let url = format!("sqlite://{}", folder.join("glyph.db").display());
        settings.database = Some(DatabaseUrl::Sqlite(SecretUrl::new(url)));
        settings.broker.get_or_insert(BrokerUrl::Embedded);
        Ok(Self::Folder(folder))
    }

    /// Removes everything of it.
    pub(super) async fn remove(self, settings: &Settings) -> Result<(), CliError> {
        match self {
            Self::Folder(folder) => {
                let _ = std::fs::remove_dir_all(folder);
            }
            Self::Services => {
                let Services::Postgres { database, broker } = settings.services()? else {
                    return Ok(());
                };
                let pg = PgSettings {
                    schema: settings.schema.clone(),
                    ssl_mode: settings.pg_ssl_mode.clone(),
                    ..PgSettings::default()
                };
                let store = PgEventStore::connect(database.expose(), pg).await?;
                let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", settings.schema);
                let dropped = sqlx::query(AssertSqlSafe(drop)).execute(store.pool()).await;
                dropped.map_err(|error| CliError::failed("schema", error.to_string()))?;
                delete_topology(&amqp(&broker, settings)?).await?;
            }
        }
        Ok(())
    }
}
