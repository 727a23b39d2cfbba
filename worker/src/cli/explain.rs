//! `glyph task explain`: why a task waits, and how it was decided.

use glyph_workflow_engine::{
    config::{AskedOn, Metric},
    events::{ConsensusCalculated, Vote},
    ids::{Slug, TaskId},
    state::{AuditResult, TaskStatus},
};

use super::{CliError, Output, api::Call, connect::orchestrator, deployment::ask, output::clipped};
use crate::{
    operations::{explain::Explanation, tasks::explain_task, waiting::ChildStatus},
    settings::Settings,
};

/// The state of a child task, in one line.
fn reliability(child: &ChildStatus) -> String {
    let status = child.status.map_or("not started", TaskStatus::as_str);
    let steps: Vec<&str> = child.current_steps.iter().map(Slug::as_str).collect();
    let at = if steps.is_empty() {
        String::new()
    } else {
        format!(" at {}", steps.join(", "))
    };
    let held = match (&child.workflow_pause, child.incidents) {
        (Some(pause), _) => format!(", its workflow is {}", pause.word()),
        (None, 0) => String::new(),
        (None, n) => format!(", held by {n} incidents"),
    };
    format!(
        "  child task {} of `{}`: {status}{at}{held}",
        child.task_id, child.workflow
    )
}

pub(super) async fn explain(
    task: TaskId,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let call = Call::get(&[&"tasks", &task, &"explain"]);
    let explanation: Explanation = ask(settings, call, async |store| {
        let state = orchestrator(store, settings).get_task_state(task.0).await?;
        Ok(explain_task(&**store, state.snapshot()).await?)
    })
    .await?;
    output.result(&explanation, || {
        let mut lines = vec![format!("{}: {}", explanation.status, explanation.summary)];
        for waiting in &explanation.waiting {
            lines.push(format!(
                "waits in `{}` (visit {}) since {}: {}",
                waiting.step_id, waiting.visit, waiting.since, waiting.reason
            ));
            lines.extend(waiting.child.as_ref().map(reliability));
        }
        for hook in &explanation.hooks {
            let stands = match &hook.given_up {
                Some(error) => format!("given up: {error}"),
                None => "no answer yet".to_owned(),
            };
            lines.push(format!(
                "hook `{}` of `{}` (visit {}): {stands}",
                hook.hook, hook.step_id, hook.visit
            ));
        }
        for decision in &explanation.decisions {
            let result = &decision.result;
            let end = match (&result.value, result.resolved_by) {
                (None, _) => "ended without a value".to_owned(),
                (Some(value), by) => {
                    let by = by.map_or(String::new(), |by| format!(", by {}", by.as_str()));
                    format!("ended with {}{by}", clipped(&value.to_string(), 60))
                }
            };
            lines.push(format!(
                "version {}: `{}` {end}",
                decision.version, decision.step_id
            ));
            if let Some(audit) = &result.audit {
                lines.push(format!("  {}", audited(audit)));
            }
            if let Some(consensus) = &decision.consensus {
                lines.push(format!(
                    "  {}",
                    comparison(
                        consensus.metric,
                        consensus.agreement,
                        consensus.threshold,
                        &consensus.votes
                    )
                ));
                lines.extend(
                    annotators(consensus)
                        .into_iter()
                        .map(|line| format!("  {line}")),
                );
                for field in &consensus.fields {
                    lines.push(format!(
                        "  `{}`, weight {}: {}",
                        field.field,
                        field.weight,
                        comparison(field.metric, field.agreement, field.threshold, &field.votes)
                    ));
                }
            }
        }
        lines.join("\n")
    });
    Ok(())
}

/// The probabilities of the answers with their basis, and the weight of each vote: a line each.
fn annotators(consensus: &ConsensusCalculated) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(posterior) = &consensus.posterior {
        let soft = &posterior.soft_labels;
        let answers: Vec<String> = soft
            .classes
            .iter()
            .zip(&soft.probabilities)
            .map(|(class, p)| format!("{} {p:.3}", clipped(&class.to_string(), 30)))
            .collect();
        lines.push(format!(
            "posterior {} against a target of {}, at most {} people",
            answers.join(", "),
            posterior.target,
            posterior.max
        ));
        for label in &posterior.evidence.labels {
            lines.push(format!(
                "  {} gave {}: right with {:.3}, from {} labels",
                label.annotator,
                clipped(&label.class, 30),
                label.accuracy,
                label.labels
            ));
        }
        for group in &posterior.evidence.groups {
            lines.push(format!(
                "  group `{}`: {} labels are worth {:.2} votes (errors go together by {:.2})",
                group.group, group.labels, group.votes, group.correlation
            ));
        }
        if let Some(asked_on) = consensus.asked_on {
            lines.push(match asked_on {
                AskedOn::Learn => "asked on: one of the first tasks of its workflow".to_owned(),
                AskedOn::Audit => "asked on: the task is audited".to_owned(),
            });
        }
    }
    for one in consensus.weights.iter().flat_map(|used| &used.annotators) {
        lines.push(format!(
            "{}: weight {:.3}, right with {:.3}",
            one.user_id, one.weight, one.accuracy
        ));
    }
    lines
}

/// What an audit found, in one line.
fn audited(audit: &AuditResult) -> String {
    let votes = audit.votes.iter();
    let votes =
        votes.map(|vote| format!("{} x {}", vote.count, clipped(&vote.value.to_string(), 30)));
    let votes: Vec<String> = votes.collect();
    let later = if votes.is_empty() {
        "nobody answered".to_owned()
    } else {
        votes.join(", ")
    };
    let all = match &audit.value {
        Some(value) => format!("all answers say {}", clipped(&value.to_string(), 30)),
        None => "two answers are equally probable by all of them".to_owned(),
    };
    format!("audited: after it was sure, {later}; {all}")
}

/// A comparison in one line: `percent_agreement 0.500 against 1: 2 x "a", 1 x "b"`.
fn comparison(metric: Metric, agreement: Option<f64>, threshold: f64, votes: &[Vote]) -> String {
    let agreement = agreement.map_or("undefined".to_owned(), |a| format!("{a:.3}"));
    let votes: Vec<String> = votes
        .iter()
        .map(|vote| format!("{} x {}", vote.count, clipped(&vote.value.to_string(), 30)))
        .collect();
    let head = format!("{} {agreement} against {threshold}", metric.as_str());
    if votes.is_empty() {
        return head;
    }
    format!("{head}: {}", votes.join(", "))
}
