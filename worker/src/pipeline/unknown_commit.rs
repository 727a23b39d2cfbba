//! Which messages a lane has to publish, where it is not known of every batch whether it was
//! written.

use std::{collections::HashSet, sync::Arc};

use glyph_workflow_engine::{
    ids::TaskId,
    store::{EventStoreError, Outbox, OutboxRow, PublisherId},
};

/// Batches of which it is not known whether they were written: the answer to COMMIT was lost.
///
/// If they were, their messages belong to this process, which renews its leases, and nobody in it
/// has them: they would wait for its end, and later messages of their tasks would overtake them.
/// Run again, the batch only finds its own commands. So the next batch that is known to be written
/// first looks what else the lane was given ([`Outbox::leased`]): of tasks that are this lane's alone,
/// in positions beyond all that it knows of, as a lane commits one batch at a time.
struct UnknownCommit {
    /// The first of these batches. What it wrote may be older than a hold on its task that was
    /// noted since, so its messages go in a window of its number (see [`LanePublisher`]).
    ///
    /// [`LanePublisher`]: super::publishing::LanePublisher
    number: u64,
    /// The tasks of all of them.
    tasks: HashSet<TaskId>,
}

/// The messages that the batches of a lane gave it to publish.
pub(super) struct LaneMessages {
    outbox: Arc<dyn Outbox>,
    /// The name under which they are kept for the lane; none where this process does not publish.
    publisher: Option<PublisherId>,
    /// The position of the last one.
    last: i64,
    unknown: Option<UnknownCommit>,
}

/// Messages to publish in one window.
pub(super) struct BatchMessages {
    pub(super) rows: Vec<OutboxRow>,
    /// The number of the batch whose window they go in: the oldest of those that they are from.
    pub(super) number: u64,
}

impl LaneMessages {
    pub(super) fn new(outbox: Arc<dyn Outbox>, publisher: Option<PublisherId>) -> Self {
        Self {
            outbox,
            publisher,
            last: 0,
            unknown: None,
        }
    }

    /// Notes a batch that may or may not have been written.
    pub(super) fn commit_unknown(&mut self, number: u64, tasks: impl Iterator<Item = TaskId>) {
        let unknown = self.unknown.get_or_insert_with(|| UnknownCommit {
            number,
            tasks: HashSet::new(),
        });
        unknown.tasks.extend(tasks);
    }

    /// The messages of a batch that is written, and of those before it that turn out to be.
    pub(super) async fn of_written(
        &mut self,
        number: u64,
        rows: Vec<OutboxRow>,
        tasks: impl Iterator<Item = TaskId>,
    ) -> Result<BatchMessages, EventStoreError> {
        let mut messages = BatchMessages { rows, number };
        if let (Some(publisher), true) = (self.publisher, self.unknown.is_some()) {
            // Should the look fail, the next one is for the messages of this batch, too.
            self.commit_unknown(number, tasks);
            let mut leased = self.outbox.leased(publisher, self.last).await?;
            if let Some(unknown) = self.unknown.take() {
                let own = |row: &OutboxRow| row.task_id.is_some_and(|t| unknown.tasks.contains(&t));
                leased.retain(own);
                messages = BatchMessages {
                    rows: leased,
                    number: unknown.number,
                };
            }
        }
        let last = messages.rows.iter().map(|row| row.position).max();
        self.last = self.last.max(last.unwrap_or_default());
        Ok(messages)
    }
}
