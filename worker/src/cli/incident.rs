//! `glyph incident`, `glyph stuck`: what waits for an operator, and why tasks do not go on.

use clap::Subcommand;
use glyph_workflow_engine::{
    ids::{Slug, TaskId},
    limits::PAGE_MAX,
    state::IncidentCode,
};
use uuid::Uuid;

use super::{
    CliError, Output,
    api::Call,
    connect::orchestrator,
    deployment::ask,
    keys::task_uuid,
    output::{Table, clipped, grouped, time},
    values::incident_code,
};
use crate::{
    operations::{
        incidents::{IncidentFilter, IncidentList, incidents},
        stuck::{Stuck, stuck},
    },
    settings::Settings,
};

/// Verbs on incidents.
#[derive(Clone, Debug, Subcommand)]
pub enum IncidentVerb {
    /// List open incidents by code, with their tasks; `glyph task explain` says what helps
    List {
        /// Only with this code, as handler_failed
        #[arg(long, value_name = "CODE", value_parser = incident_code)]
        code: Option<IncidentCode>,
        /// Only in this workflow
        #[arg(long, short, value_name = "ID")]
        workflow: Option<Slug>,
        /// Continue after this task
        #[arg(long, value_name = "TASK", value_parser = task_uuid)]
        after: Option<Uuid>,
        /// Maximum number of tasks with an incident to look at
        #[arg(long, value_name = "N", default_value_t = PAGE_MAX,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
        limit: u32,
    },
}

pub(super) async fn run(
    verb: IncidentVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let IncidentVerb::List {
        code,
        workflow,
        after,
        limit,
    } = verb;
    let call = Call::get(&[&"incidents"])
        .query("code", code)
        .query("workflow", workflow.as_ref())
        .query("after", after)
        .query("limit", Some(limit));
    let found: IncidentList = ask(settings, call, async |store| {
        let filter = IncidentFilter { workflow, code };
        Ok(incidents(&**store, &filter, after.map(TaskId), limit).await?)
    })
    .await?;
    output.result(&found, || list_text(&found));
    Ok(())
}

/// `glyph stuck`.
pub(super) async fn run_stuck(settings: &Settings, output: Output) -> Result<(), CliError> {
    let found: Stuck = ask(settings, Call::get(&[&"stuck"]), async |store| {
        Ok(stuck(&**store, &orchestrator(store, settings)).await?)
    })
    .await?;
    output.result(&found, || stuck_text(&found));
    Ok(())
}

fn list_text(found: &IncidentList) -> String {
    let more = found
        .next_after
        .map(|task| format!("more follow: --after {task}"));
    if found.groups.is_empty() {
        let none = "no open incidents".to_owned();
        return more.map_or(none.clone(), |more| {
            format!("{none} among these tasks; {more}")
        });
    }
    let groups = found.groups.iter().map(|group| {
        let mut table = Table::new(&["task", "workflow", "step", "since", "what happened"]);
        for one in &group.incidents {
            table.row([
                one.task_id.to_string(),
                format!("{}@{}", one.workflow, one.revision),
                one.step_id.to_string(),
                time(one.opened_at),
                clipped(&one.reason, 80),
            ]);
        }
        let count = group.incidents.len();
        format!("{}: {count}\n{}", group.code, table.render(2))
    });
    groups.chain(more).collect::<Vec<_>>().join("\n\n")
}

fn stuck_text(found: &Stuck) -> String {
    let mut parts = Vec::new();
    for group in &found.groups {
        let mut place = Vec::new();
        place.extend(group.workflow.as_ref().map(|id| format!("workflow {id}")));
        place.extend(group.step_id.as_ref().map(|id| format!("step {id}")));
        place.extend(group.since.map(|since| format!("since {}", time(since))));
        place.extend(group.actor.as_ref().map(|actor| format!("by {actor}")));
        let examples = group
            .examples
            .iter()
            .take(3)
            .map(|task| format!("\n  task {task}"));
        let examples: String = examples.collect();
        parts.push(format!(
            "{} tasks: {}\n  {}{examples}",
            grouped(group.tasks),
            group.reason,
            place.join(", ")
        ));
    }
    if parts.is_empty() {
        parts.push("nothing is stuck, as far as the database tells".to_owned());
    }
    if found.more {
        parts.push("there is more than was looked at: the numbers are at least these".to_owned());
    }
    if !found.claims.is_empty() {
        let mut table = Table::new(&["person", "slots"]);
        for one in &found.claims {
            table.row([one.user_id.to_string(), grouped(one.slots)]);
        }
        parts.push(format!("who holds slots\n{}", table.render(2)));
    }
    parts.join("\n\n")
}
