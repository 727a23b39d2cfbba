//! Annotator models, brought up to date with the log before the decisions that use them.
//!
//! Each [`ModelKey`] in use has one model in this process. A batch whose workflows use models reads
//! the log to its end *before* it takes the locks of its streams, because reading needs a
//! connection of its own. Its decisions then use the model as it stands, and record its position.
//! Lanes read for each other: a model only moves forward, so a decision may see more than its own
//! batch has read, never less. Batches of other workflows do not read here.
//!
//! On Postgres, the log ends below the oldest open transaction. What this process has just
//! committed may be missing from it for some milliseconds, or as long as another transaction stays
//! open on the server. Two things make up for this:
//!
//! - A batch that is the only one using a model, as when a worker is fed serially, waits a little.
//!   A batch beside others does not, because some transaction is always open then.
//! - If waiting does not help, a copy of the model learns the missing events ahead of the log. The
//!   copy is discarded when the log moves on.
//!
//! So a batch that is alone sees everything that this process has committed, and a batch beside
//! others does too while the log stands still. The model itself learns in log order, as in every
//! process, and only the model itself is checkpointed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;

use super::{compute::compute, pending_events::PendingEvents};
use crate::{
    config::WorkflowConfig,
    events::StoredEvent,
    executor::annotators::{AnnotatorModel, ModelKey, ModelSource},
    ids::RevisionId,
    limits::PAGE_MAX,
    store::{EventStore, EventStoreError, LogFilter, LogPage, ModelCheckpoint, TaskWrite},
};

/// Revisions whose model keys are cached; those of a colder revision are found again.
const REVISIONS_KEPT: usize = 1_024;
/// Models kept in this process. Beyond it, models that no batch is using are dropped; they resume
/// from their checkpoints later.
const MODELS_MAX: usize = 256;
/// Labels after which the first checkpoint of a model is stored.
const KEEP_FIRST: u64 = 500;
/// The next checkpoint is stored when the labels have grown by this part (one in ten), so that
/// the cost of checkpoints is constant for each label.
const KEEP_PART: u64 = 10;
/// How often a batch waits for this process's own commits to appear in the log, first for
/// [`FIRST_WAIT`], then twice as long each time: 15 ms in all, about the time to copy a large
/// model. After this many reads without progress, a transaction is taken to stay open, and no batch
/// waits until the log moves.
const WAITS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// The models of a process.
pub(super) struct LiveModels {
    store: Arc<dyn EventStore>,
    questions: Cache<RevisionId, Arc<[ModelKey]>>,
    models: Mutex<HashMap<ModelKey, Arc<LiveModel>>>,
}

/// One model.
struct LiveModel {
    models: RwLock<ModelPair>,
    /// Locked by the batch that reads the log.
    reader: tokio::sync::Mutex<LogReader>,
    pending: Mutex<PendingEvents>,
    /// Batches that are using it.
    in_use: AtomicUsize,
}

struct ModelPair {
    /// Learned from the log, in log order.
    kept: AnnotatorModel,
    /// A copy, ahead of the log by what this process has committed itself.
    ahead: Option<AnnotatorModel>,
}

#[derive(Default)]
struct LogReader {
    /// Whether the checkpoint has been looked for.
    loaded: bool,
    /// Observations at the last checkpoint.
    kept: u64,
    /// Reads for this process's own commits since the log last moved.
    in_vain: u32,
    /// Number of the first pending event that the copy ahead of the log has not learned from.
    ahead_to: u64,
}

/// Models that a batch may use.
#[derive(Default)]
pub(super) struct ModelsInUse(Vec<InUse>);

/// One of them, for the duration of the batch.
struct InUse {
    key: ModelKey,
    live: Arc<LiveModel>,
    /// Events that the batch is committing, by task.
    committing: Vec<Vec<StoredEvent>>,
}

impl InUse {
    fn new(key: ModelKey, live: Arc<LiveModel>) -> Self {
        live.in_use.fetch_add(1, Ordering::Relaxed);
        Self {
            key,
            live,
            committing: Vec::new(),
        }
    }

    /// Notes the events that the model learns from, and keeps a copy until the commit returns.
    fn committing(&mut self, events: &[StoredEvent]) {
        let notifies =
            |event: &&StoredEvent| AnnotatorModel::EVENTS.contains(&event.event.event_type());
        let events: Vec<_> = events.iter().filter(notifies).cloned().collect();
        if let Some(last) = events.last() {
            self.live.pending().committing(last.task_id, last.version);
            self.committing.push(events);
        }
    }

    fn returned(&mut self, is_committed: bool) {
        for events in self.committing.drain(..) {
            self.live.pending().returned(events, is_committed);
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.returned(false);
        self.live.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LiveModels {
    pub(super) fn new(store: Arc<dyn EventStore>) -> Self {
        Self {
            store,
            questions: Cache::new(REVISIONS_KEPT),
            models: Mutex::default(),
        }
    }

    /// The models that decisions on tasks of a revision use; mostly none.
    pub(super) fn questions(&self, config: &WorkflowConfig) -> Arc<[ModelKey]> {
        if let Some(known) = self.questions.get(&config.revision_id) {
            return known;
        }
        let keys: Arc<[ModelKey]> = ModelKey::all_of(config).into();
        self.questions.insert(config.revision_id, Arc::clone(&keys));
        keys
    }

    /// Adds the models of `keys` to `prepared`, each brought to the end of the log.
    pub(super) async fn prepare(
        &self,
        prepared: &mut ModelsInUse,
        keys: impl IntoIterator<Item = ModelKey>,
    ) -> Result<(), EventStoreError> {
        for key in keys {
            if prepared.has(&key) {
                continue;
            }
            let live = self.live(&key)?;
            let in_use = InUse::new(key, live);
            in_use.live.catch_up(&*self.store).await?;
            prepared.0.push(in_use);
        }
        Ok(())
    }

    fn live(&self, key: &ModelKey) -> Result<Arc<LiveModel>, EventStoreError> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = models.get(key) {
            return Ok(Arc::clone(live));
        }
        if models.len() >= MODELS_MAX {
            // No other batch can take up a model under this lock.
            models.retain(|_, live| Arc::strong_count(live) > 1);
        }
        let learnt =
            AnnotatorModel::new(key.clone()).map_err(|e| EventStoreError::Data(Box::new(e)))?;
        let live = Arc::new(LiveModel {
            models: RwLock::new(ModelPair {
                kept: learnt,
                ahead: None,
            }),
            reader: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            in_use: AtomicUsize::new(0),
        });
        models.insert(key.clone(), Arc::clone(&live));
        Ok(live)
    }

    /// Brings the models of `keys` to the end of the log and stores a checkpoint of each.
    pub(super) async fn keep(
        &self,
        keys: impl IntoIterator<Item = ModelKey>,
    ) -> Result<(), EventStoreError> {
        let mut prepared = ModelsInUse::default();
        self.prepare(&mut prepared, keys).await?;
        for InUse { live, .. } in &prepared.0 {
            let mut reader = live.reader.lock().await;
            live.keep(&*self.store, &mut reader).await?;
        }
        Ok(())
    }
}

impl LiveModel {
    /// Ignores lock poisoning: a panic while learning leaves a label half counted, but the model
    /// can still be read.
    fn models(&self) -> RwLockReadGuard<'_, ModelPair> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn models_mut(&self) -> RwLockWriteGuard<'_, ModelPair> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn catch_up(&self, store: &dyn EventStore) -> Result<(), EventStoreError> {
        let mut reader = self.reader.lock().await;
        if !reader.loaded {
            self.load(store, &mut reader).await?;
        }
        self.read_to_end(store, &mut reader).await?;
        let mut wait = FIRST_WAIT;
        for _ in 0..WAITS {
            if !self.is_alone() || reader.in_vain >= WAITS || self.pending().is_empty() {
                break;
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
            self.read_to_end(store, &mut reader).await?;
        }
        if self.is_alone() || reader.in_vain >= WAITS {
            compute(|| self.learn_ahead(&mut reader));
        }
        let observed = self.models().kept.model().position();
        let gap = (reader.kept / KEEP_PART).max(KEEP_FIRST);
        if observed >= reader.kept.saturating_add(gap)
            && let Err(error) = self.keep(store, &mut reader).await
        {
            // The model can be learned again from the previous checkpoint.
            tracing::warn!(%error, "what was learnt of annotators could not be kept");
        }
        Ok(())
    }

    /// Resumes from the checkpoint, if there is one.
    async fn load(
        &self,
        store: &dyn EventStore,
        reader: &mut LogReader,
    ) -> Result<(), EventStoreError> {
        let key = self.models().kept.key().clone();
        if let Some(row) = store.model_checkpoint(key.id()).await? {
            match compute(|| serde_json::from_str::<AnnotatorModel>(&row.state)) {
                Ok(kept) if *kept.key() == key && kept.position() == row.position => {
                    reader.kept = kept.model().position();
                    self.models_mut().kept = kept;
                }
                _ => tracing::warn!(
                    workflow = %key.workflow,
                    step = %key.step,
                    "a kept model of annotators is of another form; it is learnt anew"
                ),
            }
        }
        reader.loaded = true;
        Ok(())
    }

    async fn read_to_end(
        &self,
        store: &dyn EventStore,
        reader: &mut LogReader,
    ) -> Result<(), EventStoreError> {
        let waits_for_own = !self.pending().is_empty();
        reader.in_vain += u32::from(waits_for_own);
        loop {
            let (filter, after) = {
                let learnt = &self.models().kept;
                let filter = LogFilter {
                    workflow: learnt.key().workflow.clone(),
                    event_types: AnnotatorModel::EVENTS.to_vec(),
                };
                (filter, learnt.position())
            };
            let page = store.read_workflow_log(filter, after, PAGE_MAX).await?;
            if page.read > 0 {
                reader.in_vain = 0;
            }
            compute(|| self.learn(&page));
            if page.read < PAGE_MAX {
                return Ok(());
            }
        }
    }

    fn learn(&self, page: &LogPage) {
        if page.read == 0 {
            return;
        }
        let mut known = self.models_mut();
        for (position, event) in &page.entries {
            known.kept.learn(*position, event);
        }
        known.kept.read_to(page.through);
        match &mut known.ahead {
            Some(ahead) if page.entries.is_empty() => ahead.read_to(page.through),
            ahead => *ahead = None,
        }
        drop(known);
        let mut pending = self.pending();
        for (_, event) in &page.entries {
            pending.read(event);
        }
    }

    /// Learns events that this process has committed and the log does not show yet. The reader is
    /// locked meanwhile, so that the log position does not move.
    fn learn_ahead(&self, reader: &mut LogReader) {
        let is_ahead = self.models().ahead.is_some();
        let from = if is_ahead { reader.ahead_to } else { 0 };
        let (events, to) = self.pending().since(from);
        if events.is_empty() {
            return;
        }
        let taken = self.models_mut().ahead.take();
        let mut ahead = taken.unwrap_or_else(|| self.models().kept.clone());
        for event in &events {
            ahead.learn_beyond(event);
        }
        self.models_mut().ahead = Some(ahead);
        reader.ahead_to = to;
    }

    /// Whether no other batch is using it.
    fn is_alone(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) == 1
    }

    fn pending(&self) -> MutexGuard<'_, PendingEvents> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep(
        &self,
        store: &dyn EventStore,
        reader: &mut LogReader,
    ) -> Result<(), EventStoreError> {
        let (key, position, observed) = {
            let learnt = &self.models().kept;
            let observed = learnt.model().position();
            (learnt.key().clone(), learnt.position(), observed)
        };
        let model = key.id();
        reader.kept = observed;
        // All processes reach this point at the same label; only the first one needs to write.
        if store.checkpoint_position(model).await? >= Some(position) {
            return Ok(());
        }
        let state = compute(|| serde_json::to_string(&self.models().kept))
            .map_err(|error| EventStoreError::Data(Box::new(error)))?;
        let row = ModelCheckpoint {
            model,
            workflow: key.workflow,
            step_id: key.step,
            position,
            state,
        };
        store.keep_model(row).await
    }
}

impl ModelsInUse {
    pub(super) fn has(&self, key: &ModelKey) -> bool {
        self.0.iter().any(|in_use| in_use.key == *key)
    }

    /// Looks at the models, which do not change meanwhile. Waits while one of them learns.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Looked<'_>) -> T) -> T {
        compute(|| {
            let models = self.0.iter();
            look(&Looked(models.map(|m| (&m.key, m.live.models())).collect()))
        })
    }

    /// Notes the events that a batch is about to commit, so that the next batch can use them.
    pub(super) fn committing(&mut self, writes: &[TaskWrite]) {
        for write in writes {
            let Some(task) = &write.task else { continue };
            for in_use in &mut self.0 {
                if in_use.key.workflow == task.workflow {
                    in_use.committing(&write.events);
                }
            }
        }
    }

    /// Notes that they are committed. Without this call the commit is unknown, and the events count
    /// only once they appear in the log.
    pub(super) fn committed(&mut self) {
        for in_use in &mut self.0 {
            in_use.returned(true);
        }
    }
}

/// Models, locked for reading.
pub(super) struct Looked<'a>(Vec<(&'a ModelKey, RwLockReadGuard<'a, ModelPair>)>);

impl ModelSource for Looked<'_> {
    fn model(&self, key: &ModelKey) -> Option<&AnnotatorModel> {
        let (_, known) = self.0.iter().find(|(known, _)| *known == key)?;
        Some(known.ahead.as_ref().unwrap_or(&known.kept))
    }
}
