//! Plays one case to its end: does what the case says at each place, and the usual everywhere else.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{
    course::{
        Choice, Course, Place, Way, people, ways_of_operator, ways_of_output, ways_of_people,
        ways_to_start,
    },
    crowd::{AtTask, true_answers},
    guide::{Answers, Guide, Variant},
};
use crate::{
    command::{
        Advance, AnnotationInput, Assign, Command, EffectOutcome, Outcome, Start, Submission,
    },
    config::{
        Decision, EndsWith, ExternalHandler, HookId, HookStage, Performer, Script, StepConfig,
        TimeoutAction,
    },
    events::StoredEvent,
    ids::{StepId, TaskId, UserId, WorkflowId, WorkflowSelector},
    simulation::{Played, Simulation, caller, person},
    state::{IncidentCode, TaskStatus, Visit, VisitStatus, WorkflowSnapshot},
    store::TimerKind,
    timers::derive_timers,
};

/// Things done in one case; a case that needs more is left unfinished.
const MOVES_MAX: usize = 500;
/// How often a case lets time pass to the next timer.
const WAITS_MAX: usize = 200;

/// What a case is played with.
pub(super) struct Stage<'s> {
    /// The workflows, with what can be made up for them.
    pub(super) guides: &'s BTreeMap<WorkflowId, Guide<'s>>,
    pub(super) workflow: &'s WorkflowId,
    pub(super) task: TaskId,
    /// The circumstances; its moves are not made.
    pub(super) script: &'s Script,
}

/// A case that has been played.
pub(super) struct Play<'s> {
    stage: &'s Stage<'s>,
    pub(super) simulation: Simulation,
    course: &'s Course,
    /// Who does the work of people; without a crowd, new people do as the course says.
    pub(super) crowd: Option<AtTask>,
    pub(super) events: Vec<StoredEvent>,
    /// Places met on a first visit, with the ways that it could go there; the usual one is first.
    pub(super) met: Vec<(Place, Vec<Way>)>,
    /// What a visit, or a hook of it, was decided to be.
    decided: BTreeMap<(Seat, Option<HookId>), (Choice, usize)>,
    /// Places of the course that have had their turn.
    turned: BTreeSet<Place>,
    /// Visits at which nothing more is done.
    left: BTreeSet<Seat>,
    people: u32,
    moves: usize,
    /// Whether the case lets the task wait on purpose.
    pub(super) waits_on_purpose: bool,
    pub(super) is_unfinished: bool,
    /// What was refused although it seemed plausible.
    pub(super) refused: Vec<String>,
    /// What is made up, or could not be played.
    pub(super) made_up: BTreeSet<String>,
    pub(super) not_played: BTreeSet<String>,
}

/// One visit of one task.
type Seat = (TaskId, StepId, u32);

/// A visit at which something can be done.
struct Scene<'s> {
    seat: Seat,
    guide: &'s Guide<'s>,
    step: StepConfig,
    visit: Visit,
    input: Value,
    /// The step with the path to its task.
    name: String,
}

impl<'s> Play<'s> {
    pub(super) fn new(stage: &'s Stage<'s>, simulation: Simulation, course: &'s Course) -> Self {
        Self {
            stage,
            simulation,
            course,
            crowd: None,
            events: Vec::new(),
            met: Vec::new(),
            decided: BTreeMap::new(),
            turned: BTreeSet::new(),
            left: BTreeSet::new(),
            people: 0,
            moves: 0,
            waits_on_purpose: false,
            is_unfinished: false,
            refused: Vec::new(),
            made_up: BTreeSet::new(),
            not_played: BTreeSet::new(),
        }
    }

    /// Plays the case.
    pub(super) fn play(&mut self) {
        self.start();
        let mut waits = 0;
        while !self.is_over() {
            if self.moves >= MOVES_MAX || waits >= WAITS_MAX {
                self.is_unfinished = true;
                return;
            }
            if let Some(scene) = self.next_scene() {
                self.moves += 1;
                self.act(&scene);
                continue;
            }
            // Nobody does anything: time passes until something happens by itself.
            let Some((at, _)) = self.simulation.next_due() else {
                return;
            };
            waits += 1;
            self.wait_until(at);
        }
    }

    fn is_over(&self) -> bool {
        let state = self.simulation.state(self.stage.task);
        state.is_none_or(|state| state.status.is_final())
    }

    fn start(&mut self) {
        let script = self.stage.script;
        let Some(guide) = self.stage.guides.get(self.stage.workflow) else {
            return;
        };
        let (mut input, inputs) = guide.input();
        let (mut labels, other_labels) = guide.labels();
        // What a script says is not varied.
        let mut variants: Vec<(String, Value, Value)> = Vec::new();
        if let Some(given) = &script.input {
            input.clone_from(given);
        }
        if !script.labels.is_empty() {
            labels = json!(script.labels);
        } else if !labels.is_null() {
            self.made_up.insert(format!("the labels: {labels}"));
        }
        for variant in inputs.into_iter().filter(|_| script.input.is_none()) {
            let label = format!("input: {}", variant.label);
            variants.push((label, variant.value, labels.clone()));
        }
        for variant in other_labels
            .into_iter()
            .filter(|_| script.labels.is_empty())
        {
            let label = format!("labels: {}", variant.label);
            variants.push((label, input.clone(), variant.value));
        }
        let gold = guide.config.gold.is_some() && script.expected.is_none();
        let known = if gold {
            known_answers(guide, &input)
        } else {
            Vec::new()
        };
        let place = Place {
            step: None,
            from: None,
            hook: None,
        };
        let names = variants.iter().map(|(label, ..)| label.as_str());
        let ways = ways_to_start(names, known.len());
        let choice = self.choose(place, 1, ways);
        let mut expected = script.expected.clone();
        if let Choice::StartWith(at) = choice
            && let Some((_, other_input, other_labels)) = variants.get(at)
        {
            input.clone_from(other_input);
            labels.clone_from(other_labels);
        } else if choice == Choice::GoldRight {
            expected = known.first().cloned();
        } else if choice == Choice::GoldWrong {
            expected = known.get(1).cloned();
        }
        if guide.reads_task_id {
            self.not_played.insert(format!(
                "other ids of the task, which a condition reads: here it is {}",
                self.stage.task
            ));
        }
        let start = Start {
            task_id: self.stage.task,
            workflow: WorkflowSelector::Latest(self.stage.workflow.clone()),
            input: (!input.is_null()).then_some(input),
            labels: texts_of(&labels),
            expected,
        };
        if let Some(why) = self.run(Command::Start(start)) {
            self.refused.push(format!("the task does not start: {why}"));
        }
    }

    /// Runs a command. Returns why it was refused, if it was.
    fn run(&mut self, command: Command) -> Option<String> {
        let played = self.simulation.run(command);
        let refusal = played.first().and_then(|first| match &first.outcome {
            Outcome::Applied(_) | Outcome::Duplicate(_) => None,
            Outcome::Rejected(rejection) => {
                Some(format!("{}, {}", rejection.code, rejection.detail))
            }
            Outcome::Undecided(undecided) => Some(undecided.to_string()),
            Outcome::Dead(dead) => Some(dead.to_string()),
        });
        self.record(played);
        refusal
    }

    fn record(&mut self, played: Vec<Played>) {
        let events = played.into_iter().flat_map(|played| played.events);
        self.events.extend(events);
    }

    fn wait_until(&mut self, at: DateTime<Utc>) {
        let time = (at - self.simulation.now()).to_std().unwrap_or_default();
        let played = self.simulation.pass(time);
        self.record(played);
    }

    /// The next visit at which something can be done: of the task itself first, then of its children,
    /// each in the order of the file.
    fn next_scene(&self) -> Option<Scene<'s>> {
        let tasks = self.simulation.tasks.iter();
        let mut tasks: Vec<(Option<String>, TaskId, &WorkflowSnapshot)> = tasks
            .filter_map(|(id, task)| {
                Some((self.simulation.path_to(*id), *id, task.state.as_ref()?))
            })
            .filter(|(_, _, state)| state.status == TaskStatus::Running)
            .collect();
        tasks.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        tasks.into_iter().find_map(|(_, task, state)| {
            let guide = self.stage.guides.get(&state.workflow.workflow)?;
            guide.config.steps.iter().find_map(|step| {
                let visit = state.current_visit(&step.id)?;
                let seat = (task, step.id.clone(), visit.number);
                let scene = || Scene {
                    name: self.simulation.named(task, &step.id),
                    seat: seat.clone(),
                    guide,
                    step: step.clone(),
                    visit: visit.clone(),
                    input: state.input.clone().unwrap_or_default(),
                };
                let is_open = !self.left.contains(&seat) && self.can_act(state, step, visit);
                is_open.then(scene)
            })
        })
    }

    /// Whether somebody can do something at a visit.
    fn can_act(&self, state: &WorkflowSnapshot, step: &StepConfig, visit: &Visit) -> bool {
        if visit.status != VisitStatus::Active || visit.pause.is_some() {
            return false;
        }
        if is_stopped(state, &step.id) {
            return false;
        }
        if let Some(call) = &visit.call {
            let hook = call.hook.map(|hook| hook.stage);
            let scripted = self
                .simulation
                .answers
                .contains_key(&caller(&step.id, hook));
            return !scripted;
        }
        match step.kind.spec().performer {
            Performer::Annotators | Performer::Person | Performer::Handler => visit.is_open(),
            // A child that is at hand starts by itself, and is played like the task.
            Performer::ChildTask => {
                let known = |id: &WorkflowId| self.stage.guides.contains_key(id);
                visit.is_open() && !step.workflow.as_ref().is_some_and(known)
            }
            Performer::Expression => false,
        }
    }

    fn act(&mut self, scene: &Scene<'s>) {
        if let Some(call) = &scene.visit.call {
            let (handler, hook, n) = (call.handler, call.hook, call.n);
            self.answer_call(scene, handler, hook, n);
            return;
        }
        match scene.step.kind.spec().performer {
            Performer::Annotators => self.annotate(scene),
            Performer::Person if scene.step.kind.spec().ends_with == EndsWith::Decision => {
                self.review(scene);
            }
            Performer::Person => self.adjudicate(scene),
            Performer::Handler => self.advance_handler(scene),
            Performer::ChildTask => self.stand_in(scene),
            Performer::Expression => self.leave(scene, Choice::Nobody),
        }
    }

    /// Decides what happens at a visit, or says again what was decided. Also how many people it asks.
    fn decide(
        &mut self,
        scene: &Scene<'s>,
        hook: Option<HookId>,
        ways: Vec<Way>,
    ) -> (Choice, usize) {
        let key = (scene.seat.clone(), hook);
        if let Some(known) = self.decided.get(&key) {
            return *known;
        }
        let place = Place {
            step: Some(scene.name.clone()),
            from: scene.visit.entered_from.clone(),
            hook: hook.map(|hook| hook.to_string()),
        };
        let choice = self.choose(place, scene.visit.number, ways);
        let decided = (choice, people(&scene.visit));
        self.decided.insert(key, decided);
        decided
    }

    fn choose(&mut self, place: Place, visit: u32, ways: Vec<Way>) -> Choice {
        let usual = ways.first().map_or(Choice::Nobody, |way| way.choice);
        let turn = self.course.turn_at(&place);
        let choice = match turn {
            Some(way) if way.always || self.turned.insert(place.clone()) => {
                let possible = ways.iter().any(|known| known.choice == way.choice);
                if possible { way.choice } else { usual }
            }
            Some(_) | None => usual,
        };
        if visit == 1 && self.met.iter().all(|(met, _)| *met != place) {
            self.met.push((place, ways));
        }
        choice
    }

    /// Does nothing more at a visit.
    fn leave(&mut self, scene: &Scene<'s>, because: Choice) {
        self.waits_on_purpose |= because.leaves_waiting();
        self.left.insert(scene.seat.clone());
    }

    /// The visit as it is now, while it goes on.
    fn visit_now(&self, seat: &Seat) -> Option<&Visit> {
        let (task, step, number) = seat;
        let state = self.simulation.state(*task)?;
        let visit = state.current_visit(step)?;
        let goes_on = state.status == TaskStatus::Running
            && visit.number == *number
            && visit.is_open()
            && !is_stopped(state, step);
        goes_on.then_some(visit)
    }

    fn answers(&mut self, scene: &Scene<'s>) -> Answers {
        let subject = scene
            .visit
            .reviewed
            .as_ref()
            .map(|subject| &subject.step_id);
        let answers = scene.guide.answers(&scene.step, subject, &scene.input);
        if answers.is_guess && scene.step.kind.spec().performer == Performer::Annotators {
            self.made_up.insert(format!(
                "answers in `{}`: the file lists no values, so {} and the like stand for them",
                scene.name,
                answers.data.first().cloned().unwrap_or_default()
            ));
        }
        answers
    }

    fn new_person(&mut self) -> UserId {
        self.people += 1;
        person(&format!("person {}", self.people))
    }

    /// A person submits. Returns whether that was accepted; a refusal is noted.
    fn submit(&mut self, scene: &Scene<'s>, data: &Value, decision: Option<Decision>) -> bool {
        // A slot can be reserved for whoever did the step before (`propagate_assignment`).
        let claimed = self.visit_now(&scene.seat);
        let claimed = claimed.and_then(|visit| visit.assignments.first());
        let claimed = claimed.map(|claim| claim.user_id);
        let user_id = claimed.unwrap_or_else(|| self.new_person());
        let Some(why) = self.submit_as(user_id, scene, data, decision) else {
            return true;
        };
        self.note_refusal(scene, data, decision, &why);
        false
    }

    /// A person submits. Returns why that was refused, if it was.
    fn submit_as(
        &mut self,
        user_id: UserId,
        scene: &Scene<'s>,
        data: &Value,
        decision: Option<Decision>,
    ) -> Option<String> {
        let mut roles = roles(&scene.step);
        if let Some(visit) = self.visit_now(&scene.seat)
            && let Some(claim) = visit.assignments.iter().find(|one| one.user_id == user_id)
        {
            roles = (!claim.roles.is_empty()).then(|| claim.roles.clone());
        }
        self.moves += 1;
        self.run(Command::Submission(Submission {
            task_id: scene.seat.0,
            step_id: Some(scene.step.id.to_string()),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id,
                data: data.clone(),
                decision: decision.map(|decision| decision.as_str().to_owned()),
                submitted_at: None,
                roles,
                confidence: None,
            },
            workflow: None,
        }))
    }

    fn note_refusal(
        &mut self,
        scene: &Scene<'s>,
        data: &Value,
        decision: Option<Decision>,
        why: &str,
    ) {
        let what = decision.map_or_else(|| data.to_string(), |d| format!("`{}`", d.as_str()));
        let text = format!("`{}` refuses {what}: {why}", scene.name);
        if !self.refused.contains(&text) {
            self.refused.push(text);
        }
    }

    /// The next one of the crowd submits who may. Returns whether there was one.
    fn someone_submits(&mut self, scene: &Scene<'s>, answers: &Answers) -> bool {
        let (Some(visit), Some(crowd)) = (self.visit_now(&scene.seat), &self.crowd) else {
            return false;
        };
        let mut refused = None;
        for (user, accuracy) in crowd.candidates(visit) {
            let Some(data) = self
                .crowd
                .as_mut()
                .map(|crowd| crowd.says(accuracy, answers))
            else {
                return false;
            };
            match self.submit_as(user, scene, &data, None) {
                None => return true,
                Some(why) => refused = Some((data, why)),
            }
        }
        if let Some((data, why)) = refused {
            self.note_refusal(scene, &data, None, &why);
        }
        false
    }

    fn advance(&mut self, scene: &Scene<'s>, output: Option<Value>) {
        let refusal = self.run(Command::Advance(Advance {
            task_id: scene.seat.0,
            step_id: Some(scene.step.id.to_string()),
            output,
        }));
        if let Some(why) = refusal {
            self.refused
                .push(format!("`{}` refuses an `advance`: {why}", scene.name));
            self.left.insert(scene.seat.clone());
        }
    }

    /// As many people as a step asks for submit.
    fn annotate(&mut self, scene: &Scene<'s>) {
        let answers = self.answers(scene);
        let in_loop = scene.guide.is_in_loop(&scene.step.id);
        let ways = ways_of_people(&scene.step, &scene.visit, &answers, in_loop);
        let (choice, people) = self.decide(scene, None, ways);
        if answers.data.len() == 2 && people > 2 {
            self.not_played.insert(format!(
                "all differ in `{}`: it asks {people} people and takes 2 answers",
                scene.name
            ));
        }
        if choice == Choice::Nobody {
            return self.leave(scene, choice);
        }
        let least = usize::try_from(scene.step.min_required()).unwrap_or(usize::MAX);
        let silent_after = match scene.step.timeout_action() {
            TimeoutAction::Proceed => least,
            TimeoutAction::Requeue
            | TimeoutAction::Reassign
            | TimeoutAction::Escalate
            | TimeoutAction::Fail => 0,
        };
        while let Some(visit) = self.visit_now(&scene.seat) {
            let (given, is_manual) = (visit.annotations.len(), visit.slots.is_none());
            if self.moves >= MOVES_MAX {
                self.is_unfinished = true;
                return self.leave(scene, choice);
            }
            if choice == Choice::GoSilent && given >= silent_after {
                return self.go_silent(scene);
            }
            let early = matches!(choice, Choice::CloseEarly | Choice::CloseEarlyApart);
            if (early && given >= least) || (is_manual && given >= people) {
                return self.advance(scene, None);
            }
            let submitted = if self.crowd.is_some() {
                self.someone_submits(scene, &answers)
            } else {
                let data = answer_of(choice, &answers, given, people);
                self.submit(scene, &data, None)
            };
            if !submitted {
                return self.leave(scene, choice);
            }
        }
    }

    /// Somebody claims a slot and does nothing more.
    fn go_silent(&mut self, scene: &Scene<'s>) {
        let is_full = self.visit_now(&scene.seat).map(Visit::free_slots) == Some(Some(0));
        if is_full {
            return self.leave(scene, Choice::GoSilent);
        }
        let user_id = self.new_person();
        let refusal = self.run(Command::Assign(Assign {
            task_id: scene.seat.0,
            step_id: Some(scene.step.id.to_string()),
            user_id,
            roles: roles(&scene.step),
            offered: None,
        }));
        if let Some(why) = refusal {
            self.refused
                .push(format!("`{}` refuses a claim: {why}", scene.name));
        }
        self.leave(scene, Choice::GoSilent);
    }

    fn review(&mut self, scene: &Scene<'s>) {
        let answers = self.answers(scene);
        let in_loop = scene.guide.is_in_loop(&scene.step.id);
        let ways = ways_of_people(&scene.step, &scene.visit, &answers, in_loop);
        let (choice, _) = self.decide(scene, None, ways);
        if choice == Choice::GoSilent {
            return self.go_silent(scene);
        }
        let Choice::Decide(wanted) = choice else {
            return self.leave(scene, choice);
        };
        let is_true = self.is_subject_true(scene);
        let (decisions, fixed) = if let Some(crowd) = &mut self.crowd {
            crowd.decides(is_true, in_loop, &answers)
        } else {
            // Where there is nothing to approve, a reviewer gives a value, or refuses.
            let others = [Decision::Fix, Decision::Reject];
            let others = others.into_iter().filter(|other| *other != wanted);
            let fixed = answers.data.get(1).or_else(|| answers.data.first());
            let decisions = [wanted].into_iter().chain(others).collect();
            (decisions, fixed.cloned().unwrap_or_default())
        };
        for decision in decisions {
            let data = match decision {
                Decision::Fix => fixed.clone(),
                Decision::Approve | Decision::Reject | Decision::RequestChanges => Value::Null,
            };
            if self.submit(scene, &data, Some(decision)) {
                return;
            }
        }
        self.leave(scene, choice);
    }

    /// Whether the value under review is the true answer; none where there is no value, or no crowd to
    /// know it.
    fn is_subject_true(&self, scene: &Scene<'s>) -> Option<bool> {
        let crowd = self.crowd.as_ref()?;
        let value = scene.visit.subject.as_ref()?.value.as_ref()?;
        let reviewed = scene.visit.reviewed.as_ref().map(|at| &at.step_id);
        let truth = true_answers(scene.guide, &scene.input, crowd);
        let question = scene.guide.question(&scene.step, reviewed);
        let verdict = question.judge_value(value, &truth, &scene.input, None);
        Some(verdict.is_some_and(|verdict| verdict.correct))
    }

    fn adjudicate(&mut self, scene: &Scene<'s>) {
        let answers = self.answers(scene);
        let in_loop = scene.guide.is_in_loop(&scene.step.id);
        let ways = ways_of_people(&scene.step, &scene.visit, &answers, in_loop);
        let (choice, people) = self.decide(scene, None, ways);
        if choice == Choice::GoSilent {
            return self.go_silent(scene);
        }
        if choice == Choice::Nobody {
            return self.leave(scene, choice);
        }
        let data = match &mut self.crowd {
            Some(crowd) => crowd.expert_says(&answers),
            None => answer_of(choice, &answers, 0, people),
        };
        if !self.submit(scene, &data, None) {
            self.leave(scene, choice);
        }
    }

    /// An automatic step that waits for an operator.
    fn advance_handler(&mut self, scene: &Scene<'s>) {
        let (choice, _) = self.decide(scene, None, ways_of_operator());
        if choice == Choice::Advance {
            self.advance(scene, None);
        } else {
            self.leave(scene, choice);
        }
    }

    /// The child task of a workflow that is not at hand.
    fn stand_in(&mut self, scene: &Scene<'s>) {
        let (usual, variants) = scene.guide.output(&scene.step.id);
        let in_loop = scene.guide.is_in_loop(&scene.step.id);
        let (choice, _) = self.decide(scene, None, ways_of_output(None, &variants, in_loop));
        let workflow = scene.step.workflow.as_ref().map_or("", |id| id.as_str());
        self.not_played.insert(format!(
            "the child task of `{}`: the file of workflow `{workflow}` is not at hand, so {usual} stands for its output",
            scene.name
        ));
        match output_of(choice, usual, &variants) {
            Some(output) => self.advance(scene, Some(output)),
            None => self.leave(scene, choice),
        }
    }

    /// A handler outside answers, or does not.
    fn answer_call(
        &mut self,
        scene: &Scene<'s>,
        handler: ExternalHandler,
        hook: Option<HookId>,
        n: u32,
    ) {
        let found = scene.visit.found.as_ref();
        let found = found.and_then(|found| found.result.value.clone());
        let (usual, variants) = match hook.map(|hook| hook.stage) {
            None => scene.guide.output(&scene.step.id),
            Some(HookStage::PreProcess) => scene.guide.prepared(&scene.step.id),
            // The value stays as it is.
            Some(HookStage::PostProcess | HookStage::OnStart | HookStage::OnComplete) => {
                (found.unwrap_or_default(), Vec::new())
            }
        };
        let in_loop = scene.guide.is_in_loop(&scene.step.id);
        let (choice, _) = self.decide(
            scene,
            hook,
            ways_of_output(Some(handler), &variants, in_loop),
        );
        let whose = hook.map_or(String::new(), |hook| format!(", {hook}"));
        self.made_up.insert(format!(
            "what `{}` answers in `{}`{whose}",
            handler.as_str(),
            scene.name
        ));
        let output = output_of(choice, usual, &variants);
        match (handler, output) {
            (ExternalHandler::Queue, Some(output)) => self.advance(scene, Some(output)),
            (ExternalHandler::Queue, None) => self.leave(scene, choice),
            (ExternalHandler::Webhook, output) => {
                self.waits_on_purpose |= choice.leaves_waiting();
                let outcome = match output {
                    Some(output) => EffectOutcome::Done { output },
                    None => EffectOutcome::Failed {
                        error: "the handler is made to fail".to_owned(),
                        is_final: true,
                        retry_after: None,
                    },
                };
                self.end_call(scene, n, outcome);
            }
        }
    }

    /// Decides the call of a webhook with its outcome.
    fn end_call(&mut self, scene: &Scene<'s>, n: u32, outcome: EffectOutcome) {
        let state = self.simulation.state(scene.seat.0);
        let rows = state.map(derive_timers).unwrap_or_default();
        let row = rows.into_iter().find(|row| {
            row.kind == TimerKind::HandlerCall
                && row.step_id.as_ref() == Some(&scene.step.id)
                && row.visit == scene.visit.number
                && row.n == n
        });
        let Some(row) = row else {
            self.left.insert(scene.seat.clone());
            return;
        };
        self.wait_until(row.due_at);
        let played = self.simulation.fire_with(row, Some(outcome));
        self.record(vec![played]);
        let settled = self.simulation.settle();
        self.record(settled);
    }
}

/// Labels, which are texts; none where there are none.
fn texts_of(labels: &Value) -> Option<BTreeMap<String, String>> {
    let labels = labels.as_object()?.iter();
    let texts = labels.map(|(key, value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (key.clone(), text)
    });
    Some(texts.collect())
}

/// Whether an incident stops a step. One that only tells of a claim that timed out does not.
fn is_stopped(state: &WorkflowSnapshot, step: &StepId) -> bool {
    let incident = state.incident_of(step);
    incident.is_some_and(|incident| incident.code != IncidentCode::InactivityTimeout)
}

/// The roles with which a person may do a step.
fn roles(step: &StepConfig) -> Option<Vec<String>> {
    let role = step.required_roles().first()?;
    Some(vec![role.clone()])
}

/// What the next person says, after `given` others of the `people` that were asked at first.
fn answer_of(choice: Choice, answers: &Answers, given: usize, people: usize) -> Value {
    let usual = answers.data.first();
    let is_last = given + 1 == people;
    let said = if let Choice::Say(at) = choice {
        answers.variants.get(at).map(|variant| &variant.value)
    } else if choice == Choice::OneDiffers && is_last {
        answers.data.get(1)
    } else if choice == Choice::PartlyDiffer && is_last {
        answers.partly.as_ref()
    } else if matches!(choice, Choice::AllDiffer | Choice::CloseEarlyApart) {
        answers.data.iter().cycle().nth(given)
    } else {
        usual
    };
    said.or(usual).cloned().unwrap_or_default()
}

/// What a handler or a child outputs; nothing where it fails or never answers.
fn output_of(choice: Choice, usual: Value, variants: &[Variant]) -> Option<Value> {
    if let Choice::OutputVariant(at) = choice {
        let variant = variants.get(at).map(|variant| variant.value.clone());
        return Some(variant.unwrap_or(usual));
    }
    (choice == Choice::Output).then_some(usual)
}

/// Known answers of a gold task: the usual answers of its annotation steps, and others.
fn known_answers(guide: &Guide<'_>, input: &Value) -> Vec<Value> {
    let steps = guide.config.steps.iter();
    let steps = steps.filter(|step| step.kind.spec().performer == Performer::Annotators);
    let answers: Vec<Answers> = steps.map(|step| guide.answers(step, None, input)).collect();
    let known = |at: usize| -> Option<Value> {
        let answers = answers.iter().map(|answers| answers.data.get(at));
        let answers: Vec<&Value> = answers.collect::<Option<_>>()?;
        if let [only] = answers.as_slice() {
            return Some((*only).clone());
        }
        // Of several steps, each takes its own keys.
        let mut fields = Map::new();
        for answer in answers {
            fields.extend(answer.as_object()?.clone());
        }
        (!fields.is_empty()).then_some(Value::Object(fields))
    };
    let both = [known(0), known(1)].into_iter();
    both.map_while(|known| known).collect()
}
