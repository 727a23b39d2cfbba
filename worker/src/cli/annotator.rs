//! `glyph annotator`: accuracy and pauses of annotators.

use clap::{Args, Subcommand};
use glyph_workflow_engine::ids::{Slug, UserId};
use uuid::Uuid;

use super::{
    CliError, Output,
    api::Call,
    connect::orchestrator,
    deployment::ask,
    output::{Table, percent},
    workflow::{OperatorArgs, pause_text, run_operator_command},
};
use crate::{
    operations::annotators::{
        AccuracyChange, AnnotatorList, AnnotatorReport, HALF_LIFE, PairEvidence, QuestionAccuracy,
        QuestionReport, SuspiciousPair, annotator_list, annotator_report,
    },
    projections::gold::AnnotatorReliability,
    settings::Settings,
    wire::PauseVerb,
};

/// Verbs on annotators.
#[derive(Clone, Debug, Subcommand)]
pub enum AnnotatorVerb {
    /// List annotators with their accuracy on gold tasks and their pauses
    List {
        /// Only in this workflow; also lists their accuracy by step and field, as the models know it,
        /// and pairs who agree suspiciously
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
            let workflow = workflow.as_ref();
            let call = Call::get(&[&"annotators"]).query("workflow", workflow);
            let list: AnnotatorList = ask(settings, call, async |store| {
                let orchestrator = orchestrator(store, settings);
                Ok(annotator_list(&**store, &orchestrator, workflow, None).await?)
            })
            .await?;
            output.result(&list, || all_text(&list));
            Ok(())
        }
        AnnotatorVerb::Show { user, workflow } => {
            let workflow = workflow.as_ref();
            let call = Call::get(&[&"annotators", &user]).query("workflow", workflow);
            let report: AnnotatorReport = ask(settings, call, async |store| {
                let orchestrator = orchestrator(store, settings);
                Ok(annotator_report(&**store, &orchestrator, UserId(user), workflow).await?)
            })
            .await?;
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

fn all_text(list: &AnnotatorList) -> String {
    let pairs = list.suspicious_pairs.as_deref();
    let parts = [
        Some(list_text(&list.annotators)),
        list.accuracies.as_deref().map(accuracies_text),
        pairs.filter(|pairs| !pairs.is_empty()).map(pairs_text),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

fn accuracies_text(accuracies: &[QuestionAccuracy]) -> String {
    if accuracies.is_empty() {
        return "no labels of categories in this workflow".to_owned();
    }
    let mut table = Table::new(&[
        "step",
        "field",
        "annotator",
        "group",
        "labels",
        "accuracy",
        "95 % interval",
        "lately",
        "with others",
        "gold",
        "change",
    ]);
    for one in accuracies {
        let change = one.change.as_ref().map(change_text);
        table.row([
            one.step_id.to_string(),
            one.field.clone().unwrap_or_default(),
            one.user_id.to_string(),
            one.group
                .as_ref()
                .map_or(String::new(), |group| group.name.clone()),
            one.labels.to_string(),
            percent(one.accuracy),
            interval(one.low, one.high),
            percent(one.lately.accuracy),
            one.agreement_with_others.map_or("-".to_owned(), percent),
            format!("{}/{}", one.gold_right, one.gold_answers),
            change.unwrap_or_default(),
        ]);
    }
    table.render(0)
}

fn interval(low: f64, high: f64) -> String {
    format!("{} to {}", percent(low), percent(high))
}

/// A change in one line: `worse since 2026-01-02: 96.0 %, then 61.0 %`.
fn change_text(change: &AccuracyChange) -> String {
    let how = if change.now < change.before {
        "worse"
    } else {
        "better"
    };
    let since = match change.since {
        Some(since) => since.format("%Y-%m-%d").to_string(),
        None => format!("task {}", change.task_id),
    };
    let (before, now) = (percent(change.before), percent(change.now));
    format!("{how} since {since}: {before}, then {now}")
}

const PAIR_HEADS: [&str; 4] = ["items", "alike", "expected", "correlation"];

fn pair_cells(evidence: PairEvidence) -> [String; 4] {
    [
        evidence.items.to_string(),
        evidence.alike.to_string(),
        format!("{:.0}", evidence.alike_expected),
        format!("{:.2}", evidence.correlation),
    ]
}

fn pairs_text(pairs: &[SuspiciousPair]) -> String {
    let people = ["step", "field", "annotator", "annotator"];
    let mut table = Table::new(&[&people[..], &PAIR_HEADS].concat());
    for pair in pairs {
        let [first, second] = pair.user_ids.map(|user| user.to_string());
        let field = pair.field.clone().unwrap_or_default();
        let who = [pair.step_id.to_string(), field, first, second];
        table.row(who.into_iter().chain(pair_cells(pair.evidence())));
    }
    format!(
        "agree more than their accuracy explains (copies, or models of one family?)\n{}",
        table.render(2)
    )
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
    let mut parts = vec![accuracies_text(&accuracies)];
    parts.extend(report.questions.iter().map(question_text));
    parts.join("\n\n")
}

fn question_text(question: &QuestionReport) -> String {
    let accuracy = question.accuracy();
    let field = accuracy.field.as_ref().map(|field| format!(", {field}"));
    let lately = accuracy.lately;
    let mut lines = vec![
        format!(
            "{}, {}{}",
            accuracy.workflow,
            accuracy.step_id,
            field.unwrap_or_default()
        ),
        format!(
            "  lately (a label counts half after {HALF_LIFE} more): {}, {}",
            percent(lately.accuracy),
            interval(lately.low, lately.high)
        ),
    ];
    if let Some(change) = &accuracy.change {
        let (task, labels) = (change.task_id, change.labels_since);
        let change = change_text(change);
        lines.push(format!("  {change}; {labels} labels, from task {task} on"));
    }
    let classes: Vec<String> = question.classes.iter().map(ToString::to_string).collect();
    if !question.confusion.is_empty() {
        let mut table = Table::plain();
        let heads = classes.iter().cloned();
        table.row([String::new()].into_iter().chain(heads));
        for (class, row) in classes.iter().zip(&question.confusion) {
            let cells = row.iter().copied().map(percent);
            table.row([class.clone()].into_iter().chain(cells));
        }
        lines.push("  what is given (column) for what is true (row)".to_owned());
        lines.push(table.render(4));
    }
    let compared = question.agreement_by_class.iter();
    let compared: Vec<_> = compared.filter(|one| one.both + one.one > 0).collect();
    if !compared.is_empty() {
        let mut table = Table::plain();
        for one in compared {
            let agreement = one.agreement.map_or("-".to_owned(), percent);
            let pairs = format!("{} both, {} one of two", one.both, one.one);
            table.row([one.value.to_string(), agreement, pairs]);
        }
        lines.push("  if one of two people gives an answer, how often the other does".to_owned());
        lines.push(table.render(4));
    }
    if !question.suspicious.is_empty() {
        let mut table = Table::new(&[&["annotator"], &PAIR_HEADS[..]].concat());
        for one in &question.suspicious {
            let who = [one.user_id.to_string()];
            table.row(who.into_iter().chain(pair_cells(one.evidence())));
        }
        lines.push(
            "  agrees more than accuracy explains with (copies, or models of one family?)"
                .to_owned(),
        );
        lines.push(table.render(4));
    }
    lines.join("\n")
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
