//! Which rows of the outbox a lane holds after the answer to a COMMIT was lost.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use glyph_workflow_engine::{
    ids::TaskId,
    store::{EventStoreError, Outbox, OutboxMessage, OutboxRow, PublisherId},
};

/// The rows that the batches of a lane gave it to publish, where a batch may have been committed
/// without an answer.
///
/// If such a batch was committed, its rows are leased to this process, which renews the leases, but
/// no part of it has their messages in memory. They would wait until the process ends, and later
/// messages of their tasks would overtake them. Running the batch again does not return them: it
/// only finds its commands in the inbox.
///
/// So the next batch that is known to be committed first reads what else is leased to the lane
/// ([`Outbox::leased`]), and the lane leaves it to the relay, which builds the messages anew. It
/// takes only rows of tasks of these batches, which are this lane's alone, and only positions beyond
/// the last one it knows, since a lane commits one batch at a time.
///
/// What was leased to the lane may be a relay's by then, if the lease has run out, and is not found.
/// So the lane leaves those tasks to the relay, its own new messages too, whatever it finds.
pub(super) struct LaneRows {
    outbox: Arc<dyn Outbox>,
    /// The name to which the lane's rows are leased; none if this process does not publish.
    publisher: Option<PublisherId>,
    /// The position of the last one.
    last: i64,
    /// The tasks of batches whose commit is unknown.
    unknown: HashSet<TaskId>,
}

/// What a lane leaves to the relay after commits without an answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LeftToRelay {
    /// Rows that are leased to this process and whose messages nobody has in memory.
    pub(super) rows: Vec<OutboxRow>,
    /// The tasks of those commits.
    pub(super) tasks: HashSet<TaskId>,
}

impl LeftToRelay {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.tasks.is_empty()
    }
}

impl LaneRows {
    pub(super) fn new(outbox: Arc<dyn Outbox>, publisher: Option<PublisherId>) -> Self {
        Self {
            outbox,
            publisher,
            last: 0,
            unknown: HashSet::new(),
        }
    }

    /// Records a batch whose commit is unknown.
    pub(super) fn commit_unknown(&mut self, tasks: impl Iterator<Item = TaskId>) {
        self.unknown.extend(tasks);
    }

    /// Takes note of the messages of a committed batch, and returns what earlier unknown ones leave to
    /// the relay.
    pub(super) async fn of_written(
        &mut self,
        messages: &[OutboxMessage],
        tasks: impl Iterator<Item = TaskId>,
    ) -> Result<LeftToRelay, EventStoreError> {
        let own: BTreeSet<i64> = messages.iter().map(|message| message.position).collect();
        let mut left = LeftToRelay::default();
        if let (Some(publisher), false) = (self.publisher, self.unknown.is_empty()) {
            left.tasks.clone_from(&self.unknown);
            // If this read fails, the next one must also return the rows of this batch.
            self.commit_unknown(tasks);
            left.rows = self.outbox.leased(publisher, self.last).await?;
            let is_unknown =
                |row: &OutboxRow| row.task_id.is_some_and(|task| self.unknown.contains(&task));
            left.rows
                .retain(|row| is_unknown(row) && !own.contains(&row.position));
            self.unknown.clear();
        }
        let last = left.rows.iter().map(|row| row.position).chain(own).max();
        self.last = self.last.max(last.unwrap_or_default());
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::{
        WorkflowOrchestrator,
        command::{AnnotationInput, Command, CommandEnvelope, Submission},
        ids::UserId,
        store::MemoryStore,
    };
    use uuid::Uuid;

    use super::*;
    use crate::wire::CloudEventMessages;

    #[tokio::test]
    async fn what_others_publish_is_not_left_to_the_relay() {
        let store = Arc::new(MemoryStore::new());
        let orchestrator = WorkflowOrchestrator::new(store.clone(), store.clone())
            .with_messages(Arc::new(CloudEventMessages::default()));
        let workflow = "workflow: { id: one, steps: [{ id: a, type: annotation }] }";
        orchestrator.create_workflow(workflow).await.unwrap();
        let publisher = PublisherId(Uuid::from_u128(1));
        let task = |n| TaskId(Uuid::from_u128(n));
        let commit = async |n| {
            let submission = Submission {
                task_id: task(n),
                step_id: None,
                annotation: AnnotationInput {
                    annotation_id: None,
                    user_id: UserId(Uuid::from_u128(9)),
                    data: serde_json::json!("x"),
                    decision: None,
                    submitted_at: None,
                    roles: None,
                    confidence: None,
                },
                workflow: Some("one".parse().unwrap()),
            };
            let command = Command::Submission(submission);
            let batch = vec![CommandEnvelope::new(Uuid::from_u128(100 + n), command)];
            let report = orchestrator.process_batch(batch, Some(publisher)).await;
            report.unwrap().messages
        };
        let mut rows = LaneRows::new(store.clone(), Some(publisher));
        let unheard = commit(1).await;
        rows.commit_unknown([task(1)].into_iter());
        let of_another_lane = commit(2).await;
        let own = commit(3).await;
        assert!(
            [&unheard, &of_another_lane, &own]
                .iter()
                .all(|m| !m.is_empty())
        );
        let left = rows.of_written(&own, [task(3)].into_iter()).await.unwrap();
        let of: HashSet<_> = left.rows.iter().filter_map(|row| row.task_id).collect();
        assert_eq!((of, left.tasks), ([task(1)].into(), [task(1)].into()));
        let later = rows.of_written(&[], [].into_iter()).await.unwrap();
        assert_eq!(later, LeftToRelay::default());
    }
}
