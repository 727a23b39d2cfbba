//! What is known of annotators, brought up to the log before the decisions that look at it.
//!
//! Each [`ModelKey`] in use has one model in this process. A batch that touches a workflow with such
//! questions reads the log up to its end *before* it takes the locks of its streams, for reading needs
//! a connection of its own; the decisions then look at the model as it stands, and record its position.
//! Lanes read for each other: a model only moves forward, and a decision may see more than its own
//! batch has read, never less. Batches of other workflows never come here.
//!
//! On Postgres the log ends below the oldest open transaction, so what this process has just committed
//! may not be in it for some milliseconds, and for as long as somebody on the server leaves one open.
//! Where a batch is the only one at work with a model, as when a worker is fed serially, it waits a
//! little; beside others it does not, since somebody's transaction is always open then. What waiting
//! does not bring is learnt ahead of the log by a copy of the model, which is thrown away when the log
//! moves on. So a batch that is alone looks at all that this process has committed, and one beside
//! others does so too where the log stands still. The model itself keeps to the order of the log, as
//! everybody's does, and it alone is kept.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;

use super::pending_events::PendingEvents;
use crate::{
    config::WorkflowConfig,
    events::StoredEvent,
    executor::annotators::{AnnotatorModel, ModelKey, ModelSource},
    ids::RevisionId,
    limits::PAGE_MAX,
    store::{EventStore, EventStoreError, LogFilter, LogPage, ModelCheckpoint, TaskWrite},
};

/// Revisions whose questions are remembered; of a colder one they are read again.
const REVISIONS_KEPT: usize = 1_024;
/// Models kept in this process; beyond it those that nobody is using are dropped, to be learnt further
/// from where they were kept.
const MODELS_MAX: usize = 256;
/// Labels after which a model is first kept in the store.
const KEEP_FIRST: u64 = 500;
/// It is kept again when its labels have grown by this part (one in ten), so that what keeping costs is
/// constant for each label.
const KEEP_PART: u64 = 10;
/// How often, and how long at first, a batch waits for what this process has committed: each time twice
/// as long, 15 ms in all, about as much as the copying of a large model takes. Where the log has not
/// moved for so many readings, somebody's transaction stays open, and nobody waits for it again.
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
    /// Held by who reads the log.
    reader: tokio::sync::Mutex<LogReader>,
    pending: Mutex<PendingEvents>,
    /// Batches at work with it.
    in_use: AtomicUsize,
}

struct ModelPair {
    /// From the log, in its order.
    kept: AnnotatorModel,
    /// A copy of it, ahead of the log by what this process has committed itself.
    ahead: Option<AnnotatorModel>,
}

#[derive(Default)]
struct LogReader {
    /// Whether what the store has kept has been looked for.
    loaded: bool,
    /// Observations when it was last kept.
    kept: u64,
    /// Readings since the log has moved, each in the hope of what this process has committed.
    in_vain: u32,
    /// Where the unread events begin that the copy ahead of the log has not learnt from.
    ahead_to: u64,
}

/// Models that a batch may look at.
#[derive(Default)]
pub(super) struct ModelsInUse(Vec<InUse>);

/// One of them, for the time of the batch.
struct InUse {
    key: ModelKey,
    live: Arc<LiveModel>,
    /// What the batch is committing, by task.
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

    /// Of those events of a task that tell something, a copy is kept until the commit returns.
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

    /// The models that decisions about tasks of a revision look at; mostly none.
    pub(super) fn questions(&self, config: &WorkflowConfig) -> Arc<[ModelKey]> {
        if let Some(known) = self.questions.get(&config.revision_id) {
            return known;
        }
        let keys: Arc<[ModelKey]> = ModelKey::all_of(config).into();
        self.questions.insert(config.revision_id, Arc::clone(&keys));
        keys
    }

    /// Adds the models of `keys` to `prepared`, each learnt to the end of the log.
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
            // Under the lock nobody takes another one up.
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

    /// Learns the models of `keys` to the end of the log and keeps them as they are then.
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
    /// A panic while learning leaves a label half counted, not a model that cannot be read.
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
            self.learn_ahead(&mut reader);
        }
        let observed = self.models().kept.model().position();
        let gap = (reader.kept / KEEP_PART).max(KEEP_FIRST);
        if observed >= reader.kept.saturating_add(gap)
            && let Err(error) = self.keep(store, &mut reader).await
        {
            // It is learnt again from what was kept before.
            tracing::warn!(%error, "what was learnt of annotators could not be kept");
        }
        Ok(())
    }

    /// Goes on from what was kept.
    async fn load(
        &self,
        store: &dyn EventStore,
        reader: &mut LogReader,
    ) -> Result<(), EventStoreError> {
        let key = self.models().kept.key().clone();
        if let Some(row) = store.model_checkpoint(key.id()).await? {
            match serde_json::from_str::<AnnotatorModel>(&row.state) {
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
            self.learn(&page);
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

    /// Learns what this process has committed and the log does not show. The reader is held, so that
    /// the log stands still meanwhile.
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

    /// Whether no other batch is at work with it.
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
        // All processes come here at the same label; whoever is late need not write it all again.
        if store.checkpoint_position(model).await? >= Some(position) {
            return Ok(());
        }
        let state = serde_json::to_string(&self.models().kept)
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

    /// The models, which do not move while the answer lives.
    pub(super) fn look(&self) -> Looked<'_> {
        let models = self.0.iter();
        Looked(models.map(|m| (&m.key, m.live.models())).collect())
    }

    /// Notes what a batch is about to commit, which the next batch is to look at.
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

    /// Notes that it is committed. Left out, nobody knows, and only the log tells.
    pub(super) fn committed(&mut self) {
        for in_use in &mut self.0 {
            in_use.returned(true);
        }
    }
}

/// Models, held still.
pub(super) struct Looked<'a>(Vec<(&'a ModelKey, RwLockReadGuard<'a, ModelPair>)>);

impl ModelSource for Looked<'_> {
    fn model(&self, key: &ModelKey) -> Option<&AnnotatorModel> {
        let (_, known) = self.0.iter().find(|(known, _)| *known == key)?;
        Some(known.ahead.as_ref().unwrap_or(&known.kept))
    }
}
