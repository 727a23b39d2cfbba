//! `glyph goal`: goals and their progress.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::json;

use super::{
    CliError, Output,
    connect::open_store,
    output::{Table, grouped},
};
use crate::{operations::goals::GoalDocument, settings::Settings, wire::GoalReport};

/// Verbs on goals.
#[derive(Clone, Debug, Subcommand)]
pub enum GoalVerb {
    /// List all goals with their progress
    List,
    /// Show one goal: progress, forecast and its basis, contributions by step, alerts, actions
    Show {
        /// Workflow id
        workflow: String,
        /// Goal id
        goal: String,
    },
}

pub(super) async fn run(
    verb: GoalVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let store = open_store(settings).await?;
    let goals = GoalDocument::all(&*store, Utc::now()).await?;
    match verb {
        GoalVerb::List => {
            output.result(&json!({"goals": goals}), || match goals.as_slice() {
                [] => "no goals yet: a worker counts towards those of the workflows".to_owned(),
                goals => table(goals),
            });
        }
        GoalVerb::Show { workflow, goal } => {
            let found = goals.into_iter().find(|document| {
                let report = document.report();
                *report.workflow == *workflow && *report.goal == *goal
            });
            let name = format!("{workflow}/{goal}");
            let found = found.ok_or_else(|| CliError::not_found("goal", name))?;
            output.result(&found, || page(&found));
        }
    }
    Ok(())
}

fn table(goals: &[GoalDocument]) -> String {
    let mut table = Table::new(&[
        "workflow", "goal", "type", "progress", "", "status", "when", "epoch",
    ]);
    for goal in goals.iter().map(GoalDocument::report) {
        let when = match (goal.completed_at, goal.missed_at, goal.forecast.eta) {
            (Some(at), ..) | (None, Some(at), _) => time(at),
            (None, None, Some(eta)) => format!("~ {}", time(eta)),
            (None, None, None) => "-".to_owned(),
        };
        table.row([
            goal.workflow.to_string(),
            goal.goal.to_string(),
            goal.kind.as_str().to_owned(),
            progress(goal),
            format!("{:.0} %", goal.ratio * 100.0),
            goal.status.as_str().to_owned(),
            when,
            goal.epoch.to_string(),
        ]);
    }
    table.render(0)
}

fn page(document: &GoalDocument) -> String {
    let goal = document.report();
    let mut facts = Table::plain();
    let mut fact = |name: &str, value: String| facts.row([name, &value]);
    fact("goal", format!("{}/{}", goal.workflow, goal.goal));
    if let Some(description) = &goal.description {
        fact("description", description.clone());
    }
    fact("type", goal.kind.as_str().to_owned());
    fact(
        "progress",
        format!(
            "{} {} ({:.0} %)",
            progress(goal),
            goal.unit,
            goal.ratio * 100.0
        ),
    );
    fact("status", goal.status.as_str().to_owned());
    fact(
        "epoch",
        format!("{}, since {}", goal.epoch, time(goal.since)),
    );
    let times = [
        ("deadline", goal.deadline),
        ("reached", goal.completed_at),
        ("missed", goal.missed_at),
        ("target held since", goal.holds_since),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            fact(name, time(at));
        }
    }
    if let Some(samples) = goal.samples {
        fact("measurements in the window", samples.to_string());
    }
    if !goal.completed {
        fact("forecast", forecast(goal));
    }
    if let Some(by) = &goal.completed_by {
        let said = &by.statement;
        let user = said.user_id.map(|user| user.to_string());
        let reason = said.reason.clone().unwrap_or_default();
        fact("by hand", format!("{} {reason}", user.unwrap_or_default()));
    }
    let mut text = facts.render(0);
    let mut section = |heads: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            let mut table = Table::new(heads);
            for row in rows {
                table.row(row);
            }
            text.push_str("\n\n");
            text.push_str(&table.render(0));
        }
    };
    let steps = goal.steps.iter();
    section(
        &["step", "contributed"],
        steps
            .map(|(step, count)| vec![step.to_string(), grouped(*count)])
            .collect(),
    );
    let parts = goal.parts.iter();
    section(
        &["waits for", "progress"],
        parts
            .map(|(part, share)| vec![part.to_string(), format!("{:.0} %", share * 100.0)])
            .collect(),
    );
    let alerts = goal.alerts.iter().map(|alert| {
        let state = if alert.active { "active" } else { "over" };
        let raised = format!("{} ({} times)", time(alert.raised_at), alert.times);
        vec![alert.alert.clone(), raised, state.to_owned()]
    });
    section(&["alert", "raised", ""], alerts.collect());
    let actions = document.actions().iter().map(|action| {
        let at = action.changed_at.map(time).unwrap_or_default();
        let error = action.last_error.clone().unwrap_or_default();
        vec![action.action.clone(), action.status.to_owned(), at, error]
    });
    section(
        &["action", "status", "when", "last error"],
        actions.collect(),
    );
    text
}

fn forecast(goal: &GoalReport) -> String {
    let forecast = &goal.forecast;
    let basis = forecast.basis.as_ref().map(|basis| {
        format!(
            "{:.1} an hour: {} counted since {}",
            basis.per_hour,
            grouped(basis.events),
            time(basis.from)
        )
    });
    let reason = forecast.reason.clone().unwrap_or_default();
    match (forecast.eta, basis) {
        (Some(eta), Some(basis)) => format!("{} ({basis})", time(eta)),
        (Some(eta), None) => time(eta),
        (None, Some(basis)) => format!("none: {reason} ({basis})"),
        (None, None) => format!("none: {reason}"),
    }
}

fn progress(goal: &GoalReport) -> String {
    let current = goal.current.map_or_else(|| "-".to_owned(), number);
    format!("{current}/{}", number(goal.target))
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %T UTC").to_string()
}

/// Counts as whole numbers, other figures with three digits.
fn number(value: f64) -> String {
    let text = value.to_string();
    let rounded = || format!("{value:.3}");
    text.parse().map_or_else(|_| rounded(), grouped)
}
