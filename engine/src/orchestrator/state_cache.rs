//! A cache of recently used states.

use std::{fmt, sync::Arc};

use quick_cache::{Weighter, sync::Cache};
use serde_json::Value;

use crate::{ids::TaskId, state::WorkflowSnapshot};

/// Bytes of states kept, as estimated by [`estimate`]; the coldest are evicted first.
const CACHE_BYTES_MAX: u64 = 128 << 20;
/// Bytes of the state of a finished task that is kept: late commands for it are answered from there.
/// A larger one has done its work, and is read again when it is asked for.
const FINISHED_BYTES_MAX: u64 = 16 << 10;
/// States expected at that size; only sizes the cache's tables.
const CACHE_ITEMS_EXPECTED: usize = 50_000;

/// A state with its estimated size.
#[derive(Clone)]
struct Cached {
    state: Arc<WorkflowSnapshot>,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<TaskId, Cached> for ByBytes {
    fn weight(&self, _: &TaskId, cached: &Cached) -> u64 {
        cached.bytes
    }
}

/// A bounded cache of states. An entry may be stale: its version shows this under the lock, and the
/// missing events are read there.
pub(super) struct StateCache(Cache<TaskId, Cached, ByBytes>);

impl Default for StateCache {
    fn default() -> Self {
        Self(Cache::with_weighter(
            CACHE_ITEMS_EXPECTED,
            CACHE_BYTES_MAX,
            ByBytes,
        ))
    }
}

impl fmt::Debug for StateCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateCache")
            .field("states", &self.0.len())
            .finish()
    }
}

impl StateCache {
    pub(super) fn get(&self, task: TaskId) -> Option<Arc<WorkflowSnapshot>> {
        self.0.get(&task).map(|cached| cached.state)
    }

    pub(super) fn put(&self, state: WorkflowSnapshot) {
        let bytes = estimate(&state);
        if state.status.is_final() && bytes > FINISHED_BYTES_MAX {
            self.forget(state.task_id);
            return;
        }
        self.0.insert(
            state.task_id,
            Cached {
                state: Arc::new(state),
                bytes,
            },
        );
    }

    pub(super) fn forget(&self, task: TaskId) {
        self.0.remove(&task);
    }
}

/// A rough count of the bytes of a state; most of them are content that people sent.
fn estimate(state: &WorkflowSnapshot) -> u64 {
    let annotations = state
        .steps
        .values()
        .flat_map(|step| &step.visits)
        .flat_map(|visit| {
            let result = visit
                .result
                .as_ref()
                .and_then(|result| result.value.as_ref());
            let data = visit
                .annotations
                .iter()
                .map(|annotation| 256 + size(&annotation.data));
            data.chain(result.map(size)).chain([256])
        });
    let input = state.input.as_ref().map_or(0, size);
    let output = state.output.as_ref().map_or(0, size);
    1_024 + input + output + annotations.sum::<u64>()
}

fn size(value: &Value) -> u64 {
    32 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() as u64,
        Value::Array(elements) => elements.iter().map(size).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| 32 + key.len() as u64 + size(value))
            .sum(),
    }
}
