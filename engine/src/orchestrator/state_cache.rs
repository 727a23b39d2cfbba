//! A cache of recently used states.

use std::{fmt, sync::Arc};

use quick_cache::{Weighter, sync::Cache};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    ids::{StepId, TaskId},
    state::{AnnotationData, Assignment, StepState, StepVisit, Visit, WorkflowSnapshot},
};

/// Bytes of states kept of tasks that are not finished, as estimated by [`estimate`]; the coldest are
/// evicted first.
const OPEN_BYTES_MAX: u64 = 64 << 20;
/// Bytes of states kept of finished tasks: late commands for them are answered from there, for a
/// while.
const FINISHED_BYTES_MAX: u64 = 8 << 20;
/// Bytes of one of them. A larger one has done its work, and is read again when it is asked for.
const FINISHED_STATE_BYTES_MAX: u64 = 16 << 10;
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
pub(super) struct StateCache {
    open: Cache<TaskId, Cached, ByBytes>,
    finished: Cache<TaskId, Cached, ByBytes>,
}

impl Default for StateCache {
    fn default() -> Self {
        let of = |bytes| Cache::with_weighter(CACHE_ITEMS_EXPECTED, bytes, ByBytes);
        Self {
            open: of(OPEN_BYTES_MAX),
            finished: of(FINISHED_BYTES_MAX),
        }
    }
}

impl fmt::Debug for StateCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateCache")
            .field("open", &self.open.len())
            .field("finished", &self.finished.len())
            .finish()
    }
}

impl StateCache {
    pub(super) fn get(&self, task: TaskId) -> Option<Arc<WorkflowSnapshot>> {
        let found = self.open.get(&task).or_else(|| self.finished.get(&task));
        found.map(|cached| cached.state)
    }

    pub(super) fn put(&self, state: WorkflowSnapshot) {
        let (task, bytes) = (state.task_id, estimate(&state));
        let is_finished = state.status.is_final();
        let state = Arc::new(state);
        if !is_finished {
            // A retry opens a task again.
            self.finished.remove(&task);
            self.open.insert(task, Cached { state, bytes });
            return;
        }
        self.open.remove(&task);
        if bytes > FINISHED_STATE_BYTES_MAX {
            self.finished.remove(&task);
        } else {
            self.finished.insert(task, Cached { state, bytes });
        }
    }

    pub(super) fn forget(&self, task: TaskId) {
        self.open.remove(&task);
        self.finished.remove(&task);
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
