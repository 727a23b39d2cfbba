//! The samples that a task belongs to which starts now.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use crate::{
    config::{CompletionType, Sampling, WorkflowConfig},
    ids::{TaskId, WorkflowId},
};

/// How many tasks have started on each workflow, at least. Spares counting once the first tasks are
/// past, as a count never falls.
#[derive(Default)]
pub(super) struct StartedTasks(Mutex<HashMap<WorkflowId, u32>>);

impl StartedTasks {
    /// The workflows whose started tasks must be counted before a task starts on one of them, and up
    /// to which number.
    pub(super) fn to_count<'c>(
        &self,
        workflows: impl Iterator<Item = &'c WorkflowConfig>,
    ) -> BTreeMap<WorkflowId, u32> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = BTreeMap::new();
        for config in workflows {
            let first = first_tasks(config);
            if known.get(&config.id).copied().unwrap_or(0) < first {
                let most = counted.entry(config.id.clone()).or_insert(first);
                *most = first.max(*most);
            }
        }
        counted
    }

    /// Notes what was counted.
    pub(super) fn counted(&self, started: &BTreeMap<WorkflowId, u32>) {
        if started.is_empty() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (workflow, count) in started {
            known.insert(workflow.clone(), *count);
        }
    }
}

/// The samples of a task that starts on a workflow; `started` are the tasks that have started before
/// it, where they are counted.
pub(crate) fn sampling(task: TaskId, config: &WorkflowConfig, started: Option<u32>) -> Sampling {
    if !is_confident(config) {
        return Sampling::default();
    }
    let ordinal = started.map(|started| started.saturating_add(1));
    Sampling {
        ordinal: ordinal.filter(|ordinal| *ordinal <= first_tasks(config)),
        audited: draw(task) < config.reliability.audit_share(),
    }
}

/// How many of its first tasks the workflow learns from.
fn first_tasks(config: &WorkflowConfig) -> u32 {
    let first = config.reliability.learn.first;
    if first > 0 && is_confident(config) {
        first
    } else {
        0
    }
}

fn is_confident(config: &WorkflowConfig) -> bool {
    let mut steps = config.steps.iter();
    steps.any(|step| step.completion_type() == CompletionType::Confidence)
}

/// A number of [0, 1) that follows from the id, so that a repetition draws the same.
fn draw(task: TaskId) -> f64 {
    let hash = Sha256::new_with_prefix(b"glyph/audit/")
        .chain_update(task.0.as_bytes())
        .finalize();
    let bits = hash
        .iter()
        .take(4)
        .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_share_that_is_drawn_is_the_share_that_is_asked_for() {
        let drawn = (0..10_000).filter(|n| draw(TaskId(Uuid::from_u128(*n))) < 0.05);
        let count = drawn.count();
        assert!((435..=565).contains(&count), "{count} of 10,000 at 5 %");
    }
}
