//! The orchestrator on an in-memory store: batches, duplicates, races, revisions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use glyph_workflow_engine::{
    FactSource, OrchestrationError, Outcome, ProcessResult, SystemFacts, WorkflowOrchestrator,
    WorkflowSnapshot,
    command::{
        AnnotationInput, Command, CommandEnvelope, Dead, Migrate, OperatorCommand,
        OperatorEnvelope, RejectionCode, Start, Submission, Undecided,
    },
    events::WorkflowEvent,
    executor::{AnnotationData, HandlerInput, HandlerRegistry},
    ids::{TaskId, UserId, WorkflowSelector},
    pauses_of,
    state::TaskStatus,
    store::{EventStore, EventStoreError, MemoryStore, OperatorLog, RecordedOutcome},
};
use serde_json::{Value, json};
use uuid::Uuid;

const YAML: &str = "
workflow:
  id: five
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 5 }
      consensus: { field: label, on_disagreement: { strategy: majority_vote } }
";

fn orchestrator() -> (Arc<MemoryStore>, WorkflowOrchestrator) {
    let store = Arc::new(MemoryStore::new());
    (
        Arc::clone(&store),
        WorkflowOrchestrator::new(store.clone(), store),
    )
}

fn task(n: u128) -> TaskId {
    TaskId(Uuid::from_u128(0x7000 + n))
}

fn submission(command: u128, of: TaskId, who: u128, label: &str) -> CommandEnvelope {
    CommandEnvelope::new(
        Uuid::from_u128(0xC000 + command),
        Command::Submission(Submission {
            task_id: of,
            step_id: Some("annotate".to_owned()),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id: UserId(Uuid::from_u128(0xA000 + who)),
                data: json!({"label": label}),
                decision: None,
                submitted_at: None,
                roles: None,
                confidence: None,
            },
            workflow: Some("five".parse().unwrap()),
        }),
    )
}

async fn completions(store: &MemoryStore, of: TaskId) -> usize {
    let page = store.events(of, 0, 1_000).await.unwrap();
    let ends = |e: &&glyph_workflow_engine::events::StoredEvent| {
        matches!(e.event, WorkflowEvent::StepCompleted { .. })
    };
    page.events.iter().filter(ends).count()
}

#[tokio::test]
async fn a_batch_chains_the_commands_of_a_task() {
    let (store, orchestrator) = orchestrator();
    orchestrator.create_workflow(YAML).await.unwrap();
    let batch = (0..12)
        .map(|n| submission(n, task(n % 2), n / 2, "a"))
        .collect();
    let report = orchestrator.process_batch(batch, None).await.unwrap();
    let names: Vec<_> = report.outcomes.iter().map(Outcome::name).collect();
    assert_eq!(names[..10], ["applied"; 10]);
    let surplus = |outcome: &Outcome| matches!(outcome, Outcome::Rejected(r) if r.code == RejectionCode::Surplus);
    assert!(
        report.outcomes[10..].iter().all(surplus),
        "{:?}",
        &report.outcomes[10..]
    );
    assert!(matches!(
        report.outcomes[8],
        Outcome::Applied(ProcessResult::Completed { .. })
    ));
    assert_eq!(completions(&store, task(0)).await, 1);
}

#[tokio::test]
async fn two_copies_of_an_id_in_one_batch_are_one_command() {
    let (_, orchestrator) = orchestrator();
    orchestrator.create_workflow(YAML).await.unwrap();
    let one = submission(1, task(1), 1, "a");
    let report = orchestrator
        .process_batch(vec![one.clone(), one.clone()], None)
        .await
        .unwrap();
    assert!(matches!(&report.outcomes[0], Outcome::Applied(_)));
    let Outcome::Duplicate(RecordedOutcome::Applied { result }) = &report.outcomes[1] else {
        panic!("{:?}", report.outcomes[1]);
    };
    assert_eq!(result["status"], "waiting");
    // Also in a later batch, with the first outcome.
    let again = orchestrator.process_batch(vec![one], None).await.unwrap();
    assert_eq!(again.outcomes[0], report.outcomes[1]);
    assert!(again.stats.events.is_empty());
}

#[tokio::test]
async fn an_id_with_other_content_is_refused() {
    let (_, orchestrator) = orchestrator();
    orchestrator.create_workflow(YAML).await.unwrap();
    let reused = submission(1, task(1), 1, "b");
    let batch = vec![submission(1, task(1), 1, "a"), reused.clone()];
    let report = orchestrator.process_batch(batch, None).await.unwrap();
    assert_eq!(report.outcomes[1], Outcome::Dead(Dead::CommandIdReused));
    let later = orchestrator
        .process_batch(vec![reused], None)
        .await
        .unwrap();
    assert_eq!(later.outcomes[0], Outcome::Dead(Dead::CommandIdReused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racers_complete_a_step_once() {
    let (store, first) = orchestrator();
    let second = Arc::new(WorkflowOrchestrator::new(store.clone(), store.clone()));
    let first = Arc::new(first);
    first.create_workflow(YAML).await.unwrap();
    let racers = (0..50_u128).map(|who| {
        let racer = Arc::clone(if who % 2 == 0 { &first } else { &second });
        tokio::spawn(async move {
            let one = submission(100 + who, task(9), who, "a");
            racer
                .process_batch(vec![one], None)
                .await
                .unwrap()
                .outcomes
                .remove(0)
        })
    });
    let mut applied = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Outcome::Applied(_) => applied += 1,
            Outcome::Rejected(r) => assert_eq!(r.code, RejectionCode::Surplus),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(applied, 5, "exactly `count` are used");
    assert_eq!(completions(&store, task(9)).await, 1);
}

#[tokio::test]
async fn revisions_are_pinned() {
    let (_, orchestrator) = orchestrator();
    let one = orchestrator.create_workflow(YAML).await.unwrap();
    assert_eq!((one.revision, one.id.as_str()), (1, "five"));
    let same = orchestrator.create_workflow(YAML).await.unwrap();
    assert_eq!(
        same.revision_id, one.revision_id,
        "the same content is the same revision"
    );
    orchestrator
        .start_task(task(1).0, one.revision_id.0)
        .await
        .unwrap();

    let two = orchestrator
        .create_workflow(&YAML.replace("count: 5", "count: 1"))
        .await
        .unwrap();
    assert_eq!(two.revision, 2);
    let report = orchestrator
        .process_batch(
            vec![
                submission(1, task(1), 1, "a"),
                submission(2, task(2), 1, "a"),
            ],
            None,
        )
        .await
        .unwrap();
    assert!(matches!(
        report.outcomes[0],
        Outcome::Applied(ProcessResult::Waiting { .. })
    ));
    assert!(matches!(
        report.outcomes[1],
        Outcome::Applied(ProcessResult::Completed { .. })
    ));
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let (_, orchestrator) = orchestrator();
    let one = orchestrator.create_workflow(YAML).await.unwrap();
    let missing = Uuid::from_u128(5);
    assert!(matches!(
        orchestrator.start_task(task(1).0, missing).await,
        Err(OrchestrationError::ConfigNotFound(id)) if id == missing
    ));
    assert!(matches!(
        orchestrator.get_task_state(missing).await,
        Err(OrchestrationError::TaskNotFound(_))
    ));
    assert!(matches!(
        orchestrator.advance_task(missing).await,
        Err(OrchestrationError::Undecided(Undecided::TaskNotFound))
    ));
    orchestrator
        .start_task(task(1).0, one.revision_id.0)
        .await
        .unwrap();
    assert!(matches!(
        orchestrator.start_task(task(1).0, one.revision_id.0).await,
        Err(OrchestrationError::Rejected(r)) if r.code == RejectionCode::AlreadyStarted
    ));
    let state = orchestrator.state_at(task(1).0, Some(1)).await.unwrap();
    assert_eq!((state.version(), state.status()), (1, TaskStatus::Running));
    assert!(matches!(
        orchestrator.state_at(task(1).0, Some(99)).await,
        Err(OrchestrationError::VersionNotFound {
            version: 2,
            wanted: 99,
            ..
        })
    ));
}

#[tokio::test]
async fn a_panic_is_one_commands_own() {
    let (_, orchestrator) = orchestrator();
    let mut handlers = HandlerRegistry::built_in();
    handlers.register(
        "explode",
        Arc::new(|input: &HandlerInput<'_>| {
            assert_ne!(
                input.context.state.input,
                Some(Value::from("boom")),
                "told to"
            );
            Ok(glyph_workflow_engine::executor::HandlerOutput::value(
                json!("fine"),
            ))
        }),
    );
    let orchestrator = orchestrator.with_handlers(handlers);
    orchestrator
        .create_workflow(
            "workflow: { id: fragile, steps: [{ id: work, type: auto_process, handler: explode }] }",
        )
        .await
        .unwrap();
    let start = |n: u128, input: &str| {
        CommandEnvelope::new(
            Uuid::from_u128(n),
            Command::Start(Start {
                task_id: task(n),
                workflow: WorkflowSelector::Latest("fragile".parse().unwrap()),
                input: Some(json!(input)),
                labels: None,
                expected: None,
            }),
        )
    };
    let batch = vec![start(1, "a"), start(2, "boom"), start(3, "b")];
    let report = orchestrator.process_batch(batch, None).await.unwrap();
    let names: Vec<_> = report.outcomes.iter().map(Outcome::name).collect();
    assert_eq!(names, ["applied", "undecided", "applied"]);
}

/// A stopwatch that goes on by a step each time it is read.
#[derive(Debug)]
struct Slow {
    started: Instant,
    step: Duration,
    reads: AtomicU32,
}

impl Slow {
    fn new(step: Duration) -> Arc<Self> {
        Arc::new(Self {
            started: SystemFacts.stopwatch(),
            step,
            reads: AtomicU32::new(0),
        })
    }
}

impl FactSource for Slow {
    fn new_id(&self) -> Uuid {
        Uuid::nil()
    }

    fn stopwatch(&self) -> Instant {
        let reads = self.reads.fetch_add(1, Ordering::SeqCst);
        self.started + self.step * reads
    }
}

#[tokio::test]
async fn what_a_batch_has_no_time_for_is_left_for_the_next_one() {
    let (_, orchestrator) = orchestrator();
    let orchestrator = orchestrator.with_facts(Slow::new(Duration::from_secs(1)));
    orchestrator.create_workflow(YAML).await.unwrap();
    let mut batch: Vec<_> = (0..3).map(|n| submission(n, task(n), n, "yes")).collect();
    batch.push(submission(3, task(0), 3, "yes"));
    let all = batch.clone();
    for left in (0..4).rev() {
        let report = orchestrator.process_batch(batch.clone(), None).await;
        let outcomes = report.unwrap().outcomes;
        assert!(matches!(outcomes[0], Outcome::Applied(_)), "{outcomes:?}");
        assert_eq!(
            outcomes[1..],
            vec![Outcome::Undecided(Undecided::OutOfTime); left]
        );
        batch.remove(0);
    }
    let again = orchestrator.process_batch(all, None).await.unwrap();
    let names: Vec<_> = again.outcomes.iter().map(Outcome::name).collect();
    assert_eq!(names, ["duplicate"; 4]);
}

#[tokio::test]
async fn a_decision_that_is_too_slow_is_named_and_tried_alone() {
    let (_, orchestrator) = orchestrator();
    let orchestrator = orchestrator.with_facts(Slow::new(Duration::from_secs(9)));
    orchestrator.create_workflow(YAML).await.unwrap();
    let batch = vec![
        submission(1, task(1), 1, "yes"),
        submission(2, task(2), 1, "yes"),
    ];
    let refused = orchestrator.process_batch(batch.clone(), None).await;
    let Err(OrchestrationError::EventStoreError(EventStoreError::Hindered { tasks, .. })) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(tasks, [task(1)].into());
    let alone = orchestrator.process_batch(batch[..1].to_vec(), None).await;
    assert!(matches!(alone.unwrap().outcomes[0], Outcome::Applied(_)));
}

#[tokio::test]
async fn snapshots_are_taken_and_a_long_task_loads() {
    let (_, orchestrator) = orchestrator();
    let yaml = YAML.replace("count: 5", "count: 120");
    let workflow = orchestrator.create_workflow(&yaml).await.unwrap();
    orchestrator
        .start_task(task(1).0, workflow.revision_id.0)
        .await
        .unwrap();
    let mut snapshots = 0;
    for who in 0..119 {
        let one = submission(1_000 + who, task(1), who, "a");
        snapshots += orchestrator
            .process_batch(vec![one], None)
            .await
            .unwrap()
            .stats
            .snapshots;
    }
    assert_eq!(snapshots, 2, "at versions 50 and 100");
    let state = orchestrator.get_task_state(task(1).0).await.unwrap();
    assert_eq!(state.version(), 121);
    let last = AnnotationData::new(
        Uuid::from_u128(1),
        Uuid::from_u128(2),
        json!({"label": "a"}),
    );
    let end = orchestrator
        .process_submission(task(1).0, "annotate", last)
        .await
        .unwrap();
    assert!(matches!(end, ProcessResult::Completed { .. }));
}

#[tokio::test]
async fn a_running_task_moves_to_another_revision() {
    let (_, orchestrator) = orchestrator();
    orchestrator.create_workflow(YAML).await.unwrap();
    let first = vec![
        submission(1, task(1), 1, "a"),
        submission(2, task(1), 2, "a"),
    ];
    orchestrator.process_batch(first, None).await.unwrap();
    let migrate = |n: u128, to: &str, steps: &[(&str, &str)]| {
        CommandEnvelope::new(
            Uuid::from_u128(0xE000 + n),
            Command::Migrate(Migrate {
                task_id: task(1),
                to: to.parse().unwrap(),
                steps: steps
                    .iter()
                    .map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
                    .collect(),
            }),
        )
    };
    let renamed = YAML
        .replace("id: annotate", "id: label")
        .replace("count: 5", "count: 3");
    orchestrator.create_workflow(&renamed).await.unwrap();
    let run = async |command| {
        orchestrator
            .process_batch(vec![command], None)
            .await
            .unwrap()
            .outcomes
            .remove(0)
    };
    assert!(matches!(
        run(migrate(1, "five@2", &[])).await,
        Outcome::Rejected(r) if r.code == RejectionCode::MigrationUnmapped
    ));
    assert!(matches!(
        run(migrate(2, "five@9", &[])).await,
        Outcome::Dead(Dead::WorkflowNotFound(_))
    ));
    assert!(matches!(
        run(migrate(3, "five@2", &[("annotate", "label")])).await,
        Outcome::Applied(ProcessResult::Waiting { step_id, .. }) if step_id == "label"
    ));
    let state = orchestrator.get_task_state(task(1).0).await.unwrap();
    assert_eq!(state.snapshot().workflow.revision, 2);
    let visit = state.snapshot().current_visit("label").unwrap();
    assert_eq!(
        (visit.annotations.len(), visit.slots),
        (2, Some(3)),
        "the work moved along"
    );

    // A revision that requires no more submissions than there are completes the task.
    orchestrator
        .create_workflow(&renamed.replace("count: 3", "count: 2"))
        .await
        .unwrap();
    assert!(matches!(
        run(migrate(4, "five", &[])).await,
        Outcome::Applied(ProcessResult::Completed { .. })
    ));
    let replayed = orchestrator.state_at(task(1).0, Some(6)).await.unwrap();
    assert_eq!(replayed.version(), 6);
}

#[tokio::test]
async fn a_pause_that_runs_out_is_ended_once_and_not_if_it_was_prolonged() {
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let reading = Arc::clone(&clock);
    let store = Arc::new(MemoryStore::with_clock(Arc::new(move || {
        let seconds = reading.load(Ordering::Relaxed);
        chrono::DateTime::from_timestamp(seconds, 0).unwrap()
    })));
    let orchestrator = WorkflowOrchestrator::new(store.clone(), store.clone());
    orchestrator.create_workflow(YAML).await.unwrap();
    let pause = |command: u128, until: i64| {
        let operator_command = OperatorCommand::WorkflowPause {
            workflow: "five".parse().unwrap(),
            reason: None,
            until: chrono::DateTime::from_timestamp(until, 0),
        };
        let (orchestrator, store) = (&orchestrator, &store);
        async move {
            let envelope = OperatorEnvelope::new(Uuid::from_u128(command), operator_command);
            orchestrator
                .operator_command(&**store, envelope)
                .await
                .unwrap()
        }
    };
    let is_applied = |outcome: RecordedOutcome| matches!(outcome, RecordedOutcome::Applied { .. });
    assert!(is_applied(pause(1, 100).await));
    let open = store.workflow_pauses().await.unwrap();
    assert_eq!((open.active.len(), open.expired.len()), (1, 0));
    let lapsed = OperatorEnvelope::of_lapsed(&open.active[0]).unwrap();

    // Extended before its expiry was recorded: the pause continues, with its original start.
    assert!(is_applied(pause(2, 200).await));
    clock.store(150, Ordering::Relaxed);
    let outcome = orchestrator
        .operator_command(&*store, lapsed)
        .await
        .unwrap();
    assert!(!is_applied(outcome));
    let open = store.workflow_pauses().await.unwrap();
    assert_eq!(open.active[0].since.timestamp(), 0);

    clock.store(300, Ordering::Relaxed);
    let open = store.workflow_pauses().await.unwrap();
    assert_eq!((open.active.len(), open.expired.len()), (0, 1));
    let lapsed = OperatorEnvelope::of_lapsed(&open.expired[0]).unwrap();
    assert!(is_applied(
        orchestrator
            .operator_command(&*store, lapsed.clone())
            .await
            .unwrap()
    ));
    assert!(is_applied(
        orchestrator
            .operator_command(&*store, lapsed)
            .await
            .unwrap()
    ));
    let derived = pauses_of(&store.operator_commands().await.unwrap()).workflows;
    assert_eq!(derived.len(), 1);
    assert_eq!(derived[0].ended_at.map(|at| at.timestamp()), Some(200));
    assert_eq!(store.operator_commands().await.unwrap().len(), 3);
}

/// A preview is the same decision under the same locks: what it predicts happens, and the preview
/// itself changes nothing.
#[tokio::test]
async fn what_a_preview_says_is_what_happens() {
    let (store, orchestrator) = orchestrator();
    orchestrator.create_workflow(YAML).await.unwrap();
    for (n, people) in [(1, 1), (2, 2), (3, 5)] {
        let work = (1..=people).map(|who| submission(n * 10 + who, task(n), who, "a"));
        orchestrator
            .process_batch(work.collect(), None)
            .await
            .unwrap();
    }
    let fewer = YAML.replace("count: 5", "count: 2");
    orchestrator.create_workflow(&fewer).await.unwrap();
    let commands: Vec<CommandEnvelope> = (1..=4)
        .map(|n| {
            let migrate = Command::Migrate(Migrate {
                task_id: task(n),
                to: "five@2".parse().unwrap(),
                steps: [].into(),
            });
            CommandEnvelope::new(Uuid::from_u128(0xF000 + n), migrate)
        })
        .collect();
    let foretold = orchestrator.preview(commands.clone()).await.unwrap();
    let counts: Vec<usize> = foretold
        .iter()
        .map(|preview| preview.events.len())
        .collect();
    // One moves, one is already there, one has ended, one does not exist.
    assert_eq!(counts, [1, 4, 0, 0]);
    let report = orchestrator.process_batch(commands, None).await.unwrap();
    for (n, (preview, outcome)) in (1..).zip(foretold.into_iter().zip(report.outcomes)) {
        assert_eq!(preview.outcome, outcome, "{n}");
        // The clock has advanced since.
        let page = store.events(task(n), 0, 1_000).await.unwrap();
        let last = page.events.iter().rev().take(preview.events.len()).rev();
        assert!(
            preview
                .events
                .iter()
                .map(|e| &e.event)
                .eq(last.map(|e| &e.event)),
            "{n}"
        );
        let state = store.load(&[task(n)]).await.unwrap().remove(&task(n));
        let version = |state: Option<WorkflowSnapshot>| state.map(|state| state.version);
        assert_eq!(version(preview.state), version(state), "{n}");
    }
}

#[tokio::test]
async fn settings_of_a_built_in_handler_are_checked_unless_the_program_has_replaced_it() {
    const MISSPELT: &str = "workflow:
  id: ending
  steps: [{ id: end, type: auto_process, handler: finalize, config: { feilds: [label] } }]
";
    let (_, orchestrator) = orchestrator();
    let refused = orchestrator.create_workflow(MISSPELT).await.unwrap_err();
    assert!(
        matches!(&refused, OrchestrationError::ParseError(faults)
            if faults.diagnostics[0].suggestion.as_deref() == Some("did you mean `fields`?")),
        "{refused:?}"
    );
    let mut handlers = HandlerRegistry::built_in();
    let own = |_: &HandlerInput<'_>| {
        Ok(glyph_workflow_engine::executor::HandlerOutput::value(
            json!("end"),
        ))
    };
    handlers.register("finalize", Arc::new(own));
    let orchestrator = orchestrator.with_handlers(handlers);
    orchestrator.create_workflow(MISSPELT).await.unwrap();
}
