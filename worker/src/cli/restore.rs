//! `glyph restore`: makes a database that was restored to an earlier time fit to go on.

use glyph_workflow_engine::store::RestoreReport;

use super::{CliError, Output, connect::open_store};
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings, output: Output) -> Result<(), CliError> {
    let report = open_store(settings).await?.restored().await?;
    output.result(&report, || text(&report));
    Ok(())
}

fn text(report: &RestoreReport) -> String {
    let RestoreReport {
        log_id,
        projections_reset,
        models_forgotten,
        leases_ended,
        jobs_stopped,
    } = report;
    format!(
        "the log is {log_id} from now on: what happens anew has new ids\n\
         projections that begin anew: {projections_reset}\n\
         annotator models that are learned anew: {models_forgotten}\n\
         leases ended: {leases_ended}\n\
         jobs told to stop: {jobs_stopped}"
    )
}
