//! `glyph workflow answers`: what each step asks people for.

use std::path::Path;

use super::{
    CliError, Output,
    diagnostics::workflow_of,
    output::Table,
    visualize::{is_file, stored},
};
use crate::{
    operations::answers::{AnswerNeeded, AnswersDocument},
    settings::Settings,
};

pub(super) async fn run(
    workflow: &str,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let config = if is_file(workflow) {
        workflow_of(Path::new(workflow), output)?
    } else {
        stored(workflow, settings).await?
    };
    let answers = AnswersDocument::of(&config)
        .map_err(|error| CliError::failed("unclear_question", error.to_string()))?;
    output.result(&answers, || table(&answers));
    Ok(())
}

fn table(answers: &AnswersDocument) -> String {
    let mut table = Table::new(&[
        "step",
        "needed",
        "kind",
        "field",
        "schema of annotation.data",
    ]);
    for (step, asked) in &answers.steps {
        let needed = match asked.needed {
            AnswerNeeded::Always => "always",
            AnswerNeeded::ToFix => "to fix",
        };
        table.row([
            step.to_string(),
            needed.to_owned(),
            asked
                .kind
                .map_or("several", |kind| kind.as_str())
                .to_owned(),
            asked.field.clone().unwrap_or_else(|| "-".to_owned()),
            asked.schema.to_string(),
        ]);
    }
    table.render(0)
}
