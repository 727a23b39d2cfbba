//! Benchmarks what a command costs without any service: reading it, deciding it, folding its events,
//! writing them, and replaying a long stream.
//!
//! Run with `cargo bench -p glyph-workflow-engine --bench road`.

use std::hint::black_box;

use chrono::DateTime;
use criterion::{Criterion, criterion_group, criterion_main};
use glyph_workflow_engine::{
    DecideContext, HandlerRegistry, StateRebuilder, WorkflowSnapshot,
    command::{AnnotationInput, Assign, Command, CommandEnvelope, Release, Start, Submission},
    config::Sampling,
    decide,
    events::StoredEvent,
    executor::annotators::Annotators,
    ids::{CommandId, LogId, TaskId, UserId, WorkflowSelector},
    parse_workflow,
    transition::CompiledWorkflow,
};
use serde_json::json;
use uuid::Uuid;

const WORKFLOW: &str = "
workflow:
  id: road
  steps:
    - id: annotate
      type: annotation
      answer: { field: label, kind: category, values: [cat, dog] }
";
/// Events of the long stream.
const LONG: usize = 1_000;

struct Road {
    workflow: CompiledWorkflow,
    handlers: HandlerRegistry,
    commands: u128,
}

impl Road {
    fn new() -> Self {
        let config = parse_workflow(WORKFLOW).expect("it is valid");
        let workflow = CompiledWorkflow::new(config.into(), "road".to_owned());
        Self {
            workflow: workflow.expect("it compiles"),
            handlers: HandlerRegistry::built_in(),
            commands: 0,
        }
    }

    fn decide(
        &mut self,
        state: Option<&WorkflowSnapshot>,
        command: Command,
    ) -> (Vec<StoredEvent>, Option<WorkflowSnapshot>) {
        self.commands += 1;
        let named = command.workflow().map(|_| &self.workflow);
        let id = CommandId(Uuid::from_u128(self.commands));
        let context = DecideContext {
            log: LogId::default(),
            workflow: state.map(|_| &self.workflow),
            named,
            handlers: &self.handlers,
            annotators: Annotators::default(),
            sampling: Sampling::default(),
            now: DateTime::UNIX_EPOCH,
            pauses: &[],
        };
        let decision = decide(state, &CommandEnvelope::new(id, command), &context);
        (decision.events, decision.state)
    }
}

fn task() -> TaskId {
    TaskId(Uuid::from_u128(1))
}

fn start() -> Command {
    Command::Start(Start {
        task_id: task(),
        workflow: WorkflowSelector::Latest("road".parse().expect("it is a slug")),
        input: Some(
            json!({"text": "a text of some eighty characters, as many items to label have one"}),
        ),
        labels: None,
        expected: None,
    })
}

fn submission() -> Command {
    Command::Submission(Submission {
        task_id: task(),
        step_id: Some("annotate".to_owned()),
        annotation: AnnotationInput {
            annotation_id: None,
            user_id: UserId(Uuid::from_u128(7)),
            data: json!({"label": "cat"}),
            roles: None,
            confidence: None,
            decision: None,
            submitted_at: None,
        },
        workflow: None,
    })
}

/// A place is given and taken back until the stream is long.
fn long_stream(road: &mut Road) -> Vec<StoredEvent> {
    let (mut events, mut state) = road.decide(None, start());
    let user_id = UserId(Uuid::from_u128(7));
    while events.len() < LONG {
        let assign = Command::Assign(Assign {
            task_id: task(),
            step_id: None,
            user_id,
            roles: None,
            offered: None,
        });
        let release = Command::Release(Release {
            task_id: task(),
            step_id: None,
            user_id,
            reason: None,
        });
        for command in [assign, release] {
            let (more, next) = road.decide(state.as_ref(), command);
            assert!(!more.is_empty(), "the command is applied");
            events.extend(more);
            state = next;
        }
    }
    events
}

fn commands(criterion: &mut Criterion) {
    let mut road = Road::new();
    let (_, started) = road.decide(None, start());
    let mut group = criterion.benchmark_group("a command");
    group.bench_function("decide a start", |b| {
        b.iter(|| black_box(road.decide(None, start())));
    });
    group.bench_function("decide a submission that ends the task", |b| {
        b.iter(|| black_box(road.decide(started.as_ref(), submission())));
    });
    let (events, _) = road.decide(started.as_ref(), submission());
    group.bench_function("encode its events", |b| {
        b.iter(|| {
            let encode = |event: &StoredEvent| serde_json::to_string(event).expect("it is data");
            black_box(events.iter().map(encode).collect::<Vec<_>>())
        });
    });
    let encoded: Vec<String> = events
        .iter()
        .map(|event| serde_json::to_string(&event.event).expect("it is data"))
        .collect();
    group.bench_function("parse its events", |b| {
        b.iter(|| {
            let parse = |text: &String| {
                serde_json::from_str::<glyph_workflow_engine::WorkflowEvent>(text)
                    .expect("it is one")
            };
            black_box(encoded.iter().map(parse).collect::<Vec<_>>())
        });
    });
    group.bench_function("read a workflow", |b| {
        b.iter(|| black_box(parse_workflow(WORKFLOW)));
    });
    group.finish();
}

fn streams(criterion: &mut Criterion) {
    let mut road = Road::new();
    let events = long_stream(&mut road);
    let mut group = criterion.benchmark_group("a stream of a thousand events");
    group.bench_function("replay", |b| {
        b.iter(|| black_box(StateRebuilder::rebuild(&events)));
    });
    let (early, late) = events.split_at(events.len() - 50);
    let snapshot = StateRebuilder::rebuild(early)
        .expect("it replays")
        .expect("it exists");
    let snapshot = serde_json::to_string(&snapshot).expect("it is data");
    group.bench_function("read a snapshot and the last fifty", |b| {
        b.iter(|| {
            let state = serde_json::from_str(&snapshot).expect("it is one");
            let mut rebuilder = StateRebuilder::from_snapshot(state);
            for event in late {
                rebuilder.apply(event).expect("it follows");
            }
            black_box(rebuilder.finish())
        });
    });
    group.finish();
}

criterion_group!(benches, commands, streams);
criterion_main!(benches);
