//! What a lane hands to its publisher.

use glyph_workflow_engine::store::OutboxRow;

use super::job::CommandCopy;
use crate::broker::Publication;

/// Everything that one batch has to send.
pub(super) struct PublishBatch {
    /// The batch's number in its lane.
    pub(super) number: u64,
    /// Messages leased to this process.
    pub(super) rows: Vec<OutboxRow>,
    /// Copies of commands that have no outcome yet or are dead.
    pub(super) copies: Vec<CommandCopy>,
    /// Replies, best effort.
    pub(super) replies: Vec<Publication>,
}

impl PublishBatch {
    pub(super) fn of_batch(number: u64, rows: Vec<OutboxRow>) -> Self {
        Self {
            number,
            rows,
            copies: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// A window without messages. It belongs to no batch and frees no task from the relay: windows
    /// of earlier batches may still be queued.
    pub(super) fn of_copies(copies: Vec<CommandCopy>) -> Self {
        Self {
            number: 0,
            rows: Vec::new(),
            copies,
            replies: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.copies.is_empty() && self.replies.is_empty()
    }
}
