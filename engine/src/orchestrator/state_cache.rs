//! A cache of recently used states.

use std::{fmt, sync::Arc};

use quick_cache::{Weighter, sync::Cache};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    ids::{StepId, TaskId},
    state::{AnnotationData, Assignment, StepState, StepVisit, Visit, WorkflowSnapshot},
};

/// Bytes of states kept, as estimated by [`estimate`]; the coldest are evicted first.
const CACHE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the state of a finished task that is kept: late commands for it are answered from there.
/// A larger one has done its work, and is read again when it is asked for.
const FINISHED_BYTES_MAX: u64 = 16 << 10;
/// States expected at that size; only sizes the cache's tables.
const CACHE_ITEMS_EXPECTED: usize = 10_000;

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

/// The bytes that a state takes, without what seldom is there. Content that people sent is the most
/// of it only if it is long: every JSON object and every map has room for eleven entries.
fn estimate(state: &WorkflowSnapshot) -> u64 {
    let visits = state.steps.values().map(|step| {
        let each = step.visits.iter().map(bytes_of_visit);
        step.visits.capacity() * size_of::<Visit>() + each.sum::<usize>()
    });
    let values = [&state.input, &state.expected, &state.output];
    let bytes = size_of::<WorkflowSnapshot>()
        + map::<StepId, StepState>(state.steps.len())
        + map::<String, String>(state.labels.len())
        + object(&state.context)
        + state.completed.capacity() * size_of::<StepVisit>()
        + visits.sum::<usize>()
        + values.into_iter().flatten().map(heap).sum::<usize>();
    bytes as u64
}

fn bytes_of_visit(visit: &Visit) -> usize {
    let annotations = visit
        .annotations
        .iter()
        .map(|annotation| 16 + size_of::<AnnotationData>() + heap(&annotation.data));
    let result = visit.result.as_ref();
    let value = result.and_then(|result| result.value.as_ref());
    annotations.sum::<usize>()
        + visit.annotations.capacity() * size_of::<usize>()
        + visit.assignments.capacity() * size_of::<Assignment>()
        + result.map_or(0, |result| {
            result.annotations.capacity() * size_of::<Uuid>()
        })
        + value.map_or(0, heap)
}

/// What a value takes beside itself.
fn heap(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(elements) => {
            elements.capacity() * size_of::<Value>() + elements.iter().map(heap).sum::<usize>()
        }
        Value::Object(fields) => object(fields),
    }
}

fn object(fields: &Map<String, Value>) -> usize {
    let each = fields.iter().map(|(key, value)| key.len() + heap(value));
    map::<String, Value>(fields.len()) + each.sum::<usize>()
}

/// The nodes of a map with so many entries.
const fn map<K, V>(len: usize) -> usize {
    const NODE_ENTRIES: usize = 11;
    len.div_ceil(NODE_ENTRIES) * (NODE_ENTRIES * (size_of::<K>() + size_of::<V>()) + 16)
}
