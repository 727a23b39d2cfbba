//! Annotator models, brought up to date with the log before the decisions that use them.
//!
//! Each [`ModelKey`] in use has one model in this process. A batch whose workflows use models reads
//! the log to its end *before* it takes the locks of its streams, because reading needs a
//! connection of its own. Its decisions then use the model as it stands, and record its position.
//! Lanes read for each other: a model only moves forward, so a decision may see more than its own
//! batch has read, never less. Batches of other workflows do not read here.
//!
//! What this process has committed is in the log by then, so a worker that is fed serially sees all
//! its earlier completions. Every process learns in the order of the log.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;

use super::compute::compute;
use crate::{
    config::WorkflowConfig,
    executor::annotators::{AnnotatorModel, ModelKey, ModelSource},
    ids::RevisionId,
    limits::PAGE_MAX,
    store::{EventStore, EventStoreError, LogFilter, LogPage, ModelCheckpoint},
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
/// The models of a process.
pub(super) struct LiveModels {
    store: Arc<dyn EventStore>,
    questions: Cache<RevisionId, Arc<[ModelKey]>>,
    models: Mutex<HashMap<ModelKey, Arc<LiveModel>>>,
}

/// One model.
struct LiveModel {
    /// Learned from the log, in its order.
    model: RwLock<AnnotatorModel>,
    /// Locked by the batch that reads the log.
    reader: tokio::sync::Mutex<LogReader>,
    /// While it is being read to the end of the log: when the last event that it has learned from
    /// happened. Apart from the model, so that whoever asks waits for nobody.
    behind: Mutex<Option<DateTime<Utc>>>,
}

/// A model that is being read to the end of the log, until it is there, the store fails, or whoever
/// waited for it has gone.
struct Reading<'a>(&'a LiveModel);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        *self.0.behind() = None;
    }
}

#[derive(Default)]
struct LogReader {
    /// Whether the checkpoint has been looked for.
    loaded: bool,
    /// Observations at the last checkpoint.
    kept: u64,
}

/// Models that a batch may use.
#[derive(Default)]
pub(super) struct ModelsInUse(Vec<(ModelKey, Arc<LiveModel>)>);

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
            live.catch_up(&*self.store).await?;
            prepared.0.push((key, live));
        }
        Ok(())
    }

    /// Brings a model to the end of the log, and goes on with it where nobody waits any more.
    pub(super) async fn learn(&self, key: &ModelKey) -> Result<(), EventStoreError> {
        let (live, store) = (self.live(key)?, Arc::clone(&self.store));
        let learning = tokio::spawn(async move { live.catch_up(&*store).await });
        let learned = learning.await;
        learned.map_err(|error| EventStoreError::Unavailable(Box::new(error)))?
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
            model: RwLock::new(learnt),
            reader: tokio::sync::Mutex::default(),
            behind: Mutex::default(),
        });
        models.insert(key.clone(), Arc::clone(&live));
        Ok(live)
    }

    /// How far the model has read the log that is furthest behind, of those that are being read to
    /// its end.
    pub(super) fn behind_since(&self) -> Option<DateTime<Utc>> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.values().filter_map(|live| *live.behind()).min()
    }

    /// Brings the models of `keys` to the end of the log and stores a checkpoint of each.
    pub(super) async fn keep(
        &self,
        keys: impl IntoIterator<Item = ModelKey>,
    ) -> Result<(), EventStoreError> {
        let mut prepared = ModelsInUse::default();
        self.prepare(&mut prepared, keys).await?;
        for (_, live) in &prepared.0 {
            let mut reader = live.reader.lock().await;
            live.keep(&*self.store, &mut reader).await?;
        }
        Ok(())
    }
}

impl LiveModel {
    /// Ignores lock poisoning: a panic while learning leaves a label half counted, but the model
    /// can still be read.
    fn model(&self) -> RwLockReadGuard<'_, AnnotatorModel> {
        self.model.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn model_mut(&self) -> RwLockWriteGuard<'_, AnnotatorModel> {
        self.model.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn behind(&self) -> MutexGuard<'_, Option<DateTime<Utc>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn catch_up(&self, store: &dyn EventStore) -> Result<(), EventStoreError> {
        let mut reader = self.reader.lock().await;
        if !reader.loaded {
            self.load(store, &mut reader).await?;
        }
        self.read_to_end(store).await?;
        let observed = self.model().model().position();
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
        let key = self.model().key().clone();
        if let Some(row) = store.model_checkpoint(key.id()).await? {
            match compute(|| serde_json::from_str::<AnnotatorModel>(&row.state)) {
                Ok(kept) if *kept.key() == key && kept.position() == row.position => {
                    reader.kept = kept.model().position();
                    *self.model_mut() = kept;
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

    async fn read_to_end(&self, store: &dyn EventStore) -> Result<(), EventStoreError> {
        let _reading = Reading(self);
        loop {
            let (filter, after) = {
                let learnt = self.model();
                let filter = LogFilter {
                    workflow: learnt.key().workflow.clone(),
                    event_types: AnnotatorModel::EVENTS.to_vec(),
                };
                (filter, learnt.position())
            };
            let page = store.read_workflow_log(filter, after, PAGE_MAX).await?;
            compute(|| self.learn(&page));
            if page.is_last {
                return Ok(());
            }
        }
    }

    fn learn(&self, page: &LogPage) {
        if page.read == 0 {
            return;
        }
        let mut model = self.model_mut();
        for (position, event) in &page.entries {
            model.learn(*position, event);
        }
        model.read_to(page.through);
        if let Some((_, event)) = page.entries.last() {
            *self.behind() = Some(event.occurred_at);
        }
    }

    async fn keep(
        &self,
        store: &dyn EventStore,
        reader: &mut LogReader,
    ) -> Result<(), EventStoreError> {
        let (key, position, observed) = {
            let learnt = self.model();
            let observed = learnt.model().position();
            (learnt.key().clone(), learnt.position(), observed)
        };
        let model = key.id();
        reader.kept = observed;
        // All processes reach this point at the same label; only the first one needs to write.
        if store.checkpoint_position(model).await? >= Some(position) {
            return Ok(());
        }
        let state = compute(|| serde_json::to_string(&*self.model()))
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
        self.0.iter().any(|(known, _)| known == key)
    }

    /// Looks at the models, which do not change meanwhile. Waits while one of them learns.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Looked<'_>) -> T) -> T {
        compute(|| {
            let models = self.0.iter();
            look(&Looked(
                models.map(|(key, live)| (key, live.model())).collect(),
            ))
        })
    }
}

/// Models, locked for reading.
pub(super) struct Looked<'a>(Vec<(&'a ModelKey, RwLockReadGuard<'a, AnnotatorModel>)>);

impl ModelSource for Looked<'_> {
    fn model(&self, key: &ModelKey) -> Option<&AnnotatorModel> {
        let (_, model) = self.0.iter().find(|(known, _)| *known == key)?;
        Some(model)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        events::{EventMetadata, LogPosition, StoredEvent},
        ids::{CommandId, TaskId},
        parse_workflow,
        store::MemoryStore,
    };

    #[test]
    fn a_model_is_behind_while_it_reads_and_not_after() {
        let models = LiveModels::new(Arc::new(MemoryStore::new()));
        let yaml = "workflow: { id: w, steps: [{ id: a, type: annotation, field: label, completion: { type: confidence } }] }";
        let key = ModelKey::all_of(&parse_workflow(yaml).unwrap()).remove(0);
        let live = models.live(&key).unwrap();
        let occurred_at = "2026-01-02T03:04:05Z".parse().unwrap();
        let event = json!({"event_type": "workflow_cancelled", "event_data": {}});
        let event = StoredEvent {
            event_id: Uuid::nil(),
            task_id: TaskId(Uuid::nil()),
            version: 1,
            occurred_at,
            metadata: EventMetadata {
                command_id: CommandId(Uuid::nil()),
                correlation_id: String::new(),
                actor: None,
                traceparent: None,
                schema_version: 1,
                gold: false,
            },
            event: serde_json::from_value(event).unwrap(),
        };
        let position = LogPosition {
            entry: 1,
            position: 1,
        };
        let page = LogPage {
            entries: vec![(position, event)],
            through: position,
            read: 1,
            is_last: false,
        };
        assert_eq!(models.behind_since(), None);
        let reading = Reading(&live);
        live.learn(&page);
        assert_eq!(models.behind_since(), Some(occurred_at));
        drop(reading);
        assert_eq!(models.behind_since(), None);
    }
}
