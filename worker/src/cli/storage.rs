//! `glyph storage`: what is how large.

use glyph_workflow_engine::store::TableSize;
use serde_json::json;

use super::{
    CliError, Output,
    connect::open_store,
    output::{Table, grouped},
};
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings, output: Output) -> Result<(), CliError> {
    let tables = open_store(settings).await?.table_sizes().await?;
    let bytes: Option<u64> = tables.iter().map(|table| table.bytes).sum();
    output.result(&json!({"tables": tables, "bytes": bytes}), || {
        text(&tables, bytes)
    });
    Ok(())
}

fn text(tables: &[TableSize], bytes: Option<u64>) -> String {
    let mut table = Table::new(&["table", "rows", "size", "of it indexes"]);
    for size in tables {
        table.row([
            size.table.clone(),
            grouped(size.rows),
            mebibytes(size.bytes),
            mebibytes(size.index_bytes),
        ]);
    }
    let all = bytes.map_or_else(String::new, |bytes| {
        format!("\n{} in all", mebibytes(Some(bytes)))
    });
    format!("{}{all}", table.render(0))
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "–".to_owned(),
        |bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    )
}
