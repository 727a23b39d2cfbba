//! What the other stores lock in the database. Whoever needs several locks takes them in ascending
//! order, so nobody waits in a circle.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use crate::ids::{TaskId, UserId, WorkflowId};

/// The name of a lock. Ascending names are the order in which a batch takes its locks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    /// A projection.
    Projection(String),
    /// A person who claims slots.
    Claimant(UserId),
    /// The head of a task.
    Head(TaskId),
    /// The number of tasks that have started on a workflow.
    Started(WorkflowId),
}

/// A lock that is held until this is dropped.
pub(super) type Held = OwnedMutexGuard<()>;

/// All locks by name; those that nobody holds are left out.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<BTreeMap<Lock, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for a lock.
    pub(super) async fn take(&self, lock: Lock) -> Held {
        self.named(lock).lock_owned().await
    }

    /// The lock, if nobody holds it.
    pub(super) fn try_take(&self, lock: Lock) -> Option<Held> {
        self.named(lock).try_lock_owned().ok()
    }

    fn named(&self, lock: Lock) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who holds a lock, or waits for one, shares it.
        locks.retain(|_, shared| Arc::strong_count(shared) > 1);
        Arc::clone(locks.entry(lock).or_default())
    }
}
