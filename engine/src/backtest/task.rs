//! One task: what was recorded becomes commands to what would have been.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{
    course::{Course, KnownAnswer, SubjectMatch},
    player::{Player, Simulated},
    report::{Counts, Prices, UnknownKey, UnknownKind, refused},
};
use crate::{
    answer::value_at,
    command::{
        Advance, AnnotationInput, ChildCommand, ChildReport, Command, Control, EffectOutcome,
        FireTimer, Outcome, RejectionCode, Start, Submission,
    },
    config::{CompletionType, Performer, StepConfig},
    events::{ChildEnded, HookEnded, StoredEvent, WorkflowEvent, WorkflowStarted},
    ids::{CommandId, RevisionId, StepId, TaskId},
    state::{AnnotationData, ResultKind, StepResult, Visit, VisitStatus, WorkflowSnapshot},
    store::TimerKind,
    timers::derive_timers,
};

/// A task that is decided again.
pub(super) struct ReplayedTask {
    id: TaskId,
    /// The revision that it ran on last.
    pub(super) revision: RevisionId,
    /// Whether it is reported; others only teach the models.
    pub(super) is_reported: bool,
    pub(super) recorded: Course,
    pub(super) simulated: Course,
    /// The simulated state; none before it is needed, and once the task has ended.
    pub(super) state: Option<Box<WorkflowSnapshot>>,
    /// The start, until something happens to the task: many tasks may wait for their first
    /// annotation at a time.
    start: Option<Box<(Start, DateTime<Utc>, CommandId)>>,
    /// Whether the next submission starts it.
    by_submission: bool,
    /// The last recorded command.
    command: Option<CommandId>,
    /// The known answer, with which the accuracy is measured.
    pub(super) known: Option<Box<KnownAnswer>>,
    pub(super) used: u64,
    pub(super) saved: u64,
    /// What cannot be known of it.
    pub(super) unknown: BTreeMap<UnknownKey, u64>,
}

/// What a recorded event is applied with.
pub(super) struct Replay<'b> {
    pub(super) player: &'b mut Player,
    /// Of the simulated side.
    pub(super) counts: &'b mut Counts,
    pub(super) prices: &'b Prices,
}

/// What a task is about: its input, labels and known answer.
type Details<'e> = (
    &'e Option<Value>,
    &'e BTreeMap<String, String>,
    &'e Option<Value>,
);

/// Whether a simulated task takes a recorded annotation.
enum Wanted {
    Yes,
    /// Its visit has ended.
    NoMore,
    /// It has not come to the visit.
    NotYet,
    UnknownStep,
}

impl ReplayedTask {
    /// A task that starts. `known`: its answer, if it became known later.
    pub(super) fn started(
        event: &StoredEvent,
        started: &WorkflowStarted,
        is_reported: bool,
        known: Option<Value>,
        player: &Player,
    ) -> Self {
        let mut task = Self {
            id: event.task_id,
            revision: started.workflow.revision_id,
            is_reported,
            recorded: Course::default(),
            simulated: Course::default(),
            state: None,
            start: None,
            by_submission: started.by_submission,
            command: Some(event.metadata.command_id),
            known: None,
            used: 0,
            saved: 0,
            unknown: BTreeMap::new(),
        };
        if let Some(expected) = known.or_else(|| started.expected.clone()) {
            task.know(expected, started.input.as_ref());
        }
        if !started.by_submission {
            let details = (&started.input, &started.labels, &started.expected);
            task.start_with(event, details, player);
        }
        task
    }

    fn know(&mut self, expected: Value, input: Option<&Value>) {
        let input = input.cloned().unwrap_or_default();
        self.known = Some(Box::new(KnownAnswer { expected, input }));
    }

    fn start_with(
        &mut self,
        event: &StoredEvent,
        (input, labels, expected): Details<'_>,
        player: &Player,
    ) {
        let start = Start {
            task_id: self.id,
            workflow: player.selector(),
            input: input.clone(),
            labels: (!labels.is_empty()).then(|| labels.clone()),
            expected: expected.clone(),
        };
        let command = event.metadata.command_id;
        self.start = Some(Box::new((start, event.occurred_at, command)));
    }

    /// Applies a recorded event. Returns whether the recording of the task has ended.
    pub(super) fn take(&mut self, event: &StoredEvent, replay: &mut Replay<'_>) -> bool {
        let is_first = self.command != Some(event.metadata.command_id);
        self.act(event, is_first, replay);
        // What an `advance` resolves comes before what it does.
        let opens = matches!(&event.event, WorkflowEvent::IncidentResolved { resolution, .. }
            if resolution == "advance");
        if !opens {
            self.command = Some(event.metadata.command_id);
        }
        if let WorkflowEvent::WorkflowMigrated(migrated) = &event.event {
            self.revision = migrated.workflow.revision_id;
        }
        self.recorded.take(&event.event);
        self.recorded.ended.is_some()
    }

    /// Gives the simulated task what came from outside. `is_first`: the event is the first of its
    /// command, so it is no consequence of another one.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what comes from outside comes with these events alone"
    )]
    fn act(&mut self, event: &StoredEvent, is_first: bool, replay: &mut Replay<'_>) {
        match &event.event {
            WorkflowEvent::TaskDetailsSupplied {
                input,
                labels,
                expected,
                ..
            } => self.details(event, (input, labels, expected), replay),
            WorkflowEvent::AnnotationSubmitted {
                step_id,
                visit,
                annotation,
                ..
            } => self.submit(event, (step_id, *visit), annotation, replay),
            WorkflowEvent::ChildEnded(ended) => self.child(event, ended, replay),
            WorkflowEvent::HookEnded(ended) if is_first && ended.error.is_none() => {
                self.hook(event, ended, replay);
            }
            WorkflowEvent::HandlerFailed {
                step_id,
                visit,
                error,
                retry_at: None,
                ..
            } => self.failed_call(event, (step_id, *visit), error, replay),
            WorkflowEvent::ResultFound {
                step_id,
                visit,
                found,
            } if is_first => self.close(event, (step_id, *visit), &found.result, replay),
            WorkflowEvent::StepCompleted {
                step_id,
                visit,
                result,
                ..
            } if is_first => self.close(event, (step_id, *visit), result, replay),
            WorkflowEvent::IncidentResolved {
                step_id,
                resolution,
                ..
            } if is_first && resolution == "retry" => self.retry(event, step_id, replay),
            WorkflowEvent::WorkflowCancelled { reason } => {
                self.wake(event.occurred_at, replay);
                if self.state.is_some() {
                    let control = Control {
                        task_id: self.id,
                        step_id: None,
                        reason: reason.clone(),
                    };
                    self.decide(event, Command::Cancel(control), replay);
                }
            }
            _ => {}
        }
    }

    fn decide(
        &mut self,
        event: &StoredEvent,
        command: Command,
        replay: &mut Replay<'_>,
    ) -> Outcome {
        let (id, now) = (event.metadata.command_id, event.occurred_at);
        let (player, mut simulated) = self.simulated(replay);
        let outcome = player.decide(&mut simulated, id, command, now);
        self.settle();
        outcome
    }

    fn simulated<'t>(&'t mut self, replay: &'t mut Replay<'_>) -> (&'t mut Player, Simulated<'t>) {
        let is_reported = self.is_reported;
        let simulated = Simulated {
            state: &mut self.state,
            course: &mut self.simulated,
            counts: is_reported.then_some((&mut *replay.counts, replay.prices)),
        };
        (&mut *replay.player, simulated)
    }

    /// Forgets the state of a task that has ended, unless its details are still to come.
    fn settle(&mut self) {
        let is_open = self.simulated.ended.is_none();
        self.state
            .take_if(|state| !is_open && !state.awaits_details);
    }

    /// Starts the simulated task, and lets its time pass.
    pub(super) fn wake(&mut self, until: DateTime<Utc>, replay: &mut Replay<'_>) {
        let start = self.start.take();
        let (player, mut simulated) = self.simulated(replay);
        if let Some(start) = start {
            let (start, at, id) = *start;
            player.decide(&mut simulated, id, Command::Start(start), at);
        }
        player.fire_due(&mut simulated, until);
        self.settle();
    }

    /// Details that came after the first submission.
    fn details(&mut self, event: &StoredEvent, details: Details<'_>, replay: &mut Replay<'_>) {
        let (input, _, expected) = details;
        match expected {
            Some(expected) if self.known.is_none() => self.know(expected.clone(), input.as_ref()),
            _ => {
                if let (Some(known), Some(input)) = (&mut self.known, input) {
                    known.input = input.clone();
                }
            }
        }
        if self.simulated.ended.is_some() && self.state.is_none() {
            return;
        }
        self.start_with(event, details, replay.player);
        if self.by_submission {
            // Nothing was accepted yet: the details start it.
            self.by_submission = false;
            return;
        }
        self.wake(event.occurred_at, replay);
    }

    fn submit(
        &mut self,
        event: &StoredEvent,
        (step_id, number): (&StepId, u32),
        annotation: &AnnotationData,
        replay: &mut Replay<'_>,
    ) {
        self.wake(event.occurred_at, replay);
        let kind = match self.wanted(step_id, number, replay.player) {
            Wanted::Yes => None,
            Wanted::NoMore => {
                self.saved += 1;
                return;
            }
            Wanted::NotYet => Some(UnknownKind::NotReached),
            Wanted::UnknownStep => Some(UnknownKind::UnknownStep),
        };
        let subject = self.recorded.subject_like(&self.simulated, step_id, number);
        let other = (subject == SubjectMatch::Other).then_some(UnknownKind::OtherSubject);
        if let Some(kind) = kind.or(other) {
            self.note((kind, Some(step_id.clone()), None));
            return;
        }
        let starts = std::mem::take(&mut self.by_submission);
        let submission = Submission {
            task_id: self.id,
            step_id: Some(step_id.to_string()),
            annotation: AnnotationInput {
                annotation_id: Some(annotation.annotation_id),
                user_id: annotation.user_id,
                data: annotation.data.clone(),
                decision: annotation.decision.clone(),
                submitted_at: annotation.submitted_at,
                roles: (!annotation.roles.is_empty()).then(|| annotation.roles.clone()),
                confidence: annotation.confidence,
            },
            workflow: starts.then(|| replay.player.selector()),
        };
        match self.decide(event, Command::Submission(submission), replay) {
            Outcome::Applied(_) => {
                self.used += 1;
                if subject == SubjectMatch::OtherAnnotations {
                    self.note((UnknownKind::ShownOtherwise, Some(step_id.clone()), None));
                }
            }
            Outcome::Rejected(rejection) => {
                self.by_submission = starts;
                if rejection.code == RejectionCode::Surplus {
                    self.saved += 1;
                } else {
                    self.note(refused(step_id, rejection.code));
                }
            }
            Outcome::Duplicate(_) | Outcome::Undecided(_) | Outcome::Dead(_) => {
                self.by_submission = starts;
                self.note((UnknownKind::NotReached, Some(step_id.clone()), None));
            }
        }
    }

    fn wanted(&self, step_id: &StepId, number: u32, player: &Player) -> Wanted {
        if self.simulated.ended.is_some() {
            return Wanted::NoMore;
        }
        if player.config().step(step_id).is_none() {
            return Wanted::UnknownStep;
        }
        let Some(state) = &self.state else {
            // The submission starts it, or there is nothing to submit to.
            return if self.by_submission {
                Wanted::Yes
            } else {
                Wanted::NotYet
            };
        };
        match state.visit(step_id, number) {
            None => Wanted::NotYet,
            Some(visit) if visit.opening && visit.status == VisitStatus::Active => Wanted::NotYet,
            Some(visit) if visit.is_open() => Wanted::Yes,
            Some(_) => Wanted::NoMore,
        }
    }

    /// The visit of a step that is still to end.
    fn active<'t>(
        &'t self,
        (step_id, number): (&StepId, u32),
        player: &'t Player,
    ) -> Option<(&'t StepConfig, &'t Visit)> {
        let step = player.config().step(step_id)?;
        let visit = self.state.as_ref()?.visit(step_id, number)?;
        (visit.status == VisitStatus::Active).then_some((step, visit))
    }

    /// A visit was ended from outside: by a handler, an operator or its time.
    fn close(
        &mut self,
        event: &StoredEvent,
        at: (&StepId, u32),
        result: &StepResult,
        replay: &mut Replay<'_>,
    ) {
        self.wake(event.occurred_at, replay);
        let Some((step, visit)) = self.active(at, replay.player) else {
            return;
        };
        let performer = step.kind.spec().performer;
        let by_people = matches!(performer, Performer::Annotators | Performer::Person);
        let calculates =
            step.consensus.is_some() || step.completion_type() == CompletionType::Confidence;
        let value = || Some(result.value.clone().unwrap_or_default());
        let output = match performer {
            // The visit is closed with what it has, unless an operator gave the value.
            Performer::Annotators | Performer::Person => {
                let given = calculates && result.kind == ResultKind::Annotation;
                given.then(value).flatten()
            }
            Performer::Handler if step.external_handler().is_none() && visit.call.is_none() => None,
            Performer::Handler | Performer::Expression | Performer::ChildTask => value(),
        };
        if !by_people && output.is_some() && !self.recorded.same_input(&self.simulated) {
            self.note((UnknownKind::OtherInput, Some(at.0.clone()), None));
            return;
        }
        let outcome = self.advance(event, at.0, output, replay);
        if by_people && matches!(outcome, Outcome::Rejected(_)) {
            self.note((UnknownKind::NotClosed, Some(at.0.clone()), None));
        }
    }

    fn advance(
        &mut self,
        event: &StoredEvent,
        step_id: &StepId,
        output: Option<Value>,
        replay: &mut Replay<'_>,
    ) -> Outcome {
        let advance = Advance {
            task_id: self.id,
            step_id: Some(step_id.to_string()),
            output,
        };
        self.decide(event, Command::Advance(advance), replay)
    }

    /// An external hook has returned, or an operator has given its output.
    fn hook(&mut self, event: &StoredEvent, ended: &HookEnded, replay: &mut Replay<'_>) {
        self.wake(event.occurred_at, replay);
        let at = self.active((&ended.step_id, ended.visit), replay.player);
        let waiting = at.and_then(|(_, visit)| visit.current_hook());
        if waiting != Some(ended.hook) {
            return;
        }
        if self.recorded.same_input(&self.simulated) {
            self.advance(event, &ended.step_id, ended.output.clone(), replay);
        } else {
            self.note((UnknownKind::OtherInput, Some(ended.step_id.clone()), None));
        }
    }

    /// A call has failed for good.
    fn failed_call(
        &mut self,
        event: &StoredEvent,
        (step_id, number): (&StepId, u32),
        error: &str,
        replay: &mut Replay<'_>,
    ) {
        self.wake(event.occurred_at, replay);
        let visit = self.active((step_id, number), replay.player);
        let Some(n) = visit.and_then(|(_, visit)| Some(visit.call.as_ref()?.n)) else {
            return;
        };
        if !self.recorded.same_input(&self.simulated) {
            self.note((UnknownKind::OtherInput, Some(step_id.clone()), None));
            return;
        }
        let tries = replay
            .player
            .config()
            .settings
            .max_retries
            .saturating_add(1);
        for _ in 0..tries {
            let rows = self.state.as_deref().map(derive_timers).unwrap_or_default();
            let row = rows.into_iter().find(|row| {
                let kinds = [TimerKind::HandlerCall, TimerKind::JobTimeout];
                let same = (row.step_id.as_ref(), row.visit, row.n) == (Some(step_id), number, n);
                same && kinds.contains(&row.kind)
            });
            let Some(row) = row else { return };
            let outcome = (row.kind == TimerKind::HandlerCall).then(|| EffectOutcome::Failed {
                error: error.to_owned(),
                is_final: true,
                retry_after: None,
            });
            let (player, mut simulated) = self.simulated(replay);
            player.fire(&mut simulated, FireTimer { row, outcome });
            self.settle();
        }
    }

    fn retry(&mut self, event: &StoredEvent, step_id: &StepId, replay: &mut Replay<'_>) {
        self.wake(event.occurred_at, replay);
        let state = self.state.as_ref();
        if state.is_some_and(|state| state.incident_of(step_id).is_some()) {
            let control = Control {
                task_id: self.id,
                step_id: Some(step_id.to_string()),
                reason: None,
            };
            self.decide(event, Command::Retry(control), replay);
        }
    }

    /// A child task has ended. Its whole output is not in the parent's stream, but what the parent
    /// took of it is.
    fn child(&mut self, event: &StoredEvent, ended: &ChildEnded, replay: &mut Replay<'_>) {
        self.wake(event.occurred_at, replay);
        let at = (&ended.step_id, ended.visit);
        let Some((step, visit)) = self.active(at, replay.player) else {
            return;
        };
        let waits = visit.child.as_ref();
        if waits.is_none_or(|child| child.task_id != ended.task_id) {
            return;
        }
        let mut output = Value::Object(Map::new());
        for (key, path) in step.output_mapping.iter().flatten() {
            if let Some(value) = ended.context.get(key) {
                put(&mut output, path, value);
            }
        }
        for (key, value) in [
            ("result", ended.outcome.value.clone()),
            ("agreement", ended.outcome.agreement.map(|n| json!(n))),
        ] {
            if let Some(value) = value {
                put(&mut output, key, &value);
            }
        }
        if !self.recorded.same_input(&self.simulated) {
            self.note((UnknownKind::OtherInput, Some(ended.step_id.clone()), None));
            return;
        }
        let reference = replay.player.workflow.reference();
        let outcome = &ended.outcome;
        let report = ChildReport {
            task_id: self.id,
            child_task_id: ended.task_id,
            status: outcome.status,
            workflow: outcome.workflow.clone().unwrap_or(reference),
            output: Some(output),
            error: outcome.error.clone(),
            people: outcome.people.clone(),
        };
        let command = Command::Child(ChildCommand::Report(report));
        self.decide(event, command, replay);
    }

    /// Counts something that cannot be known.
    pub(super) fn note(&mut self, key: UnknownKey) {
        *self.unknown.entry(key).or_default() += 1;
    }
}

/// Puts a value at a path of keys.
fn put(into: &mut Value, path: &str, value: &Value) {
    if value_at(into, Some(path)).is_some() {
        return;
    }
    let path = path.strip_prefix("$.").unwrap_or(path);
    let mut at = into;
    for key in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(keys) = at else { return };
        at = keys.entry(key.to_owned()).or_insert(Value::Null);
    }
    *at = value.clone();
}
