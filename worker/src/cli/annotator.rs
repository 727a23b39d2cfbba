//! `glyph annotator`: accuracy and pauses of annotators.

use clap::{Args, Subcommand};
use glyph_workflow_engine::ids::{Slug, UserId};
use serde_json::json;
use uuid::Uuid;

use super::{
    CliError, Output,
    connect::open_store,
    output::Table,
    workflow::{OperatorArgs, pause_text, run_operator_command},
};
use crate::{
    projections::gold::{AnnotatorReliability, reliabilities},
    settings::Settings,
    wire::PauseVerb,
};

/// Verbs on annotators.
#[derive(Clone, Debug, Subcommand)]
pub enum AnnotatorVerb {
    /// List annotators with their accuracy on gold tasks and their pauses
    List {
        /// Only in this workflow
        #[arg(long, short, value_name = "ID")]
        workflow: Option<Slug>,
    },
    /// Pause an annotator in a workflow: no new slots are offered, claimed ones can be finished
    Pause(AnnotatorArgs),
    /// Resume an annotator in a workflow; accuracy counts anew from now on
    Resume(AnnotatorArgs),
}

/// Which annotator, in which workflow, and why.
#[derive(Clone, Debug, Args)]
pub struct AnnotatorArgs {
    #[command(flatten)]
    operator_command: OperatorArgs,
    /// User id of the annotator
    user: Uuid,
}

pub(super) async fn run(
    verb: AnnotatorVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        AnnotatorVerb::List { workflow } => {
            let store = open_store(settings).await?;
            let mut annotators = reliabilities(&*store).await?;
            annotators.retain(|one| workflow.as_ref().is_none_or(|id| one.workflow == *id));
            output.result(&json!({"annotators": annotators}), || {
                list_text(&annotators)
            });
            Ok(())
        }
        AnnotatorVerb::Pause(AnnotatorArgs {
            operator_command,
            user,
        }) => {
            let verb = PauseVerb::PauseAnnotator(UserId(user));
            run_operator_command(verb, operator_command, None, settings, output).await
        }
        AnnotatorVerb::Resume(AnnotatorArgs {
            operator_command,
            user,
        }) => {
            let verb = PauseVerb::ResumeAnnotator(UserId(user));
            run_operator_command(verb, operator_command, None, settings, output).await
        }
    }
}

fn list_text(annotators: &[AnnotatorReliability]) -> String {
    if annotators.is_empty() {
        return "nobody has answered a gold task, and nobody is paused".to_owned();
    }
    let mut table = Table::new(&["workflow", "annotator", "gold", "right", "", "paused"]);
    for one in annotators {
        let right = one
            .accuracy
            .map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        let paused = one.paused.as_ref();
        let paused = paused.map(|p| pause_text(p.reason.as_deref(), p.since, None));
        table.row([
            one.workflow.to_string(),
            one.user_id.to_string(),
            one.answers.to_string(),
            right,
            if one.flagged { "flagged" } else { "" }.to_owned(),
            paused.unwrap_or_default(),
        ]);
    }
    table.render(0)
}
