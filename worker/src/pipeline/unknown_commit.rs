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
pub(super) struct LaneRows {
    outbox: Arc<dyn Outbox>,
    /// The name to which the lane's rows are leased; none if this process does not publish.
    publisher: Option<PublisherId>,
    /// The position of the last one.
    last: i64,
    /// The tasks of batches whose commit is unknown.
    unknown: HashSet<TaskId>,
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

    /// Takes note of the messages of a committed batch, and returns the rows of earlier unknown ones
    /// that turn out to be committed.
    pub(super) async fn of_written(
        &mut self,
        messages: &[OutboxMessage],
        tasks: impl Iterator<Item = TaskId>,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let own: BTreeSet<i64> = messages.iter().map(|message| message.position).collect();
        let mut left = Vec::new();
        if let (Some(publisher), false) = (self.publisher, self.unknown.is_empty()) {
            // If this read fails, the next one must also return the rows of this batch.
            self.commit_unknown(tasks);
            left = self.outbox.leased(publisher, self.last).await?;
            left.retain(|row| row.task_id.is_some_and(|task| self.unknown.contains(&task)));
            left.retain(|row| !own.contains(&row.position));
            self.unknown.clear();
        }
        let last = left.iter().map(|row| row.position).chain(own).max();
        self.last = self.last.max(last.unwrap_or_default());
        Ok(left)
    }
}
