//! `glyph workflow visualize`: a drawing of a file or of a stored revision.

use std::path::Path;

use glyph_workflow_engine::WorkflowConfig;
use serde_json::json;

use super::{CliError, Output, api::Call, deployment::ask, diagnostics::workflow_of};
use crate::{
    diagram,
    operations::workflows::{WorkflowDocument, resolve_one},
    settings::Settings,
};

/// Forms of a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Drawing {
    /// A Mermaid flowchart: text that GitHub, GitLab and many editors draw
    #[default]
    Mermaid,
    /// DOT, the language of Graphviz
    Dot,
    /// A picture that needs nothing else
    Svg,
}

pub(super) async fn run(
    workflow: &str,
    format: Drawing,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let config = if is_file(workflow) {
        workflow_of(Path::new(workflow), output)?
    } else {
        stored(workflow, settings).await?
    };
    let (name, drawing) = match format {
        Drawing::Mermaid => ("mermaid", diagram::mermaid(&config)),
        Drawing::Dot => ("dot", diagram::dot(&config)),
        Drawing::Svg => ("svg", diagram::svg(&config)),
    };
    let document = json!({"workflow": config.id, "format": name, "drawing": drawing});
    output.result(&document, || drawing);
    Ok(())
}

/// Whether the argument is a file rather than the name of a stored workflow, which has neither a
/// dot nor a slash.
pub(super) fn is_file(argument: &str) -> bool {
    argument == "-" || argument.contains(['/', '\\', '.']) || Path::new(argument).is_file()
}

/// A stored revision.
pub(super) async fn stored(
    workflow: &str,
    settings: &Settings,
) -> Result<WorkflowConfig, CliError> {
    let document = stored_document(workflow, settings).await?;
    Ok(document.config)
}

/// A stored revision with the pause of its workflow.
pub(super) async fn stored_document(
    workflow: &str,
    settings: &Settings,
) -> Result<WorkflowDocument, CliError> {
    let call = Call::get(&[&"workflows", &workflow]);
    let document: WorkflowDocument = ask(settings, call, async |store| {
        let config = resolve_one(&**store, workflow).await?;
        let config = config.ok_or_else(|| CliError::not_found("workflow", workflow))?;
        Ok(WorkflowDocument::with_pause(config, &**store).await?)
    })
    .await?;
    Ok(document.with_revision())
}
