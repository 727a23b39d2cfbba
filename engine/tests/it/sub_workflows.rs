//! Sub-workflows: parents and children on one store, with the timers between them performed in any
//! order, twice, half, or late.

mod any_order;
mod failures;
mod lifecycle;
mod nesting;
mod overtaken;
mod pauses;

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    Effect, Outcome, WorkflowOrchestrator, WorkflowSnapshot,
    command::{
        AnnotationInput, Command, CommandEnvelope, Control, EffectOutcome, FireTimer,
        OperatorCommand, OperatorEnvelope, Pause, Start, Submission,
    },
    ids::{TaskId, UserId},
    store::{EventStore, MemoryStore, RecordedOutcome, Timer, TimerLane, TimerQueue},
    timer_command_id,
};
use serde_json::{Value, json};
use uuid::Uuid;

const EXTRACT: &str = "
workflow:
  id: extract
  steps:
    - { id: mark, type: annotation }
";

const NEST: &str = "
workflow:
  id: nest
  settings: { context: { project: p1 } }
  steps:
    - { id: triage, type: annotation, completion: { type: annotation_count, count: 2 } }
    - id: fields
      type: sub_workflow
      workflow: extract
      input_mapping: { text: input.text, kind: 'annotation.kind' }
      output_mapping: { fields: result.fields, by: $.resolved_by, nothing: result.none }
    - { id: link, type: annotation }
  transitions:
    - { from: triage, to: fields }
    - { from: fields, to: link }
";

const PARALLEL: &str = "
workflow:
  id: parallel
  settings: { allow_parallel_steps: true }
  steps:
    - { id: triage, type: annotation }
    - { id: left, type: sub_workflow, workflow: extract }
    - { id: right, type: sub_workflow, workflow: extract }
    - { id: check, type: review, join_mode: all }
  transitions:
    - { from: triage, to: left }
    - { from: triage, to: right }
    - { from: left, to: check }
    - { from: right, to: check }
    - { from: check, to: triage, condition: { type: expression, expression: \"result.decision == 'request_changes'\" }, loop: { max_iterations: 2, on_exhausted: _failed } }
    - { from: check, to: _complete, condition: { type: expression, expression: \"result.decision != 'request_changes'\" } }
";

const ROOT: TaskId = TaskId(Uuid::from_u128(0x7A5C));

/// Tasks on an in-memory store with a manual clock; timers run only when a test performs them.
struct Family {
    store: Arc<MemoryStore>,
    orchestrator: WorkflowOrchestrator,
    clock: Arc<Mutex<DateTime<Utc>>>,
    commands: u128,
}

/// The outcome of a notification to another task, as a worker passes it on.
fn told(outcome: Outcome) -> EffectOutcome {
    let failed = |error: String, is_final| EffectOutcome::Failed {
        error,
        is_final,
        retry_after: None,
    };
    match outcome {
        Outcome::Applied(_) | Outcome::Duplicate(RecordedOutcome::Applied { .. }) => {
            EffectOutcome::Done {
                output: Value::Null,
            }
        }
        Outcome::Undecided(undecided) => failed(format!("{undecided:?}"), false),
        other => failed(format!("{other:?}"), true),
    }
}

impl Family {
    async fn of(workflows: &[&str]) -> Self {
        let clock = Arc::new(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let read = Arc::clone(&clock);
        let store = Arc::new(MemoryStore::with_clock(Arc::new(move || {
            *read.lock().unwrap()
        })));
        let orchestrator = WorkflowOrchestrator::new(store.clone(), store.clone());
        for yaml in workflows {
            orchestrator.create_workflow(yaml).await.unwrap();
        }
        Self {
            store,
            orchestrator,
            clock,
            commands: 0,
        }
    }

    /// A family whose root task has been started and entered.
    async fn started(workflows: &[&str], root: &str) -> Self {
        let mut family = Self::of(workflows).await;
        family.start(root, json!({"text": "t"})).await;
        family
    }

    fn pass(&self, time: TimeDelta) {
        *self.clock.lock().unwrap() += time;
    }

    async fn run(&mut self, command: Command) -> Outcome {
        self.commands += 1;
        let id = Uuid::from_u128(0xC000_0000 + self.commands);
        self.envelope(CommandEnvelope::new(id, command)).await
    }

    async fn envelope(&self, envelope: CommandEnvelope) -> Outcome {
        let report = self.orchestrator.process_batch(vec![envelope], None).await;
        report.unwrap().outcomes.remove(0)
    }

    async fn start(&mut self, workflow: &str, input: Value) -> Outcome {
        self.run(Command::Start(Start {
            task_id: ROOT,
            workflow: workflow.parse().unwrap(),
            input: Some(input),
            labels: Some([("project".to_owned(), "p1".to_owned())].into()),
            expected: None,
        }))
        .await
    }

    async fn submit(&mut self, task: TaskId, step: &str, who: u128, data: Value) -> Outcome {
        self.submit_with(task, step, who, data, |_| {}).await
    }

    async fn submit_with(
        &mut self,
        task_id: TaskId,
        step: &str,
        who: u128,
        data: Value,
        change: impl FnOnce(&mut Submission),
    ) -> Outcome {
        let mut submission = Submission {
            task_id,
            step_id: Some(step.to_owned()),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id: user(who),
                data,
                decision: None,
                submitted_at: None,
                roles: None,
                confidence: None,
            },
            workflow: None,
        };
        change(&mut submission);
        self.run(Command::Submission(submission)).await
    }

    async fn control(&mut self, task_id: TaskId, command: fn(Control) -> Command) -> Outcome {
        let control = Control {
            task_id,
            step_id: None,
            reason: None,
        };
        self.run(command(control)).await
    }

    async fn pause(&mut self, task_id: TaskId, until: Option<DateTime<Utc>>) -> Outcome {
        let pause = Pause {
            task_id,
            step_id: None,
            reason: None,
            until,
        };
        self.run(Command::Pause(pause)).await
    }

    async fn operator_command(&mut self, operator_command: OperatorCommand) {
        self.commands += 1;
        let id = Uuid::from_u128(0xC000_0000 + self.commands);
        let operator_command = OperatorEnvelope::new(id, operator_command);
        self.orchestrator
            .operator_command(&*self.store, operator_command)
            .await
            .unwrap();
    }

    /// The rows that are due now, without claiming them.
    async fn rows(&self) -> Vec<Timer> {
        let lease = std::time::Duration::ZERO;
        let rows = self
            .store
            .claim_timers(TimerLane::Decisions, lease, 1_000)
            .await;
        rows.unwrap()
    }

    /// Performs the effect of a row, as a worker does.
    async fn effect(&self, row: &Timer) -> Option<EffectOutcome> {
        match self.orchestrator.effect_of(row).await.unwrap()? {
            Effect::Command(envelope) => Some(told(self.envelope(*envelope).await)),
            Effect::Call(call) => panic!("{call:?}"),
        }
    }

    /// Performs a row and settles it.
    async fn perform(&self, row: &Timer) -> Outcome {
        let outcome = self.effect(row).await;
        let row = row.clone();
        let id = timer_command_id(&row);
        let due = Command::FireTimer(FireTimer { row, outcome });
        self.envelope(CommandEnvelope::new(id, due)).await
    }

    /// Performs everything that is due, and what follows from it.
    async fn settle(&self) {
        for _ in 0..100 {
            let rows = self.rows().await;
            if rows.is_empty() {
                return;
            }
            for row in rows {
                self.perform(&row).await;
            }
        }
        panic!("timers never ends: {:?}", self.rows().await);
    }

    async fn state(&self, task: TaskId) -> WorkflowSnapshot {
        let state = self.orchestrator.get_task_state(task.0).await;
        state.unwrap().into_snapshot()
    }

    async fn exists(&self, task: TaskId) -> bool {
        self.orchestrator.get_task_state(task.0).await.is_ok()
    }

    async fn events(&self, task: TaskId) -> Vec<&'static str> {
        let page = self.store.events(task, 0, 1_000).await.unwrap();
        page.events.iter().map(|e| e.event.event_type()).collect()
    }

    /// The events of a task after the first `skip`, as one line.
    async fn story(&self, task: TaskId, skip: usize) -> String {
        self.events(task).await[skip..].join(", ")
    }

    /// The last child requested by the last visit of a step.
    async fn child(&self, step: &str) -> TaskId {
        let state = self.state(ROOT).await;
        let child = state.current_visit(step).unwrap().child.as_ref();
        child.expect("the visit has a child").task_id
    }

    /// Two people pass `triage` of [`NEST`].
    async fn triage(&mut self) {
        self.submit(ROOT, "triage", 1, json!({"kind": "letter"}))
            .await;
        self.submit(ROOT, "triage", 2, json!({"kind": "invoice"}))
            .await;
    }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(0xA000 + n))
}

fn code(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied(result) => serde_json::to_value(result).unwrap()["status"].to_string(),
        Outcome::Rejected(rejection) => rejection.code.to_string(),
        other => format!("{other:?}"),
    }
    .replace('"', "")
}
