//! `glyph goal`: goals and their progress.

use chrono::Utc;
use clap::{Args, Subcommand};
use glyph_workflow_engine::ids::{CommandId, Slug};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CliError, Output, account,
    api::Call,
    connect::orchestrator,
    deployment::ask,
    output::{Table, grouped, time},
    submit::applied,
};
use crate::{
    operations::goals::{GoalDocument, GoalList, check_completion, refusal_code},
    settings::Settings,
    wire::{CompletionRequest, GoalReport, read_completion},
};

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
    /// Complete a manual goal, or a composite goal that allows an override
    Complete(CompleteArgs),
}

/// A person's statement that a goal is reached.
#[derive(Clone, Debug, Args)]
pub struct CompleteArgs {
    /// Workflow id
    workflow: Slug,
    /// Goal id
    goal: Slug,
    /// The person who says so
    #[arg(long, value_name = "UUID")]
    user: Option<Uuid>,
    /// Role of the person; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Item of the checklist that the person confirms; may be repeated
    #[arg(long = "confirm", value_name = "ITEM")]
    checklist: Vec<String>,
    /// Id of the command; repeating an id has no effect [default: a new UUID]
    #[arg(long, value_name = "UUID")]
    command_id: Option<Uuid>,
}

pub(super) async fn run(
    verb: GoalVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        GoalVerb::Complete(args) => complete(args, settings, output).await?,
        GoalVerb::List => {
            let list: GoalList = ask(settings, Call::get(&[&"goals"]), async |store| {
                let goals = GoalDocument::all(&**store, Utc::now()).await?;
                Ok(GoalList { goals })
            })
            .await?;
            output.result(&list, || match list.goals.as_slice() {
                [] => "no goals yet: a worker counts towards those of the workflows".to_owned(),
                goals => table(goals),
            });
        }
        GoalVerb::Show { workflow, goal } => {
            let call = Call::get(&[&"goals", &workflow, &goal]);
            let found: GoalDocument = ask(settings, call, async |store| {
                let found = GoalDocument::find(&**store, &workflow, &goal, Utc::now()).await?;
                let name = format!("{workflow}/{goal}");
                found.ok_or_else(|| CliError::not_found("goal", name))
            })
            .await?;
            output.result(&found, || page(&found));
        }
    }
    Ok(())
}

async fn complete(args: CompleteArgs, settings: &Settings, output: Output) -> Result<(), CliError> {
    let CompleteArgs { workflow, goal, .. } = args;
    let name = format!("{workflow}/{goal}");
    let command_id = CommandId(args.command_id.unwrap_or_else(Uuid::now_v7));
    let statement = json!({
        "user_id": args.user,
        "roles": args.roles,
        "reason": args.reason,
        "checklist": args.checklist,
    });
    let call = Call::post(&[&"goals", &workflow, &goal, &"complete"]);
    let call = call.key(command_id).json(&statement);
    let (operator_command, statement) = read_completion(&CompletionRequest {
        workflow: workflow.clone(),
        goal: goal.clone(),
        user: None,
        command_id,
        correlation_id: None,
        traceparent: None,
        actor: Some(&account::actor()),
        body: statement.to_string().as_bytes(),
    })
    .map_err(|unreadable| CliError::Usage(unreadable.to_string()))?;
    let result: Value = ask(settings, call, async |store| {
        let found = check_completion(&**store, &workflow, &goal, command_id, &statement).await?;
        found
            .ok_or_else(|| CliError::not_found("goal", &name))?
            .map_err(|refusal| CliError::failed(refusal_code(&refusal), refusal.to_string()))?;
        let orchestrator = orchestrator(store, settings);
        let recorded = orchestrator.operator_command(&**store, operator_command);
        applied(recorded.await?)
    })
    .await?;
    let document = json!({"command_id": command_id, "outcome": "applied", "result": result});
    output.result(&document, || format!("goal {name} is completed"));
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
        vec![action.action.clone(), action.status.clone(), at, error]
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

/// Counts as whole numbers, other figures with three digits.
fn number(value: f64) -> String {
    let text = value.to_string();
    let rounded = || format!("{value:.3}");
    text.parse().map_or_else(|_| rounded(), grouped)
}
