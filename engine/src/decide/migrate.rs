//! Moving a running task to another revision.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{builder::DecisionBuilder, decision::Refusal, inactivity::closes_after};
use crate::{
    command::{Migrate, RejectionCode},
    config::{Performer, StepConfig, TransitionConfig, WorkflowConfig},
    events::{WorkflowEvent, WorkflowMigrated},
    ids::StepId,
    state::{IncidentCode, Visit, VisitStatus},
    transition::CompiledWorkflow,
};

/// Steps are mapped by the command, else by their id. A current step of the task must exist in the
/// new revision with the same type; steps that the task has left keep their history under their id.
pub(super) fn migrate(builder: &mut DecisionBuilder<'_>, command: &Migrate) -> Result<(), Refusal> {
    if builder.state()?.status.is_final() {
        builder.require_running()?;
    }
    let target = builder.named.ok_or(Refusal::WorkflowNotFound)?;
    let (old, new) = (builder.config(), &**target.config());
    if new.id != old.id {
        return Err(unmapped(format!(
            "`{}` is another workflow; a task can only move to a revision of `{}`",
            command.to, old.id
        )));
    }
    let map = |id: &StepId| command.steps.get(id).unwrap_or(id).clone();
    require_mapped(builder, new, command)?;
    let state = builder.current();
    if new.revision == old.revision && command.steps.iter().all(|(from, to)| from == to) {
        // The task runs on this revision already: there is nothing to record.
        return Ok(());
    }
    let renamed = command.steps.iter().filter(|(from, to)| from != to);
    let active: Vec<StepId> = state.active_steps().map(map).collect();
    let slots = active.iter().filter_map(|id| {
        let step = new.step(id)?;
        Some((
            id.clone(),
            step.kind
                .takes_submissions()
                .then(|| step.slots())
                .flatten(),
        ))
    });
    let migrated = WorkflowMigrated {
        from_revision: state.workflow.revision,
        workflow: target.reference(),
        content_hash: target.content_hash().to_owned(),
        steps: renamed
            .map(|(from, to)| (from.clone(), to.clone()))
            .collect(),
        slots: slots.collect(),
        loops: loops(&state.loops, &old.transitions, &new.transitions, &map),
        joins: joins(builder, new, &map),
        held: held(builder, target, &map),
        closes: closes(builder, new, &map),
    };
    builder.emit(WorkflowEvent::WorkflowMigrated(migrated));
    builder.bind(target);
    // The new revision may need no more than has been submitted. A child task continues unchanged.
    for step_id in active {
        let visit = builder.visit(&step_id);
        let performer = builder.step(&step_id).kind.spec().performer;
        // A call that has failed for good is repeated only by `retry`.
        let failed = performer == Performer::Handler
            && builder.current().incidents.iter().any(|incident| {
                incident.step_id == step_id && incident.code == IncidentCode::HandlerFailed
            });
        let open = !failed
            && visit.status == VisitStatus::Active
            && visit.pause.is_none()
            && performer != Performer::ChildTask;
        if open && builder.current().pause.is_none() {
            let step = builder.step(&step_id);
            builder.go_on(step, None);
        }
    }
    if builder.current().pause.is_none() {
        builder.begin_ready_joins();
    }
    Ok(())
}

fn require_mapped(
    builder: &DecisionBuilder<'_>,
    new: &WorkflowConfig,
    command: &Migrate,
) -> Result<(), Refusal> {
    let (state, old) = (builder.current(), builder.config());
    let map = |id: &StepId| command.steps.get(id).unwrap_or(id).clone();
    for (from, to) in &command.steps {
        if old.step(from).is_none() || new.step(to).is_none() {
            return Err(unmapped(format!(
                "`steps` maps `{from}` to `{to}`: the first must be a step of revision {}, the \
                 second one of revision {}",
                old.revision, new.revision
            )));
        }
    }
    let mut taken = BTreeSet::new();
    if let Some(twice) = state
        .steps
        .keys()
        .map(map)
        .find(|id| !taken.insert(id.clone()))
    {
        return Err(unmapped(format!(
            "two steps of the task would both become `{twice}`"
        )));
    }
    let reliability = state.current_steps();
    for id in reliability.iter().chain(state.joins.keys()) {
        let kind = |step: &StepConfig| step.kind;
        let (from, to) = (old.step(id).map(kind), new.step(&map(id)).map(kind));
        if to.is_none() || from != to {
            return Err(unmapped(format!(
                "the task stands at step `{id}`, which has no counterpart of its type in revision \
                 {}: map it in `steps`",
                new.revision
            )));
        }
    }
    Ok(())
}

/// The new timeouts of joins with waiting branches, where they change. The new revision's timeout
/// counts from when the old one began, else from now.
fn joins(
    builder: &DecisionBuilder<'_>,
    new: &WorkflowConfig,
    map: &impl Fn(&StepId) -> StepId,
) -> BTreeMap<StepId, Option<DateTime<Utc>>> {
    let (state, old) = (builder.current(), builder.config());
    let timeout = |step: Option<&StepConfig>| Some(step?.join_timeout?.get());
    let changed = state.joins.iter().filter_map(|(id, pending)| {
        // On resume the length of the pause is added, so count from when the pause began.
        let held_since = pending.hold.as_ref().map(|hold| hold.since);
        let now = held_since.unwrap_or_else(|| stopped_at(builder, None));
        let (before, after) = (timeout(old.step(id)), timeout(new.step(&map(id))));
        let began = pending
            .expires_at
            .zip(before)
            .map(|(at, before)| at - before);
        let expires_at = after.map(|after| began.unwrap_or(now) + after);
        (expires_at != pending.expires_at).then(|| (map(id), expires_at))
    });
    changed.collect()
}

/// The paused steps that joins wait for in the new revision, where that changes.
fn held(
    builder: &DecisionBuilder<'_>,
    new: &CompiledWorkflow,
    map: &impl Fn(&StepId) -> StepId,
) -> BTreeMap<StepId, Vec<StepId>> {
    let state = builder.current();
    let sorted = |steps: BTreeSet<StepId>| steps.into_iter().collect::<Vec<_>>();
    let changed = state.joins.iter().filter_map(|(id, pending)| {
        let join = map(id);
        let paused = state.paused_steps().map(map);
        let after = sorted(paused.filter(|step| new.leads(step, &join)).collect());
        let hold = pending.hold.iter().flat_map(|hold| &hold.by);
        let before = sorted(hold.map(map).collect());
        (after != before).then_some((join, after))
    });
    changed.collect()
}

/// When active visits are closed early in the new revision, where that changes. The new revision's
/// timeout counts from when the old one began, else from now.
fn closes(
    builder: &DecisionBuilder<'_>,
    new: &WorkflowConfig,
    map: &impl Fn(&StepId) -> StepId,
) -> BTreeMap<StepId, Option<DateTime<Utc>>> {
    let (state, old) = (builder.current(), builder.config());
    let changed = state.active_steps().filter_map(|id| {
        let (visit, step_id) = (state.current_visit(id)?, map(id));
        let submitted = visit.annotations.len();
        let before = old
            .step(id)
            .and_then(|step| closes_after(old, step, submitted));
        let after = closes_after(new, new.step(&step_id)?, submitted);
        let began = visit.closes_at.zip(before).map(|(at, before)| at - before);
        let began = began.unwrap_or_else(|| stopped_at(builder, Some(visit)));
        let closes_at = after.filter(|_| visit.is_open()).map(|after| began + after);
        (closes_at != visit.closes_at).then_some((step_id, closes_at))
    });
    changed.collect()
}

/// When the clock of the task, or of a visit, stopped for a pause; now if it runs.
fn stopped_at(builder: &DecisionBuilder<'_>, visit: Option<&Visit>) -> DateTime<Utc> {
    let of_step = visit.and_then(|visit| visit.pause.as_ref());
    let pause = of_step.or(builder.current().pause.as_ref());
    pause.map_or(builder.now, |pause| pause.since)
}

/// How often bounded transitions have fired, carried over to those between the same steps.
fn loops(
    fired: &BTreeMap<usize, u32>,
    old: &[TransitionConfig],
    new: &[TransitionConfig],
    map: &impl Fn(&StepId) -> StepId,
) -> BTreeMap<usize, u32> {
    let counterpart = |index: &usize| {
        let before = old.get(*index)?;
        let (from, to) = (map(&before.from), before.to.step().map(map));
        new.iter()
            .position(|t| t.loop_bound.is_some() && t.from == from && t.to.step() == to.as_ref())
    };
    fired
        .iter()
        .filter_map(|(index, count)| Some((counterpart(index)?, *count)))
        .collect()
}

fn unmapped(detail: String) -> Refusal {
    Refusal::rejected(RejectionCode::MigrationUnmapped, detail)
}
