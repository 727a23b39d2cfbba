//! Many tasks of a workflow, on which a crowd works.
//!
//! Each task has a true answer, drawn from the plausible ones. The driver of explored cases does
//! everything but the work of people. Tasks are played one after the other, and the models of
//! annotators learn from one to the next, as a worker's do.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    course::Course,
    crowd::{AtTask, Crowd, CrowdError, true_answers},
    drive::{Play, Stage},
    guide::Guide,
    outcome::waits,
};
use crate::{
    answer::Questions,
    config::{Performer, Script, WorkflowConfig},
    events::{StoredEvent, WorkflowEvent},
    expression::ExpressionError,
    ids::{StepId, TaskId, WorkflowId},
    orchestrator::sampling,
    reliability::simulation::Random,
    simulation::{Simulation, play::usual_start},
    state::{TaskStatus, WorkflowSnapshot},
    transition::CompileError,
};

/// What came of the tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrowdReport {
    /// Tasks played: fewer than were asked for if the time was up.
    pub tasks: u32,
    /// Submissions of annotators.
    pub labels: u64,
    /// How many tasks took how many of them: the place is the number.
    pub labels_by_tasks: Vec<u32>,
    /// Submissions of reviewers and adjudicators.
    pub decisions: u64,
    /// Completed tasks whose result is the true answer.
    pub right: u32,
    /// Completed tasks with another result.
    pub wrong: u32,
    /// Completed tasks without a result.
    pub without_value: u32,
    /// Completed tasks whose result comes from a machine: it is made up, so it is neither right nor wrong.
    pub by_machine: u32,
    /// How tasks ended, the most frequent way first.
    pub ends: Vec<CrowdEnd>,
    /// What each step had to do, in the order of the file.
    pub steps: Vec<CrowdStep>,
    /// How many tasks went from where to where, counted as often as they went.
    pub edges: Vec<CrowdEdge>,
    /// What was made up because the file does not say it.
    pub made_up: Vec<String>,
    /// What could not be played.
    pub not_played: Vec<String>,
    /// What was refused although it seemed plausible.
    pub refused: Vec<String>,
}

/// Tasks that ended alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CrowdEnd {
    /// The status.
    pub status: TaskStatus,
    /// What determined the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<String>,
    /// The step whose result it is; of a task that goes on, the step that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why a failed task failed; what a task that goes on waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many tasks.
    pub tasks: u32,
    /// Those of them with the right result.
    pub right: u32,
}

/// What a step had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CrowdStep {
    /// The step.
    pub step_id: String,
    /// Tasks that came to it.
    pub tasks: u32,
    /// Visits.
    pub visits: u64,
    /// Submissions.
    pub submissions: u64,
    /// Visits whose answers were compared.
    pub compared: u64,
    /// Those of them that reached the agreement which the step asks for.
    pub agreed: u64,
}

/// A way that tasks went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct CrowdEdge {
    /// The step left.
    pub from: String,
    /// The step, or `_complete` and the like.
    pub to: String,
    /// How often.
    pub count: u64,
}

/// Lets a crowd work on many tasks of the first of `workflows`; the others are those that it runs as
/// children. `goes_on` is asked before each task but the first.
///
/// ```
/// use glyph_workflow_engine::{parse_workflow, simulation::{Crowd, play_crowd}};
///
/// let workflow = parse_workflow("workflow: { id: sentiment, template: multi_adjudication }").unwrap();
/// let sure = Crowd { accuracy: 1.0, spread: 0.0, hard: 0.0, ..Crowd::default() };
/// let report = play_crowd(vec![workflow], &sure, || true).unwrap();
/// assert_eq!((report.labels, report.decisions), (400, 0), "two people agree on each task");
/// assert_eq!(report.right, 200);
/// ```
///
/// # Errors
///
/// [`CrowdError`].
pub fn play_crowd(
    workflows: Vec<WorkflowConfig>,
    crowd: &Crowd,
    mut goes_on: impl FnMut() -> bool,
) -> Result<CrowdReport, CrowdError> {
    crowd.check()?;
    let Some(workflow) = workflows.first().map(|workflow| workflow.id.clone()) else {
        return Err(CompileError::from(ExpressionError::Empty).into());
    };
    let configs = workflows.clone();
    let mut guides: BTreeMap<WorkflowId, Guide<'_>> = BTreeMap::new();
    for config in &configs {
        guides
            .entry(config.id.clone())
            .or_insert_with(|| Guide::new(config));
    }
    let mut simulation = Simulation::new(workflows, usual_start())?;
    simulation.holds_calls = true;
    simulation.learn(&configs)?;
    let script = Script::default();
    let course = Course::default();
    let accuracies = crowd.accuracies();
    let mut random = Random::new(crowd.seed);
    let mut tally = Tally::new(&workflow, &guides);
    for n in 0..crowd.tasks {
        if n > 0 && !goes_on() {
            break;
        }
        let stage = Stage {
            guides: &guides,
            workflow: &workflow,
            task: task_of(&workflow, n),
            script: &script,
        };
        simulation.tasks.clear();
        if let Some(guide) = guides.get(&workflow) {
            simulation.sampling = sampling(stage.task, guide.config, Some(n));
        }
        let mut play = Play::new(&stage, simulation, &course);
        play.crowd = Some(AtTask::new(crowd, &accuracies, &mut random));
        play.play();
        tally.take(&play, stage.task);
        simulation = play.simulation;
    }
    Ok(tally.finish())
}

fn task_of(workflow: &WorkflowId, n: u32) -> TaskId {
    let name = format!("glyph/crowd/{workflow}/{n}");
    TaskId(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
}

/// Counts what came of the tasks.
struct Tally<'g> {
    guides: &'g BTreeMap<WorkflowId, Guide<'g>>,
    workflow: &'g WorkflowId,
    questions: Questions,
    report: CrowdReport,
    steps: HashMap<String, CrowdStep>,
    edges: BTreeMap<(String, String), u64>,
    made_up: BTreeSet<String>,
    not_played: BTreeSet<String>,
    refused: BTreeSet<String>,
}

impl<'g> Tally<'g> {
    fn new(workflow: &'g WorkflowId, guides: &'g BTreeMap<WorkflowId, Guide<'g>>) -> Self {
        let config = guides.get(workflow).map(|guide| guide.config);
        let questions = config.map(|config| Questions::of(config).unwrap_or_default());
        let mut tally = Self {
            guides,
            workflow,
            questions: questions.unwrap_or_default(),
            report: CrowdReport::default(),
            steps: HashMap::new(),
            edges: BTreeMap::new(),
            made_up: BTreeSet::new(),
            not_played: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        if let Some(guide) = guides.get(workflow) {
            let (input, others) = guide.input();
            if !input.is_null() {
                tally.made_up.insert(format!("the input: {input}"));
            }
            let others = others.iter().map(|variant| variant.label.as_str());
            let others: Vec<&str> = others.collect();
            if !others.is_empty() {
                tally
                    .not_played
                    .insert(format!("other inputs: {}", others.join("; ")));
            }
        }
        tally
    }

    fn take(&mut self, play: &Play<'_>, task: TaskId) {
        self.report.tasks += 1;
        self.made_up.extend(play.made_up.iter().cloned());
        self.not_played.extend(play.not_played.iter().cloned());
        self.refused.extend(play.refused.iter().cloned());
        let labels = self.take_events(&play.simulation, &play.events);
        let place = usize::try_from(labels).unwrap_or(usize::MAX);
        let places = &mut self.report.labels_by_tasks;
        if places.len() <= place {
            places.resize(place + 1, 0);
        }
        places[place] += 1;
        let Some(state) = play.simulation.state(task) else {
            return;
        };
        let verdict = self.judge(play, state);
        if state.status == TaskStatus::Completed {
            let count = match verdict {
                Verdict::Right => &mut self.report.right,
                Verdict::Wrong => &mut self.report.wrong,
                Verdict::WithoutValue => &mut self.report.without_value,
                Verdict::ByMachine => &mut self.report.by_machine,
            };
            *count += 1;
        }
        self.add_end(end_of(state, &play.simulation), verdict == Verdict::Right);
    }

    /// Counts events, and returns how many of them are submissions of annotators.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "steps and ways come with these events alone"
    )]
    fn take_events(&mut self, simulation: &Simulation, events: &[StoredEvent]) -> u64 {
        let mut labels = 0;
        let mut came: BTreeSet<String> = BTreeSet::new();
        for event in events {
            let named = |step: &StepId| simulation.named(event.task_id, step);
            match &event.event {
                WorkflowEvent::StepActivated(begun) => {
                    let step = named(&begun.step_id);
                    let is_new = came.insert(step.clone());
                    let counted = self.step(step);
                    counted.visits += 1;
                    counted.tasks += u32::from(is_new);
                }
                WorkflowEvent::AnnotationSubmitted { step_id, .. } => {
                    self.step(named(step_id)).submissions += 1;
                    if self.is_annotation(simulation, event.task_id, step_id) {
                        labels += 1;
                    } else {
                        self.report.decisions += 1;
                    }
                }
                WorkflowEvent::ConsensusCalculated(compared) => {
                    let counted = self.step(named(&compared.step_id));
                    counted.compared += 1;
                    counted.agreed += u64::from(compared.agreed);
                }
                WorkflowEvent::TransitionOccurred(went) => {
                    let to = went
                        .to_step
                        .step()
                        .map_or_else(|| went.to_step.to_string(), named);
                    *self.edges.entry((named(&went.from_step), to)).or_default() += 1;
                }
                _ => {}
            }
        }
        self.report.labels += labels;
        labels
    }

    fn step(&mut self, step: String) -> &mut CrowdStep {
        self.steps.entry(step).or_default()
    }

    fn is_annotation(&self, simulation: &Simulation, task: TaskId, step: &StepId) -> bool {
        let workflow = simulation.state(task).map(|state| &state.workflow.workflow);
        let guide = workflow.and_then(|workflow| self.guides.get(workflow));
        let step = guide.and_then(|guide| guide.config.step(step));
        step.is_some_and(|step| step.kind.spec().performer == Performer::Annotators)
    }

    /// What is to be said of the result of a task.
    fn judge(&self, play: &Play<'_>, state: &WorkflowSnapshot) -> Verdict {
        let of_step = || {
            let output = state.output.as_ref()?;
            let value = output.get("result").filter(|value| !value.is_null())?;
            let guide = self.guides.get(self.workflow)?;
            let of = &output["result_of"];
            let step = guide.config.step(of["step"].as_str()?)?;
            let number = u32::try_from(of["visit"].as_u64()?).ok()?;
            Some((value, guide, step, state.visit(&step.id, number)?))
        };
        let (Some((value, guide, step, visit)), Some(crowd)) = (of_step(), &play.crowd) else {
            return Verdict::WithoutValue;
        };
        if !matches!(
            step.kind.spec().performer,
            Performer::Annotators | Performer::Person
        ) {
            return Verdict::ByMachine;
        }
        let reviewed = visit.reviewed.as_ref().map(|at| &at.step_id);
        let question = self.questions.asked(step, reviewed);
        let input = state.input.clone().unwrap_or_default();
        let truth = true_answers(guide, &input, crowd);
        match question.judge_value(value, &truth, &input, None) {
            Some(verdict) if verdict.correct => Verdict::Right,
            Some(_) | None => Verdict::Wrong,
        }
    }

    fn add_end(&mut self, end: CrowdEnd, is_right: bool) {
        let alike = |known: &&mut CrowdEnd| {
            (known.status, &known.resolved_by, &known.step, &known.reason)
                == (end.status, &end.resolved_by, &end.step, &end.reason)
        };
        let right = u32::from(is_right);
        match self.report.ends.iter_mut().find(alike) {
            Some(known) => {
                known.tasks += 1;
                known.right += right;
            }
            None => self.report.ends.push(CrowdEnd { right, ..end }),
        }
    }

    fn finish(mut self) -> CrowdReport {
        let mut report = self.report;
        report.ends.sort_by_key(|end| std::cmp::Reverse(end.tasks));
        let guide = self.guides.get(self.workflow);
        let own = guide.into_iter().flat_map(|guide| &guide.config.steps);
        let own: Vec<String> = own.map(|step| step.id.to_string()).collect();
        let mut steps: Vec<(String, CrowdStep)> = own
            .iter()
            .map(|id| (id.clone(), self.steps.remove(id).unwrap_or_default()))
            .collect();
        let mut of_children: Vec<(String, CrowdStep)> = self.steps.into_iter().collect();
        of_children.sort_by(|(a, _), (b, _)| a.cmp(b));
        steps.extend(of_children);
        report.steps = steps
            .into_iter()
            .map(|(step_id, counted)| CrowdStep { step_id, ..counted })
            .collect();
        report.edges = self
            .edges
            .into_iter()
            .map(|((from, to), count)| CrowdEdge { from, to, count })
            .collect();
        report.made_up = self.made_up.into_iter().collect();
        report.not_played = self.not_played.into_iter().collect();
        report.refused = self.refused.into_iter().collect();
        report
    }
}

/// What is to be said of a result.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Right,
    Wrong,
    WithoutValue,
    ByMachine,
}

/// How a task ended, or where it waits.
fn end_of(state: &WorkflowSnapshot, simulation: &Simulation) -> CrowdEnd {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let output = state.output.as_ref();
    let mut end = CrowdEnd {
        status: state.status,
        resolved_by: output.and_then(|output| text(&output["resolved_by"])),
        step: output.and_then(|output| text(&output["result_of"]["step"])),
        reason: state.error.clone(),
        tasks: 1,
        right: 0,
    };
    if !state.status.is_final() {
        let incident = state.incidents.first();
        let waits = waits(simulation).into_iter().next();
        (end.step, end.reason) = match (incident, waits) {
            (Some(incident), _) => (
                Some(incident.step_id.to_string()),
                Some(format!("{}: {}", incident.code, incident.reason)),
            ),
            (None, Some(wait)) => (Some(wait.step), Some(wait.waits_for)),
            (None, None) => (None, None),
        };
    }
    end
}
