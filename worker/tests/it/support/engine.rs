//! A pipeline on an in-memory store, and commands for it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use glyph_worker::{
    failpoints::Failpoints,
    metrics::Metrics,
    pipeline::{CommandProcessor, Pipeline, PipelineHandle, PipelineParts, PipelineSettings},
    traces::Traces,
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    BatchReport, MessageBuilder, OrchestrationError, WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Outcome, Undecided},
    store::{EventStoreError, MemoryStore, OnLocked, PublisherId},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{DEADLINE, broker::FakeBroker};

/// Any label but `yes` opens an incident; with a goal that is signed off by hand.
pub(crate) const HELD: &str = "
workflow:
  id: held
  steps:
    - { id: label, type: annotation, field: label }
    - { id: done, type: auto_process, handler: finalize }
  transitions:
    - { from: label, to: done, condition: { type: expression, expression: 'annotation.label == \"yes\"' } }
    - { from: done, to: _complete }
goals: [{ id: sign-off, type: manual }]
";

/// Two people label; a third decides if they disagree.
pub(crate) const DUAL: &str = r"
workflow:
  id: sentiment-dual
  entry_step: annotate
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { metric: percent_agreement, field: label }
    - id: adjudicate
      type: adjudication
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
";

type Fault = Box<dyn Fn(&[Arc<CommandEnvelope>]) -> Option<EventStoreError> + Send>;

/// An orchestrator that fails on request.
pub(crate) struct Unruly {
    pub(crate) orchestrator: Arc<WorkflowOrchestrator>,
    /// How many more batches find the store unavailable.
    pub(crate) away: AtomicUsize,
    /// How many more batches find that a stream moved although it was locked.
    pub(crate) conflicting: AtomicUsize,
    /// How many more batches are written but report an unknown commit.
    pub(crate) silent: AtomicUsize,
    /// How many of those write their first command only: the others run out of time.
    pub(crate) hasty: AtomicUsize,
    /// What happens after the next batch that is answered, before the lane hears of it.
    pub(crate) after: Mutex<Option<BoxFuture<'static, ()>>>,
    /// What the store says to a batch, if anything; asked first.
    pub(crate) fault: Mutex<Option<Fault>>,
    /// Whether the store answers a ping.
    pub(crate) answers: AtomicBool,
    /// Whether batches have time for their first command only.
    pub(crate) hurries: AtomicBool,
    /// Panics on batches that hold a submission with this text in it.
    pub(crate) poison: Mutex<Option<&'static str>>,
    /// Sizes of the batches that were run.
    pub(crate) sizes: Mutex<Vec<usize>>,
}

impl Unruly {
    /// One that does not fail yet.
    pub(crate) fn new(orchestrator: Arc<WorkflowOrchestrator>) -> Self {
        Self {
            orchestrator,
            away: AtomicUsize::new(0),
            conflicting: AtomicUsize::new(0),
            silent: AtomicUsize::new(0),
            hasty: AtomicUsize::new(0),
            after: Mutex::default(),
            fault: Mutex::default(),
            answers: AtomicBool::new(true),
            hurries: AtomicBool::new(false),
            poison: Mutex::new(None),
            sizes: Mutex::default(),
        }
    }
}

/// Whether a counter was above zero; takes one from it.
fn take_one(counter: &AtomicUsize) -> bool {
    let less = |count: usize| count.checked_sub(1);
    let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
    counter.fetch_update(set, fetch, less).is_ok()
}

#[async_trait]
impl CommandProcessor for Unruly {
    async fn process_batch(
        &self,
        batch: Vec<Arc<CommandEnvelope>>,
        publisher: Option<PublisherId>,
        on_locked: OnLocked,
    ) -> Result<BatchReport, OrchestrationError> {
        self.sizes.lock().unwrap().push(batch.len());
        let fault = {
            let fault = self.fault.lock().unwrap();
            fault.as_ref().and_then(|fault| fault(&batch))
        };
        if let Some(error) = fault {
            return Err(error.into());
        }
        if self.hurries.load(Ordering::SeqCst) && batch.len() > 1 {
            let (first, others) = (batch[0].clone(), batch.len() - 1);
            let mut report = self
                .orchestrator
                .process_batch_with(vec![first], publisher, on_locked)
                .await?;
            let left = Outcome::Undecided(Undecided::OutOfTime);
            report.outcomes.extend(vec![left; others]);
            return Ok(report);
        }
        if self.away.load(Ordering::SeqCst) > 0 {
            self.away.fetch_sub(1, Ordering::SeqCst);
            let error = EventStoreError::Unavailable("the database is away".into());
            return Err(error.into());
        }
        if self.conflicting.load(Ordering::SeqCst) > 0 {
            self.conflicting.fetch_sub(1, Ordering::SeqCst);
            let error = EventStoreError::VersionConflict {
                task_id: batch[0].command.task_id(),
                expected: 1,
                actual: 2,
            };
            return Err(error.into());
        }
        let poison = *self.poison.lock().unwrap();
        let holds = |text: &str| {
            batch
                .iter()
                .any(|c| c.command.payload().to_string().contains(text))
        };
        assert!(!poison.is_some_and(holds), "poison");
        let silent = take_one(&self.silent);
        let mut batch = batch;
        if silent && take_one(&self.hasty) {
            batch.truncate(1);
        }
        let written = self
            .orchestrator
            .process_batch_with(batch, publisher, on_locked)
            .await;
        if silent {
            return Err(EventStoreError::CommitUnknown("no answer".into()).into());
        }
        let after = self.after.lock().unwrap().take();
        if let Some(after) = after {
            after.await;
        }
        written
    }

    async fn store_answers(&self) -> bool {
        self.answers.load(Ordering::SeqCst)
    }

    fn messages(&self) -> Arc<dyn MessageBuilder> {
        self.orchestrator.messages()
    }
}

/// A pipeline between an in-memory store and a fake broker.
pub(crate) struct World {
    pub(crate) broker: Arc<FakeBroker>,
    pub(crate) store: MemoryStore,
    pub(crate) engine: Arc<Unruly>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pipeline: PipelineHandle,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(PipelineSettings::default()).await
    }

    pub(crate) async fn with(settings: PipelineSettings) -> Self {
        Self::traced(settings, Traces::default()).await
    }

    pub(crate) async fn traced(settings: PipelineSettings, traces: Traces) -> Self {
        // The store uses the system clock, so that leases and waits expire while a test waits.
        let store = MemoryStore::with_clock(Arc::new(chrono::Utc::now));
        Self::on(store, settings, traces).await
    }

    pub(crate) async fn on(store: MemoryStore, settings: PipelineSettings, traces: Traces) -> Self {
        let shared = Arc::new(store.clone());
        let orchestrator = WorkflowOrchestrator::new(shared.clone(), shared.clone())
            .with_messages(Arc::new(CloudEventMessages::default()));
        orchestrator.create_workflow(DUAL).await.unwrap();
        let engine = Arc::new(Unruly::new(Arc::new(orchestrator)));
        let broker = FakeBroker::new();
        let metrics = Arc::new(Metrics::new().unwrap());
        let pipeline = Pipeline::start(PipelineParts {
            orchestrator: engine.clone(),
            store: shared,
            source: Some(broker.clone()),
            publisher: Some(broker.clone()),
            settings,
            metrics: Arc::clone(&metrics),
            failpoints: Failpoints::default(),
            traces,
        });
        Self {
            broker,
            store,
            engine,
            metrics,
            pipeline,
        }
    }

    pub(crate) async fn drain(&self) {
        assert!(
            self.pipeline.drain(Instant::now() + DEADLINE).await,
            "not drained in time"
        );
    }
}

/// The `n`-th task of a test.
pub(crate) fn task(n: u128) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes())
}

/// A submission by the `user`-th person, which starts its task.
pub(crate) fn submission(task_id: Uuid, step: &str, user: u128, label: &str) -> Value {
    let name = format!("{task_id}/{step}/{user}/{label}");
    json!({
        "type": "submission",
        "command_id": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        "task_id": task_id,
        "step_id": step,
        "annotation": {"user_id": Uuid::from_u128(user), "data": {"label": label}},
        "workflow": "sentiment-dual",
    })
}

/// An envelope, as HTTP builds it.
pub(crate) fn envelope(body: &Value) -> CommandEnvelope {
    let submission = serde_json::from_value(body.clone()).unwrap();
    let id: Uuid = body["command_id"].as_str().unwrap().parse().unwrap();
    CommandEnvelope::new(id, Command::Submission(submission))
}
