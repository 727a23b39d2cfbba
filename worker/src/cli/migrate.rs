//! `glyph migrate`: migrates the database to the schema of this build.

use serde_json::json;

use super::{CliError, Output, connect::Database};
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings, output: Output) -> Result<(), CliError> {
    let database = Database::open(settings).await?;
    database.migrate().await?;
    database.check_migrated().await?;
    output.result(&json!({"migrated": true}), || {
        "the database is up to date".to_owned()
    });
    Ok(())
}
