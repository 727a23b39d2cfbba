//! `glyph annotator`: accuracy and pauses of annotators.

use clap::{Args, Subcommand};
use glyph_workflow_engine::ids::{Slug, UserId};
use serde_json::json;
use uuid::Uuid;

use super::{
    CliError, Output,
    connect::{open_store, orchestrator},
    output::Table,
    workflow::{OperatorArgs, pause_text, run_operator_command},
};
use crate::{
    operations::annotators::{
        AnnotatorReport, QuestionAccuracy, QuestionReport, annotator_accuracies, annotator_report,
    },
    projections::gold::{AnnotatorReliability, reliabilities},
    settings::Settings,
    wire::PauseVerb,
};

/// Verbs on annotators.
#[derive(Clone, Debug, Subcommand)]
pub enum AnnotatorVerb {
    /// List annotators with their accuracy on gold tasks and their pauses
    List {
        /// Only in this workflow; also lists their accuracy by step and field, as the models know it
        #[arg(long, short, value_name = "ID")]
        workflow: Option<Slug>,
    },
    /// Show how reliable an annotator is, by workflow, step and field
    Show {
        /// User id of the annotator
        user: Uuid,
        /// Only this workflow, and there every question whose answers are categories
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
            let Some(workflow) = workflow else {
                output.result(&json!({"annotators": annotators}), || {
                    list_text(&annotators)
                });
                return Ok(());
            };
            let orchestrator = orchestrator(&store, settings);
            let accuracies = annotator_accuracies(&orchestrator, &workflow).await?;
            let all = json!({"annotators": annotators, "accuracies": accuracies});
            output.result(&all, || {
                format!(
                    "{}\n\n{}",
                    list_text(&annotators),
                    accuracies_text(&accuracies)
                )
            });
            Ok(())
        }
        AnnotatorVerb::Show { user, workflow } => {
            let store = open_store(settings).await?;
            let orchestrator = orchestrator(&store, settings);
            let user = UserId(user);
            let report = annotator_report(&*store, &orchestrator, user, workflow.as_ref()).await?;
            output.result(&report, || report_text(&report));
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

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn accuracies_text(accuracies: &[QuestionAccuracy]) -> String {
    if accuracies.is_empty() {
        return "no labels of categories in this workflow".to_owned();
    }
    let mut table = Table::new(&[
        "step",
        "field",
        "annotator",
        "labels",
        "accuracy",
        "95 % interval",
        "with others",
        "gold",
    ]);
    for one in accuracies {
        table.row([
            one.step_id.to_string(),
            one.field.clone().unwrap_or_default(),
            one.user_id.to_string(),
            one.labels.to_string(),
            percent(one.accuracy),
            format!("{} to {}", percent(one.low), percent(one.high)),
            one.agreement_with_others.map_or("-".to_owned(), percent),
            format!("{}/{}", one.gold_right, one.gold_answers),
        ]);
    }
    table.render(0)
}

fn report_text(report: &AnnotatorReport) -> String {
    let accuracies = report
        .questions
        .iter()
        .map(QuestionReport::accuracy)
        .cloned();
    let accuracies: Vec<QuestionAccuracy> = accuracies.collect();
    if accuracies.is_empty() {
        return format!("no labels of {} are known", report.user_id);
    }
    let mut text = accuracies_text(&accuracies);
    for question in &report.questions {
        if question.confusion.is_empty() {
            continue;
        }
        let accuracy = question.accuracy();
        let field = accuracy.field.as_ref().map(|field| format!(", {field}"));
        let heading = format!(
            "\n\n{}, {}{}: what is given (column) for what is true (row)\n",
            accuracy.workflow,
            accuracy.step_id,
            field.unwrap_or_default(),
        );
        text += &heading;
        let classes: Vec<String> = question.classes.iter().map(ToString::to_string).collect();
        let mut table = Table::plain();
        let heads = classes.iter().cloned();
        table.row([String::new()].into_iter().chain(heads));
        for (class, row) in classes.iter().zip(&question.confusion) {
            let cells = row.iter().copied().map(percent);
            table.row([class.clone()].into_iter().chain(cells));
        }
        text.push_str(&table.render(2));
    }
    text
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
