//! `glyph goal`: goals and their progress.

use clap::Subcommand;
use glyph_workflow_engine::store::GoalProgressRow;
use serde_json::{Value, json};

use super::{
    CliError, Output,
    connect::open_store,
    output::{Table, grouped},
};
use crate::settings::Settings;

/// Verbs on goals.
#[derive(Clone, Debug, Subcommand)]
pub enum GoalVerb {
    /// All goals with their progress
    List,
    /// One goal
    Show {
        /// The workflow's id
        workflow: String,
        /// The goal's id
        goal: String,
    },
}

pub(super) async fn run(
    verb: GoalVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let goals = open_store(settings).await?.goals().await?;
    match verb {
        GoalVerb::List => {
            let document = json!({"goals": goals.iter().map(document).collect::<Vec<_>>()});
            output.result(&document, || match goals.as_slice() {
                [] => "no goals yet: a worker counts towards those of the workflows".to_owned(),
                goals => table(goals),
            });
        }
        GoalVerb::Show { workflow, goal } => {
            let found = goals
                .into_iter()
                .find(|g| *g.workflow == *workflow && *g.goal == *goal);
            let name = format!("{workflow}/{goal}");
            let found = found.ok_or_else(|| CliError::not_found("goal", name))?;
            output.result(&document(&found), || table(std::slice::from_ref(&found)));
        }
    }
    Ok(())
}

fn document(goal: &GoalProgressRow) -> Value {
    let mut document = serde_json::to_value(goal).unwrap_or_default();
    document["ratio"] = json!(goal.ratio());
    document["completed"] = json!(goal.completed_at.is_some());
    document
}

fn table(goals: &[GoalProgressRow]) -> String {
    let mut table = Table::new(&["workflow", "goal", "progress", "", "completed", "epoch"]);
    for goal in goals {
        let completed = goal
            .completed_at
            .map(|at| at.format("%F %T UTC").to_string());
        table.row([
            goal.workflow.to_string(),
            goal.goal.to_string(),
            format!("{}/{}", number(goal.current), number(goal.target)),
            format!("{:.0} %", goal.ratio() * 100.0),
            completed.unwrap_or_else(|| "-".to_owned()),
            goal.epoch.to_string(),
        ]);
    }
    table.render(0)
}

/// Counts read as whole numbers, other targets as they are.
fn number(value: f64) -> String {
    let text = value.to_string();
    text.parse().map_or(text, grouped)
}
