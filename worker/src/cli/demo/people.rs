//! The simulated people of the demo: they enqueue work and answer the steps that wait for a person.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use glyph_workflow_engine::{
    WorkflowOrchestrator,
    ids::{Slug, TaskId},
    limits::PAGE_MAX,
    state::TaskStatus,
    store::{Store, TaskFilter},
};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::scenario::{Item, submission};
use crate::cli::{
    CliError,
    connect::Publisher,
    publish::{WINDOW, command_publication, publish_window},
};

/// The demo is given up after this; it takes a few seconds.
const DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

/// The simulated people.
pub(super) struct People {
    pub(super) publisher: Publisher,
    pub(super) orchestrator: Arc<WorkflowOrchestrator>,
    pub(super) store: Arc<dyn Store>,
    /// Commands enqueued.
    pub(super) sent: u64,
    /// Tasks that were answered, with the version at which they waited.
    pub(super) answered: HashSet<(TaskId, u64)>,
}

impl People {
    /// Puts commands into the queue.
    pub(super) async fn enqueue(&mut self, commands: Vec<Value>) -> Result<(), CliError> {
        for window in commands.chunks(WINDOW) {
            let messages = window.iter().map(|command| {
                let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
                let body = command.to_string().into_bytes().into();
                command_publication(&text("type"), text("command_id"), body)
            });
            self.sent += publish_window(self.publisher.get(), messages.collect()).await?;
        }
        Ok(())
    }

    /// Answers every step that waits for a person, until every task has ended.
    pub(super) async fn work_until_done(
        &mut self,
        items: &[Item],
        bar: &ProgressBar,
    ) -> Result<(), CliError> {
        let items: BTreeMap<TaskId, &Item> = items.iter().map(|item| (item.task, item)).collect();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let counts = self.store.task_counts().await?;
            let ended = counts.iter().filter(|(status, _)| status.is_final());
            let ended = u64::try_from(ended.map(|(_, count)| count).sum::<i64>()).unwrap_or(0);
            bar.set_position(ended);
            if ended >= items.len() as u64 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = format!("only {ended} of {} tasks ended in time", items.len());
                return Err(CliError::failed("stuck", text));
            }
            let answers = self.answers(&items).await?;
            self.enqueue(answers).await?;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn answers(&mut self, items: &BTreeMap<TaskId, &Item>) -> Result<Vec<Value>, CliError> {
        let mut answers = Vec::new();
        for (workflow, step) in [
            ("sentiment-dual", "adjudicate"),
            ("review", "review"),
            ("review", "annotate"),
        ] {
            let filter = TaskFilter {
                workflow: Slug::new(workflow).ok(),
                status: Some(TaskStatus::Running),
                step: Slug::new(step).ok(),
                limit: PAGE_MAX,
                ..TaskFilter::default()
            };
            for task in self.store.tasks(filter).await?.tasks {
                let Some(item) = items.get(&task.task_id) else {
                    continue;
                };
                // One answer for each version at which the task waits.
                if self.answered.insert((task.task_id, task.version)) {
                    answers.extend(self.answer(step, item).await?);
                }
            }
        }
        Ok(answers)
    }

    /// The answer of the person whose turn it is; none if the queue already has it.
    async fn answer(&self, step: &str, item: &Item) -> Result<Option<Value>, CliError> {
        let truth = json!({"label": item.truth});
        let state = self
            .orchestrator
            .get_task_state(item.task.0)
            .await?
            .into_snapshot();
        let visit = |step: &str| state.current_visit(step);
        Ok(match step {
            "adjudicate" => Some(submission(item, "Judge", &["adjudicator"], &truth, None)),
            "review" => {
                let judged = visit("annotate").and_then(|visit| visit.annotations.last());
                let right = judged.is_some_and(|annotation| annotation.data == truth);
                let decision = if right { "approve" } else { "request_changes" };
                let data = json!({"reason": "as the guideline has it"});
                Some(submission(
                    item,
                    "Rita",
                    &["reviewer"],
                    &data,
                    Some(decision),
                ))
            }
            // Changes were requested; the first submission was enqueued at the start.
            _ if visit("annotate").is_some_and(|visit| visit.number > 1) => {
                Some(submission(item, "Ada", &["annotator"], &truth, None))
            }
            _ => None,
        })
    }
}
