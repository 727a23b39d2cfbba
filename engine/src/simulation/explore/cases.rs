//! Which cases are played.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{
    course::{Choice, Course, Place, Way},
    drive::{Play, Stage},
    guide::Guide,
    outcome::{Exploration, ExploredCase, outcome},
};
use crate::{
    config::{Script, WorkflowConfig},
    expression::ExpressionError,
    ids::WorkflowId,
    limits::EXPLORED_CASES_MAX,
    simulation::{
        Simulation,
        play::{played_task, usual_start},
    },
    transition::CompileError,
};

/// Plays the telling cases of the first of `workflows`; the others are the workflows it runs as children.
///
/// `circumstances` is a script whose moves are not made: its input, labels, known answer, clock and
/// replies of handlers are used where it has them. Everything else is made up, always alike, so that the
/// same files have the same exploration.
///
/// ```
/// use glyph_workflow_engine::{config::Script, parse_workflow, simulation::explore};
///
/// let workflow = parse_workflow("workflow: { id: sentiment, template: multi_adjudication }").unwrap();
/// let explored = explore(vec![workflow], &Script::default()).unwrap();
/// let paths: Vec<String> = explored.ends.iter().map(|end| end.path.join(" > ")).collect();
/// assert!(paths.contains(&"annotate > adjudicate".to_owned()), "{paths:?}");
/// ```
///
/// # Errors
///
/// As [`Simulation::new`].
pub fn explore(
    workflows: Vec<WorkflowConfig>,
    circumstances: &Script,
) -> Result<Exploration, CompileError> {
    let Some(workflow) = workflows.first().map(|workflow| workflow.id.clone()) else {
        return Err(ExpressionError::Empty.into());
    };
    let configs = workflows.clone();
    // Of a workflow that is there twice, tasks run on the first.
    let mut guides: BTreeMap<WorkflowId, Guide<'_>> = BTreeMap::new();
    for config in &configs {
        guides
            .entry(config.id.clone())
            .or_insert_with(|| Guide::new(config));
    }
    let begin = circumstances.clock.unwrap_or_else(usual_start);
    let mut simulation = Simulation::new(workflows, begin)?;
    simulation.holds_calls = true;
    for (step, answers) in &circumstances.handlers {
        simulation.answer(step, answers.iter().cloned());
    }
    let stage = Stage {
        task: played_task(&workflow),
        workflow: &workflow,
        guides: &guides,
        script: circumstances,
    };
    let input = circumstances.input.clone().unwrap_or_else(|| {
        let guide = guides.get(&workflow);
        guide.map_or(Value::Null, |guide| guide.input().0)
    });
    Ok(Cases::new(&stage).play_all(&simulation, input))
}

/// Cases that are played, and those that wait.
struct Cases<'s> {
    stage: &'s Stage<'s>,
    next: VecDeque<Course>,
    known: BTreeSet<(Place, Choice, bool)>,
    ends: Vec<ExploredCase>,
    made_up: BTreeSet<String>,
    not_played: BTreeSet<String>,
}

impl<'s> Cases<'s> {
    fn new(stage: &'s Stage<'s>) -> Self {
        Self {
            stage,
            next: VecDeque::from([Course::default()]),
            known: BTreeSet::new(),
            ends: Vec::new(),
            made_up: BTreeSet::new(),
            not_played: BTreeSet::new(),
        }
    }

    fn play_all(mut self, simulation: &Simulation, input: Value) -> Exploration {
        let mut played = 0;
        while let Some(course) = self.next.pop_front() {
            if played == EXPLORED_CASES_MAX {
                let left = self.next.len() + 1;
                self.not_played.insert(format!(
                    "{left} more cases: no more than {played} are played"
                ));
                break;
            }
            played += 1;
            let mut play = Play::new(self.stage, simulation.clone(), &course);
            play.play();
            for (place, ways) in &play.met {
                self.plan(&course, place, ways);
            }
            self.made_up.extend(play.made_up.iter().cloned());
            self.not_played.extend(play.not_played.iter().cloned());
            if let Some(end) = outcome(course.label(), &play, self.stage.task) {
                self.add(end);
            } else {
                let refused = play.refused.join("; ");
                self.not_played
                    .insert(format!("{}: {refused}", course.label()));
            }
        }
        if self.stage.script.input.is_none() && !input.is_null() {
            self.made_up.insert(format!("the input: {input}"));
        }
        Exploration {
            workflow: self.stage.workflow.clone(),
            input,
            played,
            ends: self.ends,
            made_up: self.made_up.into_iter().collect(),
            not_played: self.not_played.into_iter().collect(),
        }
    }

    /// Plans a case for each other way at a place that has not been planned yet.
    fn plan(&mut self, course: &Course, place: &Place, ways: &[Way]) {
        for way in ways.iter().skip(1) {
            if self.known.insert((place.clone(), way.choice, way.always)) {
                self.next.push_back(course.with(place, way));
            }
        }
    }

    fn add(&mut self, end: ExploredCase) {
        match self.ends.iter_mut().find(|known| known.ended_like(&end)) {
            Some(known) => known.cases.extend(end.cases),
            None => self.ends.push(end),
        }
    }
}
