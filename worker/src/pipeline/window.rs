//! What a lane hands to its publisher.

use glyph_workflow_engine::store::OutboxMessage;

use super::{job::CommandCopy, unknown_commit::LeftToRelay};
use crate::broker::Publication;

/// Everything that one batch has to send.
pub(super) struct PublishBatch {
    /// The batch's number in its lane.
    pub(super) number: u64,
    /// What earlier batches leave to the relay.
    pub(super) left: LeftToRelay,
    /// Messages whose rows are leased to this process.
    pub(super) messages: Vec<OutboxMessage>,
    /// Copies of commands that have no outcome yet or are dead.
    pub(super) copies: Vec<CommandCopy>,
    /// Replies, best effort.
    pub(super) replies: Vec<Publication>,
}

impl PublishBatch {
    /// A window of a batch, still without messages.
    pub(super) fn of_batch(number: u64, left: LeftToRelay) -> Self {
        Self {
            number,
            left,
            messages: Vec::new(),
            copies: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// A window without messages. It belongs to no batch and frees no task from the relay: windows
    /// of earlier batches may still be queued.
    pub(super) fn of_copies(copies: Vec<CommandCopy>) -> Self {
        Self {
            copies,
            ..Self::of_batch(0, LeftToRelay::default())
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
            && self.messages.is_empty()
            && self.copies.is_empty()
            && self.replies.is_empty()
    }
}
