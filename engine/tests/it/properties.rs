//! Properties of every sequence of commands: no panic, replay equals live (checked by the scenario
//! after every command), and one completion for each visit.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use glyph_workflow_engine::{
    WorkflowSnapshot,
    backtest::UnknownKind,
    command::{Command, EffectOutcome},
    events::WorkflowEvent,
    ids::StepId,
    state::TaskStatus,
};
use proptest::prelude::*;
use serde_json::json;

use crate::{backtest, scenario::Scenario};

pub(crate) const WORKFLOWS: [&str; 6] = [
    "workflow: { id: dual, template: multi_adjudication, overrides: { steps: { annotate: { consensus: { field: label } } } } }",
    "workflow: { id: refine, template: iterative_refinement }",
    "
workflow:
  id: routed
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3, min_required: 1, timeout: 1h, timeout_action: proceed }
      consensus: { field: label, metric: krippendorff_alpha, threshold: 0.5, on_disagreement: { strategy: majority_vote } }
    - { id: ask, type: conditional, condition: { expression: 'size(annotation.label) > 0' } }
    - { id: done, type: auto_process, handler: finalize }
    - { id: review, type: review }
  transitions:
    - { from: annotate, to: ask, condition: { type: on_agreement } }
    - { from: annotate, to: review, condition: { type: on_disagreement } }
    - { from: ask, to: done, condition: { type: expression, expression: 'result.decision == \"true\"' } }
    - { from: ask, to: review, condition: { type: expression, expression: 'result.decision == \"false\"' } }
    - { from: review, to: annotate, condition: { type: on_disagreement }, loop: { max_iterations: 2 } }
    - { from: review, to: done, condition: { type: on_agreement } }
    - { from: done, to: _complete }
",
    "
workflow:
  id: calling
  settings: { allow_parallel_steps: true, max_retries: 1 }
  steps:
    - { id: annotate, type: annotation, consensus: { field: label } }
    - { id: call, type: auto_process, handler: webhook, config: { url: 'https://a.org' } }
    - { id: job, type: auto_process, handler: queue, on_error: skip, completion: { type: auto, timeout: 10m } }
    - { id: done, type: auto_process, handler: result_merger, join_timeout: 1h }
  transitions:
    - { from: annotate, to: call }
    - { from: annotate, to: job }
    - { from: call, to: done }
    - { from: job, to: done }
",
    "
workflow:
  id: hooked
  settings: { max_retries: 1 }
  steps:
    - id: annotate
      type: annotation
      field: label
      completion: { type: annotation_count, count: 2, min_required: 1, timeout: 1h }
      hooks:
        pre_process: [{ handler: queue, timeout: 10m }, { handler: webhook, config: { url: 'https://a.org' } }]
        on_start: [{ handler: webhook, config: { url: 'https://a.org' } }]
        post_process: [{ handler: webhook, config: { url: 'https://a.org' } }, finalize]
        on_complete: [{ handler: webhook, config: { url: 'https://a.org' } }, queue]
    - id: review
      type: review
      on_error: skip
      hooks: { pre_process: [finalize, { handler: webhook, config: { url: 'https://a.org' } }], post_process: [{ handler: queue, timeout: 1h }] }
  transitions:
    - { from: annotate, to: review }
    - { from: review, to: annotate, condition: { type: on_disagreement }, loop: { max_iterations: 2, on_exhausted: _failed } }
    - { from: review, to: _complete, condition: { type: on_agreement } }
",
    "
workflow:
  id: nested
  settings: { allow_parallel_steps: true }
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 } }
    - { id: fields, type: sub_workflow, workflow: extract }
    - { id: look, type: adjudication, assignment: { required_roles: [lead] } }
    - { id: ready, type: auto_process, handler: finalize }
  transitions:
    - { from: annotate, to: fields }
    - { from: annotate, to: look }
    - { from: look, to: ready }
    - { from: ready, to: _complete }
",
];

/// What somebody does, or time.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    Start,
    Label(u128, u8),
    Review(u128, u8),
    Adjudicate(u128),
    Assign(u128),
    Release(u128),
    Activity(u128),
    Advance,
    Pause(bool),
    Resume,
    PauseStep(bool),
    ResumeStep,
    PauseWorkflow(bool),
    ResumeWorkflow,
    Retry,
    Cancel,
    Pass(i64),
    /// The result of the next call: an answer, a failure, or a permanent failure.
    Outcome(u8),
    /// A call is made, this command comes in between, and then the answer arrives.
    Overtaken(Box<Move>),
}

impl Move {
    /// Whether it pauses something, which a backtest leaves out.
    fn pauses(&self) -> bool {
        match self {
            Self::Pause(_) | Self::PauseStep(_) | Self::PauseWorkflow(_) => true,
            Self::Overtaken(between) => between.pauses(),
            _ => false,
        }
    }
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let who = 1_u128..7;
    let one = prop_oneof![
        2 => Just(Move::Start),
        12 => (who.clone(), 0_u8..3).prop_map(|(who, label)| Move::Label(who, label)),
        6 => (who.clone(), 0_u8..4).prop_map(|(who, decision)| Move::Review(who, decision)),
        4 => who.clone().prop_map(Move::Adjudicate),
        4 => who.clone().prop_map(Move::Assign),
        2 => who.clone().prop_map(Move::Release),
        2 => who.prop_map(Move::Activity),
        2 => Just(Move::Advance),
        1 => any::<bool>().prop_map(Move::Pause),
        2 => Just(Move::Resume),
        1 => any::<bool>().prop_map(Move::PauseStep),
        2 => Just(Move::ResumeStep),
        1 => any::<bool>().prop_map(Move::PauseWorkflow),
        2 => Just(Move::ResumeWorkflow),
        2 => Just(Move::Retry),
        1 => Just(Move::Cancel),
        4 => (1_i64..200).prop_map(Move::Pass),
        4 => (0_u8..3).prop_map(Move::Outcome),
    ];
    let one = one.prop_flat_map(
        |one| prop_oneof![6 => Just(one.clone()), 1 => Just(Move::Overtaken(Box::new(one)))],
    );
    prop::collection::vec(one, 1..60)
}

/// The first of these steps; `annotate` if there is none.
fn first_step<'s, S: Iterator<Item = &'s StepId>>(
    scenario: &'s Scenario,
    steps: impl FnOnce(&'s WorkflowSnapshot) -> S,
) -> String {
    let first = scenario
        .state
        .as_ref()
        .and_then(|state| steps(state).next());
    first.map_or_else(|| "annotate".to_owned(), ToString::to_string)
}

pub(crate) fn play(scenario: &mut Scenario, one: &Move) {
    match one {
        Move::Start => drop(scenario.start(json!({"n": 1}))),
        Move::Label(who, label) => {
            scenario.label("annotate", *who, ["", "a", "b"][usize::from(*label)]);
        }
        Move::Review(who, decision) => {
            let decision = ["approve", "reject", "request_changes", "fix"][usize::from(*decision)];
            scenario.review("review", *who, decision);
        }
        Move::Adjudicate(who) => drop(scenario.label("", *who, "a")),
        Move::Assign(who) => drop(scenario.assign("annotate", *who)),
        Move::Release(who) => drop(scenario.release("annotate", *who)),
        Move::Activity(who) => drop(scenario.activity("annotate", *who)),
        Move::Advance => drop(scenario.advance("", None)),
        Move::Pause(for_long) => {
            let until = (!for_long).then(|| scenario.now + TimeDelta::minutes(30));
            scenario.pause(until);
        }
        Move::Resume => drop(scenario.control(Command::Resume)),
        Move::PauseStep(for_long) => {
            let until = (!for_long).then(|| scenario.now + TimeDelta::minutes(30));
            let active = first_step(scenario, WorkflowSnapshot::active_steps);
            scenario.pause_step(&active, until);
        }
        Move::ResumeStep => {
            let paused = first_step(scenario, WorkflowSnapshot::paused_steps);
            scenario.resume_step(&paused);
        }
        Move::PauseWorkflow(for_long) => {
            let until = (!for_long).then(|| scenario.now + TimeDelta::minutes(30));
            scenario.pause_workflow(until);
        }
        Move::ResumeWorkflow => scenario.resume_workflow(),
        Move::Retry => drop(scenario.control(Command::Retry)),
        Move::Cancel => drop(scenario.control(Command::Cancel)),
        Move::Pass(minutes) => drop(scenario.pass(TimeDelta::minutes(*minutes))),
        Move::Outcome(outcome) => scenario.answers.push_back(match outcome {
            0 => EffectOutcome::Done { output: json!(1) },
            n => EffectOutcome::Failed {
                error: "no".to_owned(),
                is_final: *n == 2,
                retry_after: None,
            },
        }),
        Move::Overtaken(between) => {
            let now = scenario.now;
            let due = scenario
                .due()
                .into_iter()
                .find(|row| row.due_at <= now && !row.kind.is_between_tasks());
            let performed = due.map(|row| scenario.perform(row));
            play(scenario, between);
            if let Some(performed) = performed {
                scenario.run(Command::FireTimer(performed));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_invariants(workflow in 0..WORKFLOWS.len(), moves in moves()) {
        let mut scenario = Scenario::new(WORKFLOWS[workflow]);
        for one in &moves {
            play(&mut scenario, one);
        }
        let mut completed = BTreeSet::new();
        for (index, event) in scenario.log.iter().enumerate() {
            prop_assert_eq!(event.version, index as u64 + 1, "versions without gaps");
            if let WorkflowEvent::StepCompleted { step_id, visit, .. } = &event.event {
                prop_assert!(completed.insert((step_id.clone(), *visit)), "one completion a visit");
            }
        }
        if let Some(state) = &scenario.state {
            let stands = state.status != TaskStatus::Running
                || !state.current_steps().is_empty();
            prop_assert!(stands, "a running task stands somewhere");
        }
    }

    #[test]
    fn a_backtest_without_changes_repeats_any_recording(workflow in 0..WORKFLOWS.len(), moves in moves()) {
        let mut scenario = Scenario::new(WORKFLOWS[workflow]);
        for one in moves.iter().filter(|one| !one.pauses()) {
            play(&mut scenario, one);
        }
        let report = backtest::plain(WORKFLOWS[workflow], &scenario, &[]);
        prop_assert_eq!(&report.recorded, &report.simulated);
        prop_assert_eq!(report.answers.same, report.answers.recorded);
        prop_assert_eq!(report.annotations.used, report.recorded.annotations);
        let unfinished = backtest::unknown(&report);
        prop_assert!(unfinished.iter().all(|(kind, _, _)| *kind == UnknownKind::Unfinished), "{:?}", unfinished);
    }

    #[test]
    fn every_recorded_annotation_is_used_saved_or_unusable(
        (workflow, other) in (0..WORKFLOWS.len(), 0..WORKFLOWS.len()),
        moves in moves(),
    ) {
        let mut scenario = Scenario::new(WORKFLOWS[workflow]);
        for one in &moves {
            play(&mut scenario, one);
        }
        let report = backtest::under(WORKFLOWS[workflow], &scenario, WORKFLOWS[other]);
        let (used, saved, unusable) = backtest::uses(&report);
        prop_assert_eq!(used + saved + unusable, report.recorded.annotations);
        prop_assert_eq!(used, report.simulated.annotations);
    }
}
