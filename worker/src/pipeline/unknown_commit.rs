//! Which messages a lane has to publish after the answer to a COMMIT was lost.

use std::{collections::HashSet, sync::Arc};

use glyph_workflow_engine::{
    ids::TaskId,
    store::{EventStoreError, Outbox, OutboxRow, PublisherId},
};

/// Batches whose commit is unknown: the answer to COMMIT was lost.
///
/// If such a batch was committed, its messages are leased to this process, which renews the leases,
/// but no part of it has them in memory. They would wait until the process ends, and later messages
/// of their tasks would overtake them. Running the batch again does not return them: it only finds
/// its commands in the inbox.
///
/// So the next batch that is known to be committed first reads what else is leased to the lane
/// ([`Outbox::leased`]). It takes only rows of tasks of these batches, which are this lane's alone,
/// and only positions beyond the last one it knows, since a lane commits one batch at a time.
struct UnknownCommit {
    /// The first of these batches. Its messages may be older than a release of their task to the
    /// relay that was noted since, so they go into a window with this number (see
    /// [`LanePublisher`]).
    ///
    /// [`LanePublisher`]: super::publishing::LanePublisher
    number: u64,
    /// The tasks of all of them.
    tasks: HashSet<TaskId>,
}

/// The messages that the batches of a lane gave it to publish.
pub(super) struct LaneMessages {
    outbox: Arc<dyn Outbox>,
    /// The name to which the lane's messages are leased; none if this process does not publish.
    publisher: Option<PublisherId>,
    /// The position of the last one.
    last: i64,
    unknown: Option<UnknownCommit>,
}

/// Messages to publish in one window.
pub(super) struct BatchMessages {
    pub(super) rows: Vec<OutboxRow>,
    /// The number of the batch for their window: the oldest batch that they come from.
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

    /// Records a batch whose commit is unknown.
    pub(super) fn commit_unknown(&mut self, number: u64, tasks: impl Iterator<Item = TaskId>) {
        let unknown = self.unknown.get_or_insert_with(|| UnknownCommit {
            number,
            tasks: HashSet::new(),
        });
        unknown.tasks.extend(tasks);
    }

    /// The messages of a committed batch, and of earlier unknown ones that turn out to be
    /// committed.
    pub(super) async fn of_written(
        &mut self,
        number: u64,
        rows: Vec<OutboxRow>,
        tasks: impl Iterator<Item = TaskId>,
    ) -> Result<BatchMessages, EventStoreError> {
        let mut messages = BatchMessages { rows, number };
        if let (Some(publisher), true) = (self.publisher, self.unknown.is_some()) {
            // If this read fails, the next one must also return the messages of this batch.
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
