//! Warnings about branches that run side by side: where they collide, where they do not meet, and
//! what they make of the same thing.

use super::{
    draft::Goal,
    fault::{Faults, Spot},
    map::Map,
    meetings::{Meetings, is_join},
    outcomes::{Ends, Match},
    report::DiagnosticCode as Code,
    ways::By,
};
use crate::config::{JoinMode, Performer};

/// Adds the warnings.
pub(super) fn check(map: &Map<'_, '_>, ends: &Ends<'_, '_>, faults: &mut Faults) {
    idle_join_timeouts(ends, faults);
    if !ends.parallel {
        return;
    }
    priorities(ends, faults);
    let meetings = Meetings::of(map, ends);
    collisions(map, ends, &meetings, faults);
    idle_joins(map, ends, &meetings, faults);
    several_ends(map, ends, &meetings, faults);
    context_clashes(ends, &meetings, faults);
    if !meetings.forks
        && let Some(node) = ends.draft.body.below(&["settings", "allow_parallel_steps"])
    {
        let message = "no step has two transitions that can fire together, so no steps run side \
                       by side";
        faults
            .add(Code::NoEffect, &node.origin, message)
            .at(Spot::Key)
            .value_of(node)
            .suggest("remove it, or let a step lead to several others");
    }
}

fn collisions(map: &Map<'_, '_>, ends: &Ends<'_, '_>, meetings: &Meetings, faults: &mut Faults) {
    for at in &meetings.collisions {
        let way = map.ways[*at];
        let Goal::Step(to) = way.to else { continue };
        let id = ends.draft.steps[to].id.unwrap_or_default();
        let message = format!(
            "a branch can come to `{id}` this way while another branch is still at it; it is \
             then held by an incident"
        );
        let fault = faults.add(Code::BranchCollision, way.origin, message);
        if way.bound.is_some() {
            fault.suggest("let a branch loop within itself, behind the fork and before the join");
        } else {
            fault.suggest(format!(
                "let the branches meet before, or give `{id}` a `join_mode`"
            ));
        }
    }
}

fn idle_joins(map: &Map<'_, '_>, ends: &Ends<'_, '_>, meetings: &Meetings, faults: &mut Faults) {
    let loops = map.ways.iter().any(|way| way.bound.is_some());
    for (at, step) in ends.draft.steps.iter().enumerate() {
        let (Some(place), Some(config)) = (meetings.waiting_at[at], &step.config) else {
            continue;
        };
        let wanted = match config.join_mode {
            None => continue,
            Some(JoinMode::All | JoinMode::Any) => 2,
            Some(JoinMode::NOfM) => config.join_count.unwrap_or(1) as usize,
        };
        let together: usize = (0..map.leaving.len())
            .map(|from| {
                let arriving = most_together(map, ends, from, at);
                let meets = arriving > 1 || meetings.meet_at(from, place);
                if meets { arriving } else { 0 }
            })
            .sum();
        // In a loop, one edge can bring several branches.
        if together >= wanted || loops && together > 0 {
            continue;
        }
        let message = match together {
            0 | 1 => "no two branches ever arrive at this join in the same round".to_owned(),
            n => format!("{wanted} branches are waited for, but at most {n} arrive together"),
        };
        faults
            .add(Code::IdleJoin, &step.node.origin, message)
            .suggest("fork before it, lower `join_count`, or remove `join_mode`");
    }
}

/// How many edges from `from` to the join `to` a single ending of the step takes at most.
fn most_together(map: &Map<'_, '_>, ends: &Ends<'_, '_>, from: usize, to: usize) -> usize {
    let arriving: Vec<By> = map.leaving[from]
        .iter()
        .map(|at| map.ways[*at])
        .filter(|way| way.to == Goal::Step(to) && way.bound.is_none())
        .map(|way| way.by)
        .collect();
    let of_transitions = || arriving.iter().filter_map(|by| by.transition());
    match &ends.endings[from] {
        Some(endings) if of_transitions().next().is_some() => {
            let taken = |row: &Vec<Match>| of_transitions().filter(|at| row[*at].may()).count();
            endings
                .tried()
                .map(|(_, row)| taken(row))
                .max()
                .unwrap_or(0)
        }
        _ => arriving.len(),
    }
}

/// Reports branches that end apart: the output of the task is then that of the one that ends last.
fn several_ends(map: &Map<'_, '_>, ends: &Ends<'_, '_>, meetings: &Meetings, faults: &mut Faults) {
    let steps = map.leaving.len();
    let ends_at = |step: &usize| {
        let mut leaving = map.leaving[*step].iter();
        ends.is_last(*step) || leaving.any(|way| map.ways[*way].to == Goal::Complete)
    };
    let ending: Vec<usize> = (0..steps).filter(ends_at).collect();
    for (place, step) in ending.iter().enumerate() {
        let mut before = ending[..place].iter();
        let Some(other) = before.find(|other| meetings.meet_at(*step, **other)) else {
            continue;
        };
        let name = |step: usize| ends.draft.steps[step].id.unwrap_or_default();
        let message = format!(
            "the branches that end at `{}` and `{}` never meet: the result of the task is that of \
             whichever ends last",
            name(*other),
            name(*step)
        );
        faults
            .add(
                Code::AmbiguousOutput,
                &ends.draft.steps[*step].node.origin,
                message,
            )
            .suggest("let them meet in a step with `handler: result_merger`");
    }
}

/// Reports child tasks side by side that write the same key of the context.
fn context_clashes(ends: &Ends<'_, '_>, meetings: &Meetings, faults: &mut Faults) {
    let steps = &ends.draft.steps;
    let children: Vec<usize> = (0..steps.len())
        .filter(|at| {
            let config = steps[*at].config.as_ref();
            config.is_some_and(|config| config.kind.spec().performer == Performer::ChildTask)
        })
        .collect();
    for (place, step) in children.iter().enumerate() {
        let mapped = steps[*step].node.get("output_mapping");
        for (key, node) in mapped.and_then(|node| node.map()).into_iter().flatten() {
            let writes = |other: &&usize| {
                let mapping = steps[**other].node.below(&["output_mapping", key]);
                mapping.is_some() && meetings.meet_at(*step, **other)
            };
            let Some(other) = children[..place].iter().find(writes) else {
                continue;
            };
            let message = format!(
                "`{}`, which can run at the same time, writes `context.{key}` too: the one that \
                 ends last overwrites the other",
                steps[*other].id.unwrap_or_default()
            );
            faults
                .add(Code::ContextClash, &node.origin, message)
                .at(Spot::Key)
                .value_of(node)
                .suggest("give each a key of its own");
        }
    }
}

/// Warns about `priority`, which chooses nothing where every match fires.
fn priorities(ends: &Ends<'_, '_>, faults: &mut Faults) {
    for (from, leaving) in ends.leaving.iter().enumerate() {
        for transition in leaving {
            let priority = transition
                .config
                .as_ref()
                .map_or(0, |config| config.priority);
            let Some(node) = transition.node.get("priority").filter(|_| priority != 0) else {
                continue;
            };
            let others = leaving
                .iter()
                .filter(|other| !std::ptr::eq(**other, *transition));
            let mut unconditional = others
                .filter(|other| other.config.as_ref().is_some_and(|c| c.condition.is_none()))
                .filter_map(|other| other.config.as_ref());
            let also = unconditional.next().map_or_else(String::new, |other| {
                format!(", and the one to `{}` always does", other.to)
            });
            let message = format!(
                "`priority` chooses nothing where steps may run side by side: every transition out \
                 of `{}` that matches fires{also}",
                ends.draft.steps[from].id.unwrap_or_default()
            );
            faults
                .add(Code::NoEffect, &node.origin, message)
                .at(Spot::Key)
                .value_of(node)
                .suggest("remove it; to go one way only, branch with a `conditional` step");
        }
    }
}

/// Warns about `join_timeout` where a step waits for no branches.
fn idle_join_timeouts(ends: &Ends<'_, '_>, faults: &mut Faults) {
    for (at, step) in ends.draft.steps.iter().enumerate() {
        if is_join(ends, at) {
            continue;
        }
        if let Some(node) = step.node.get("join_timeout") {
            let message = "`join_timeout` never runs: no branches meet at the step";
            faults
                .add(Code::NoEffect, &node.origin, message)
                .at(Spot::Key)
                .value_of(node)
                .suggest("remove it");
        }
    }
}
