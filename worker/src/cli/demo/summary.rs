//! The results of the demo, and commands to try next.

use std::{collections::BTreeMap, path::Path};

use glyph_workflow_engine::{ids::TaskId, state::TaskStatus};
use serde_json::{Value, json};

use super::{people::People, scenario::Item};
use crate::cli::{
    CliError,
    output::{Table, grouped},
};

/// The results of the demo.
pub(super) struct Summary {
    statuses: BTreeMap<TaskStatus, usize>,
    /// Tasks of the dual workflow whose annotators agreed, and all of them.
    agreed: (usize, usize),
    adjudicated: usize,
    /// The first task that an adjudicator decided: the most interesting one to look at.
    adjudicated_task: Option<TaskId>,
    reworked: usize,
    /// Right answers among annotations and among results.
    annotations_right: (usize, usize),
    results_right: (usize, usize),
    commands: u64,
    events: u64,
    seconds: f64,
}

impl Summary {
    /// Reads the results of the items.
    pub(super) async fn of(
        people: &People,
        items: &[Item],
        seconds: f64,
    ) -> Result<Self, CliError> {
        let mut summary = Self {
            statuses: BTreeMap::new(),
            agreed: (0, 0),
            adjudicated: 0,
            adjudicated_task: None,
            reworked: 0,
            annotations_right: (0, 0),
            results_right: (0, 0),
            commands: people.sent,
            events: 0,
            seconds,
        };
        for item in items {
            let state = people
                .orchestrator
                .get_task_state(item.task.0)
                .await?
                .into_snapshot();
            *summary.statuses.entry(state.status).or_default() += 1;
            summary.events += state.version;
            let annotate = state.steps.get("annotate");
            let visits = annotate.map_or(&[][..], |step| &step.visits);
            for annotation in visits.iter().flat_map(|visit| &visit.annotations) {
                summary.annotations_right.1 += 1;
                summary.annotations_right.0 += usize::from(annotation.data["label"] == item.truth);
            }
            let result = state.output.as_ref().map(|output| &output["result"]);
            let label = result.map(|result| result.get("label").unwrap_or(result));
            summary.results_right.1 += 1;
            summary.results_right.0 += usize::from(label == Some(&json!(item.truth)));
            if state.steps.contains_key("adjudicate") {
                summary.adjudicated += 1;
                summary.adjudicated_task.get_or_insert(item.task);
            }
            summary.reworked += usize::from(visits.len() > 1);
            if item.workflow == "sentiment-dual" {
                summary.agreed.1 += 1;
                summary.agreed.0 += usize::from(!state.steps.contains_key("adjudicate"));
            }
        }
        Ok(summary)
    }

    /// The summary as JSON.
    pub(super) fn document(&self, folder: &Path, url: &str) -> Value {
        json!({
            "folder": folder,
            "database_url": url,
            "tasks": self.statuses,
            "agreement": share(self.agreed),
            "adjudicated": self.adjudicated,
            "adjudicated_task": self.adjudicated_task,
            "reworked": self.reworked,
            "annotations_right": share(self.annotations_right),
            "results_right": share(self.results_right),
            "commands": self.commands,
            "events": self.events,
            "seconds": self.seconds,
            "commands_per_second": self.commands as f64 / self.seconds,
        })
    }

    /// The summary as text for people: results, and commands to try next.
    pub(super) fn text(&self, url: &str, program: &str) -> String {
        let percent = |part| format!("{:.0} %", share(part) * 100.0);
        let mut table = Table::plain();
        for (status, count) in &self.statuses {
            table.row([status.to_string(), format!("{count} tasks")]);
        }
        table.row([
            "agreement".to_owned(),
            format!(
                "{} of {} pairs of annotators agreed",
                percent(self.agreed),
                self.agreed.1
            ),
        ]);
        table.row([
            "adjudications".to_owned(),
            format!("{} ties decided by an adjudicator", self.adjudicated),
        ]);
        table.row([
            "reviews".to_owned(),
            format!("{} sent back for changes", self.reworked),
        ]);
        table.row([
            "quality".to_owned(),
            format!(
                "{} of the single answers are right, {} of the results",
                percent(self.annotations_right),
                percent(self.results_right)
            ),
        ]);
        table.row([
            "throughput".to_owned(),
            format!(
                "{} commands and {} events in {:.1} s: {:.0} commands/s, each on disk",
                grouped(self.commands),
                grouped(self.events),
                self.seconds,
                self.commands as f64 / self.seconds
            ),
        ]);
        format!("{}\n\n{}", table.render(2), self.next(url, program))
    }

    /// Commands that show more, after one that sets the environment for them.
    fn next(&self, url: &str, program: &str) -> String {
        let mut look = Vec::new();
        if let Some(task) = self.adjudicated_task {
            look.push((
                format!("task explain {task}"),
                "a task whose annotators disagreed, and how it was decided",
            ));
            look.push((format!("task history {task}"), "its events"));
        }
        let lists = [
            ("task list", "all tasks"),
            ("goal list", "the goals"),
            ("workflow list", "the workflows"),
        ];
        look.extend(lists.map(|(arguments, what)| (arguments.to_owned(), what)));
        let mut commands = Table::plain();
        for (arguments, what) in look {
            commands.row([format!("{program} {arguments}"), format!("# {what}")]);
        }
        format!(
            "Where to look next\n  export DATABASE_URL={url}\n{}",
            commands.render(2)
        )
    }
}

fn share((part, whole): (usize, usize)) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_look_next_is_said_once_and_commands_are_short() {
        let task = TaskId(uuid::Uuid::from_u128(1));
        let summary = Summary {
            statuses: BTreeMap::new(),
            agreed: (1, 2),
            adjudicated: 1,
            adjudicated_task: Some(task),
            reworked: 0,
            annotations_right: (1, 2),
            results_right: (2, 2),
            commands: 8,
            events: 20,
            seconds: 1.0,
        };
        let text = summary.text("sqlite:///tmp/x/glyph.db", "glyph");
        assert_eq!(text.matches("sqlite:///tmp/x/glyph.db").count(), 1);
        assert!(text.contains("\n  export DATABASE_URL=sqlite:///tmp/x/glyph.db\n"));
        assert!(text.contains(&format!("\n  glyph task explain {task} ")));
    }
}
