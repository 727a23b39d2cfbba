//! Measures a backtest: time for a task, and memory for tasks that are open at a time.
//!
//! ```text
//! cargo run --release --example backtest_speed [-- TASKS]
//! ```
//!
//! Records a simulated crowd with five annotations a task (default 20,000 tasks), all tasks started
//! first, and decides the recording again by confidence. No store is read: what a store costs comes
//! on top.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program: it reads its arguments and the clock, and prints"
)]

use std::{env, fs, time::Instant};

use chrono::DateTime;
use glyph_workflow_engine::{
    DecideContext, HandlerRegistry, WorkflowSnapshot,
    backtest::{Backtest, BacktestOptions, change_settings, read_setting},
    command::{AnnotationInput, Command, CommandEnvelope, Start, Submission},
    config::{Sampling, StepLibrary},
    decide,
    events::{LogPosition, StoredEvent},
    executor::annotators::Annotators,
    ids::{CommandId, LogId, TaskId, UserId, WorkflowSelector},
    parse_workflow,
    reliability::simulation::Crowd,
    store::LogPage,
    transition::CompiledWorkflow,
};
use serde_json::json;
use uuid::Uuid;

const LABELS: usize = 5;
/// Tasks that are annotated at a time.
const OPEN: usize = 200;

/// Decides the commands of the recording.
struct Recorder {
    workflow: CompiledWorkflow,
    handlers: HandlerRegistry,
    commands: u128,
}

impl Recorder {
    fn run(&mut self, state: &mut Option<WorkflowSnapshot>, command: Command) -> Vec<StoredEvent> {
        self.commands += 1;
        let named = command.workflow().map(|_| &self.workflow);
        let id = CommandId(Uuid::from_u128(self.commands));
        let context = DecideContext {
            log: LogId::default(),
            workflow: state.is_some().then_some(&self.workflow),
            named,
            handlers: &self.handlers,
            annotators: Annotators::default(),
            sampling: Sampling::default(),
            now: DateTime::UNIX_EPOCH,
            pauses: &[],
        };
        let decision = decide(state.as_ref(), &CommandEnvelope::new(id, command), &context);
        *state = decision.state;
        decision.events
    }
}

/// Megabytes of memory in use, where the system says so.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks: usize = env::args().nth(1).map_or(Ok(20_000), |text| text.parse())?;
    let config = parse_workflow(
        "workflow:
  id: speed
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 5 }
      answer: { field: label, kind: category, values: ['0', '1'] }
      consensus: { threshold: 0 }
  transitions:
    - { from: annotate, to: _complete }
",
    )?;
    let settings = [
        read_setting("completion={type: confidence, target: 0.95, min: 2, max: 5}")?,
        read_setting("consensus=null")?,
    ];
    let changed = change_settings(&config, &settings, &StepLibrary::built_in(), &[])?;
    let mut recorder = Recorder {
        workflow: CompiledWorkflow::new(config.into(), "speed".to_owned())?,
        handlers: HandlerRegistry::built_in(),
        commands: 0,
    };
    let crowd = Crowd {
        items: tasks,
        labels: LABELS,
        ..Crowd::default()
    };
    let crowd = crowd.label(1);
    let registry = HandlerRegistry::built_in();
    let mut backtest = Backtest::new(changed, registry, BacktestOptions::default())?;
    let (mut position, mut seconds) = (0_i64, 0.0);
    let mut read = |backtest: &mut Backtest, events: Vec<StoredEvent>| {
        let entries: Vec<_> = events
            .into_iter()
            .map(|event| {
                position += 1;
                let at = LogPosition { entry: 0, position };
                (at, event)
            })
            .collect();
        let page = LogPage {
            read: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            entries,
            ..LogPage::default()
        };
        let began = Instant::now();
        backtest.read(&page);
        seconds += began.elapsed().as_secs_f64();
    };
    let task = |n: usize| TaskId(Uuid::from_u128(n as u128 + 1));
    let start = |n: usize| {
        Command::Start(Start {
            task_id: task(n),
            workflow: WorkflowSelector::Latest("speed".parse().expect("it is a slug")),
            input: Some(
                json!({"text": format!("item {n}, with a text of some eighty characters, as many items have one")}),
            ),
            labels: None,
            expected: None,
        })
    };
    let before = memory();
    for n in 0..tasks {
        let events = recorder.run(&mut None, start(n));
        read(&mut backtest, events);
    }
    println!(
        "{tasks} tasks started: {} MB more",
        memory().saturating_sub(before)
    );
    for block in (0..tasks).collect::<Vec<_>>().chunks(OPEN) {
        let mut states: Vec<Option<WorkflowSnapshot>> = Vec::new();
        for n in block {
            let mut state = None;
            recorder.run(&mut state, start(*n));
            states.push(state);
        }
        for round in 0..LABELS {
            for (n, state) in block.iter().zip(&mut states) {
                let (annotator, class) = crowd.labels[*n][round];
                let submission = Submission {
                    task_id: task(*n),
                    step_id: None,
                    annotation: AnnotationInput {
                        annotation_id: None,
                        user_id: UserId(Uuid::from_u128(annotator as u128 + 1)),
                        data: json!({"label": class.to_string()}),
                        decision: None,
                        submitted_at: None,
                        roles: None,
                        confidence: None,
                    },
                    workflow: None,
                };
                let events = recorder.run(state, Command::Submission(submission));
                read(&mut backtest, events);
            }
        }
    }
    let began = Instant::now();
    let report = backtest.finish(true);
    seconds += began.elapsed().as_secs_f64();
    println!(
        "{} recorded annotations, {} simulated, {:?} open: {seconds:.1} s, {:.1} us a task",
        report.recorded.annotations,
        report.simulated.annotations,
        report.open.tasks,
        seconds / tasks as f64 * 1e6
    );
    Ok(())
}
