//! Generated workflows: those that the checks call sound reach their end, whatever people,
//! operators and clocks do on the way.
//!
//! The scenario checks after every command that replay equals live; `evolve` panics on a decision
//! that it does not allow.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::Command,
    config::{Ending, EndingValue, StepConfig, StepLibrary},
    events::WorkflowEvent,
    parser::{DiagnosticCode, Report, check_workflow},
    state::{IncidentCode, ResolvedBy, TaskStatus},
};
use proptest::prelude::*;
use serde_json::json;

use crate::scenario::Scenario;

/// A part of a workflow with one entry and one exit.
#[derive(Clone, Debug)]
enum Block {
    /// People annotate; another person decides if they differ.
    Annotate {
        count: u32,
        strategy: &'static str,
    },
    /// One person labels, with hooks before and after.
    Hooked(&'static str),
    /// One person reviews; the task continues whatever the decision.
    Review,
    Machine,
    Sequence(Vec<Self>),
    If(&'static str, Box<Self>, Box<Self>),
    Parallel(Vec<Self>, Join),
    /// Rejected work goes back, up to this many times.
    Loop(Box<Self>, u32, bool),
}

#[derive(Clone, Copy, Debug)]
enum Join {
    Default,
    All,
    Any,
    Some(u32),
    Timeout,
}

fn blocks() -> impl Strategy<Value = Block> {
    const QUESTIONS: &[&str] = &["input.n > 0", "input.n > 5", "sample(input.n, 0.5)"];
    const STRATEGIES: &[&str] = &["adjudication", "majority_vote", "additional_annotators"];
    const STAGES: &[&str] = &["pre_process", "on_start", "post_process", "on_complete"];
    let leaf = prop_oneof![
        4 => (1_u32..4, prop::sample::select(STRATEGIES))
            .prop_map(|(count, strategy)| Block::Annotate { count, strategy }),
        1 => prop::sample::select(STAGES).prop_map(Block::Hooked),
        1 => Just(Block::Review),
        1 => Just(Block::Machine),
    ];
    leaf.prop_recursive(3, 16, 3, move |inner| {
        let join = prop_oneof![
            Just(Join::Default),
            Just(Join::All),
            Just(Join::Any),
            (2_u32..4).prop_map(Join::Some),
            Just(Join::Timeout),
        ];
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(Block::Sequence),
            1 => (prop::sample::select(QUESTIONS), inner.clone(), inner.clone())
                .prop_map(|(ask, yes, no)| Block::If(ask, yes.into(), no.into())),
            3 => (prop::collection::vec(inner.clone(), 2..4), join)
                .prop_map(|(branches, join)| Block::Parallel(branches, join)),
            2 => (inner, 1_u32..4, any::<bool>())
                .prop_map(|(body, bound, fails)| Block::Loop(body.into(), bound, fails)),
        ]
    })
}

/// Warnings of tasks that could get stuck. The others are about the result.
const STUCK: [&str; 6] = [
    "dead_transition",
    "unhandled_outcome",
    "open_loop",
    "branch_collision",
    "idle_join",
    "long_chain",
];

/// The codes of a report that are about tasks that could get stuck.
fn stuck(report: &Report) -> BTreeSet<&'static str> {
    let codes = report.diagnostics.iter().map(|d| d.code.as_str());
    codes.filter(|code| STUCK.contains(code)).collect()
}

/// The YAML of a workflow, as it grows.
#[derive(Default)]
struct Writer {
    steps: Vec<String>,
    transitions: Vec<String>,
}

impl Writer {
    fn step(&mut self, keys: &str) -> String {
        let id = format!("s{}", self.steps.len());
        self.steps.push(format!("    - {{ id: {id}, {keys} }}\n"));
        id
    }

    fn way(&mut self, from: &str, to: &str, keys: &str) {
        self.transitions
            .push(format!("    - {{ from: {from}, to: {to}{keys} }}\n"));
    }

    /// Writes a block that leads to `next`; returns its first step.
    fn block(&mut self, block: &Block, next: &str) -> String {
        const AGREED: &str = ", condition: { type: on_agreement }";
        const DIFFERED: &str = ", condition: { type: on_disagreement }";
        match block {
            Block::Annotate { count: 1, .. } => {
                let id = self.step("type: annotation");
                self.way(&id, next, "");
                id
            }
            Block::Annotate { count, strategy } => {
                let consensus = match *strategy {
                    "additional_annotators" => {
                        "{ strategy: additional_annotators, max_additional: 2, fallback: adjudication }"
                            .to_owned()
                    }
                    strategy => format!("{{ strategy: {strategy} }}"),
                };
                let id = self.step(&format!(
                    "type: annotation, completion: {{ type: annotation_count, count: {count}, \
                     timeout: 1h }}, consensus: {{ field: label, on_disagreement: {consensus} }}"
                ));
                let judge =
                    self.step("type: adjudication, assignment: { required_roles: [judge] }");
                self.way(&id, next, AGREED);
                self.way(&id, &judge, DIFFERED);
                self.way(&judge, next, "");
                id
            }
            Block::Hooked(stage) => {
                let id = self.step(&format!(
                    "type: annotation, hooks: {{ {stage}: [{{ handler: webhook, config: {{ url: \
                     'https://a.org' }} }}] }}"
                ));
                self.way(&id, next, "");
                id
            }
            Block::Review => {
                let id = self.step("type: review");
                self.way(&id, next, "");
                id
            }
            Block::Machine => {
                let id = self.step("type: auto_process, handler: finalize");
                self.way(&id, next, "");
                id
            }
            Block::Sequence(parts) => {
                let parts = parts.iter().rev();
                parts.fold(next.to_owned(), |next, part| self.block(part, &next))
            }
            Block::If(ask, yes, no) => {
                let (yes, no) = (self.block(yes, next), self.block(no, next));
                self.step(&format!(
                    "type: conditional, condition: {{ expression: '{ask}' }}, true_branch: {yes}, \
                     false_branch: {no}"
                ))
            }
            Block::Parallel(branches, join) => {
                let most = u32::try_from(branches.len()).unwrap();
                let mode = match join {
                    Join::Default => String::new(),
                    Join::All => ", join_mode: all".to_owned(),
                    Join::Any => ", join_mode: any".to_owned(),
                    Join::Some(n) => format!(", join_mode: n_of_m, join_count: {}", n.min(&most)),
                    Join::Timeout => ", join_mode: all, join_timeout: 3h".to_owned(),
                };
                let merge = self.step(&format!("type: auto_process, handler: result_merger{mode}"));
                self.way(&merge, next, "");
                let begin: Vec<String> = branches
                    .iter()
                    .map(|branch| self.block(branch, &merge))
                    .collect();
                let fork = self.step("type: auto_process, handler: finalize");
                for branch in begin {
                    self.way(&fork, &branch, "");
                }
                fork
            }
            Block::Loop(body, bound, fails) => {
                let review = self.step("type: review");
                let back = self.block(body, &review);
                let exhausted = if *fails { "_failed" } else { next };
                self.way(&review, next, AGREED);
                let bound = format!(
                    "{DIFFERED}, loop: {{ max_iterations: {bound}, on_exhausted: {exhausted} }}"
                );
                self.way(&review, &back, &bound);
                back
            }
        }
    }

    fn yaml(&self, entry: &str) -> String {
        format!(
            "workflow:\n  id: made\n  entry_step: {entry}\n  settings: {{ allow_parallel_steps: true \
             }}\n  steps:\n{}  transitions:\n{}",
            self.steps.concat(),
            self.transitions.concat()
        )
    }
}

fn written(block: &Block) -> String {
    let mut writer = Writer::default();
    let entry = writer.block(block, "_complete");
    writer.yaml(&entry)
}

/// A move on a task; its numbers choose among the available targets.
#[derive(Clone, Debug)]
enum Move {
    Submit {
        step: usize,
        who: u128,
        label: usize,
        decision: usize,
    },
    /// The same submission again, under another id.
    Again,
    Assign {
        step: usize,
        who: u128,
    },
    Release {
        step: usize,
        who: u128,
    },
    Activity {
        step: usize,
        who: u128,
    },
    Pass(i64),
    Pause(bool),
    Resume,
    Retry,
    Advance(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let (step, who) = (0_usize..24, 1_u128..8);
    let one = prop_oneof![
        20 => (step.clone(), who.clone(), 0_usize..3, 0_usize..4)
            .prop_map(|(step, who, label, decision)| Move::Submit { step, who, label, decision }),
        3 => Just(Move::Again),
        4 => (step.clone(), who.clone()).prop_map(|(step, who)| Move::Assign { step, who }),
        1 => (step.clone(), who.clone()).prop_map(|(step, who)| Move::Release { step, who }),
        1 => (step.clone(), who).prop_map(|(step, who)| Move::Activity { step, who }),
        4 => (1_i64..240).prop_map(Move::Pass),
        1 => any::<bool>().prop_map(Move::Pause),
        2 => Just(Move::Resume),
        1 => Just(Move::Retry),
        1 => step.prop_map(Move::Advance),
    ];
    prop::collection::vec(one, 0..50)
}

/// Whether a task ended although the last that was said about its value was a refusal. A join can
/// withdraw whoever would have said more.
fn ends_refused(scenario: &Scenario) -> bool {
    let is_withdrawn = |event: &WorkflowEvent| matches!(event, WorkflowEvent::StepWithdrawn { .. });
    if scenario.log.iter().any(|event| is_withdrawn(&event.event)) {
        return false;
    }
    let last = scenario
        .log
        .iter()
        .rev()
        .find_map(|event| match &event.event {
            WorkflowEvent::StepCompleted { result, .. } => {
                let refuses = matches!(
                    result.decision.as_deref(),
                    Some("reject" | "request_changes")
                );
                (refuses || result.value.is_some()).then_some(refuses)
            }
            _ => None,
        });
    let state = scenario.state.as_ref().unwrap();
    state.status == TaskStatus::Completed && last == Some(true)
}

/// Applies moves to a scenario. Half of the submissions go to an active step; the others go to any
/// step: early, late, or to one that takes none.
struct Play {
    scenario: Scenario,
    steps: Vec<StepConfig>,
    last: Option<(String, u128, usize, usize)>,
}

impl Play {
    fn new(yaml: &str) -> Self {
        let mut scenario = Scenario::new(yaml);
        scenario.start(json!({"n": 3}));
        let config = glyph_workflow_engine::parse_workflow(yaml).unwrap();
        Self {
            scenario,
            steps: config.steps,
            last: None,
        }
    }

    fn active(&self) -> Vec<String> {
        let state = self.scenario.state.as_ref().unwrap();
        state
            .current_steps()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn choose(&self, step: usize) -> String {
        let active = self.active();
        if step.is_multiple_of(2) && !active.is_empty() {
            return active[step / 2 % active.len()].clone();
        }
        self.steps[step % self.steps.len()].id.to_string()
    }

    fn submit(&mut self, step: &str, who: u128, label: usize, decision: usize) {
        let label = ["a", "b", ""][label];
        let decision = ["approve", "reject", "request_changes", "fix"][decision];
        let data = if label.is_empty() {
            json!({})
        } else {
            json!({"label": label})
        };
        self.scenario.submit_with(step, who, data, |submission| {
            submission.annotation.decision = Some(decision.to_owned());
            submission.annotation.roles = Some(vec!["judge".to_owned()]);
        });
    }

    fn make(&mut self, one: &Move) {
        match one {
            Move::Submit {
                step,
                who,
                label,
                decision,
            } => {
                let step = self.choose(*step);
                self.submit(&step, *who, *label, *decision);
                self.last = Some((step, *who, *label, *decision));
            }
            Move::Again => {
                if let Some((step, who, label, decision)) = self.last.clone() {
                    self.submit(&step, who, label, decision);
                }
            }
            Move::Assign { step, who } => drop(self.scenario.assign(&self.choose(*step), *who)),
            Move::Release { step, who } => drop(self.scenario.release(&self.choose(*step), *who)),
            Move::Activity { step, who } => drop(self.scenario.activity(&self.choose(*step), *who)),
            Move::Pass(minutes) => drop(self.scenario.pass(TimeDelta::minutes(*minutes))),
            Move::Pause(for_long) => {
                let until = (!for_long).then(|| self.scenario.now + TimeDelta::minutes(30));
                self.scenario.pause(until);
            }
            Move::Resume => drop(self.scenario.control(Command::Resume)),
            Move::Retry => drop(self.scenario.control(Command::Retry)),
            Move::Advance(step) => drop(self.scenario.advance(&self.choose(*step), None)),
        }
    }

    fn status(&self) -> TaskStatus {
        self.scenario.state.as_ref().unwrap().status
    }

    /// Every person answers: all with the same label, and every review approved, or rejected to run
    /// loops up to their bound.
    fn finish(&mut self, decision: usize) {
        self.scenario.control(Command::Resume);
        // Claims expire: an inactive holder does not block the step.
        self.scenario.pass(TimeDelta::hours(9));
        for round in 0..2_000 {
            if self.status().is_final() {
                return;
            }
            let state = self.scenario.state.as_ref().unwrap();
            let free = |step: &&String| state.incident_of(step).is_none();
            let Some(step) = self.active().iter().find(free).cloned() else {
                return;
            };
            let visit = state.current_visit(&step);
            let subject = visit.and_then(|visit| visit.subject.as_ref());
            // Where a refusal or a withdrawn branch has left nothing to approve, reviewers fix.
            let nothing = subject.is_some_and(|subject| subject.value.is_none());
            let decision = if nothing && decision == 0 {
                3
            } else {
                decision
            };
            self.submit(&step, 100 + round, 0, decision);
            // Handlers answer at once.
            self.scenario.pass(TimeDelta::zero());
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut completed = BTreeSet::new();
        for (index, event) in self.scenario.log.iter().enumerate() {
            prop_assert_eq!(event.version, index as u64 + 1, "versions without gaps");
            if let WorkflowEvent::StepCompleted {
                step_id,
                visit,
                result,
                ..
            } = &event.event
            {
                prop_assert!(
                    completed.insert((step_id.clone(), *visit)),
                    "one completion a visit"
                );
                let step = self.steps.iter().find(|step| step.id == *step_id).unwrap();
                let ends_so = |ending: &Ending| {
                    let has_value = match ending.value {
                        EndingValue::Made => Some(true),
                        EndingValue::Absent => Some(false),
                        EndingValue::OfSubject => None,
                    };
                    has_value.is_none_or(|has_value| has_value == result.value.is_some())
                        && ending.agreement.admits(result.agreement)
                        && ending.decision == result.decision.as_deref()
                };
                // An `advance` that closes a step early is another matter.
                let is_early = result.resolved_by == Some(ResolvedBy::Exhausted);
                prop_assert!(
                    is_early || step.endings().iter().any(ends_so),
                    "`{step_id}` cannot end with {result:?}"
                );
            }
        }
        let state = self.scenario.state.as_ref().unwrap();
        if state.status.is_final() {
            prop_assert_eq!(
                state.active_steps().count(),
                0,
                "nothing is active after the end"
            );
            prop_assert!(state.joins.is_empty(), "no join waits after the end");
        } else {
            prop_assert!(!state.current_steps().is_empty(), "a task stands somewhere");
        }
        Ok(())
    }
}

fn check_of(yaml: &str) -> Report {
    check_workflow(yaml, &StepLibrary::built_in(), &[])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn what_is_built_of_sound_parts_is_sound_and_ends(
        block in blocks(),
        moves in moves(),
        decision in 0_usize..4,
    ) {
        let yaml = written(&block);
        let report = check_of(&yaml);
        prop_assert!(stuck(&report).is_empty(), "{yaml}\n{:#?}", report.diagnostics);
        let mut play = Play::new(&yaml);
        for one in &moves {
            play.make(one);
            play.check()?;
        }
        play.finish(decision);
        play.check()?;
        let state = play.scenario.state.as_ref().unwrap();
        prop_assert!(
            state.status.is_final(),
            "{yaml}\nstands at {:?} with {:?}",
            state.current_steps(),
            state.incidents
        );
        let warned = report.diagnostics.iter().any(|d| d.code == DiagnosticCode::RefusedOutput);
        prop_assert!(warned || !ends_refused(&play.scenario), "{yaml}");
    }
}

/// Transitions between any steps: forward along a chain, across, and back with a bound.
fn wild() -> impl Strategy<Value = String> {
    let kinds = prop::collection::vec(0_usize..3, 3..7);
    let ways = prop::collection::vec((0_usize..7, 0_usize..8, 0_usize..3, any::<bool>()), 1..7);
    let joins = prop::collection::vec(0_usize..8, 7);
    (kinds, ways, joins).prop_map(|(kinds, ways, joins)| {
        let mut writer = Writer::default();
        let count = kinds.len();
        for (at, kind) in kinds.iter().enumerate() {
            let kind = [
                "type: annotation",
                "type: review",
                "type: auto_process, handler: finalize",
            ][*kind];
            let join = [
                ", join_mode: any",
                ", join_mode: all",
                "",
                "",
                "",
                "",
                "",
                "",
            ][joins[at]];
            writer.step(&format!("{kind}{join}"));
        }
        for at in 0..count {
            let next = if at + 1 == count {
                "_complete".to_owned()
            } else {
                format!("s{}", at + 1)
            };
            writer.way(&format!("s{at}"), &next, "");
        }
        for (from, to, condition, fails) in ways {
            let (from, to) = (from % count, to % (count + 1));
            let condition = match condition {
                0 => "",
                1 => ", condition: { type: on_agreement }",
                _ => ", condition: { type: on_disagreement }",
            };
            let name = |at: usize| {
                if at == count {
                    "_complete".to_owned()
                } else {
                    format!("s{at}")
                }
            };
            if to > from {
                writer.way(&name(from), &name(to), condition);
            } else {
                let exhausted = if fails {
                    "_failed".to_owned()
                } else {
                    name(from + 1)
                };
                let bound = format!(
                    "{condition}, loop: {{ max_iterations: 2, on_exhausted: {exhausted} }}"
                );
                writer.way(&name(from), &name(to), &bound);
            }
        }
        writer.yaml("s0")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The check may warn of things that the data rule out, but it must miss nothing.
    #[test]
    fn what_is_not_warned_of_does_not_happen(
        yaml in wild(),
        moves in moves(),
        decision in 0_usize..4,
    ) {
        let report = check_of(&yaml);
        let warned: BTreeSet<&str> = report.diagnostics.iter().map(|d| d.code.as_str()).collect();
        if report.config.is_some() {
            let mut play = Play::new(&yaml);
            for one in &moves {
                play.make(one);
                play.check()?;
            }
            play.finish(decision);
            play.check()?;
            let incidents = play.scenario.log.iter().filter_map(|event| match &event.event {
                WorkflowEvent::IncidentOpened { code, reason, .. } => Some((*code, reason.clone())),
                _ => None,
            });
            for (code, reason) in incidents {
                let warning = match code {
                    IncidentCode::StepBusy => "branch_collision",
                    IncidentCode::NoTransition => "unhandled_outcome",
                    IncidentCode::LoopExhausted => "open_loop",
                    IncidentCode::TransitionBudget => "long_chain",
                    _ => "nothing",
                };
                prop_assert!(warned.contains(warning), "{yaml}\n{code}: {reason}\n{warned:?}");
            }
            if stuck(&report).is_empty() {
                prop_assert!(play.status().is_final(), "{yaml}\nstands at {:?}", play.active());
            }
            let refused = ends_refused(&play.scenario);
            prop_assert!(warned.contains("refused_output") || !refused, "{yaml}");
        }
    }
}
