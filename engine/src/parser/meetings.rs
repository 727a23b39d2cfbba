//! Which steps can be active at the same time.
//!
//! It is computed from pairs, because the combinations of active steps are exponentially many. A
//! place is, as in a Petri net, a step or the waiting area before a join. A fork creates pairs of
//! places; one place of a pair moves on while the other stays, until there are no new pairs. This
//! takes time quadratic in the number of steps, so the bounds of a file are enough.
//!
//! The result errs on one side. Three places that meet pairwise are assumed to meet all together,
//! and expressions are assumed to be independent of each other. So two steps that meet here may
//! never meet with the actual data of the tasks, but none is missed.

use super::{
    draft::Goal,
    map::{Map, can_linger},
    outcomes::{Ends, condition_of},
    ways::Way,
};
use crate::{config::StepSet, expression::exclude_each_other};

/// Which places can be occupied at the same time: the steps, and before every join the place of the
/// branches that wait there.
pub(super) struct Meetings {
    steps: usize,
    /// For each step that is a join, its waiting place.
    pub(super) waiting_at: Vec<Option<usize>>,
    /// For each join, in the order of the waiting places, the places from which a branch can still
    /// arrive.
    before: Vec<StepSet>,
    /// Pairs of places that can be occupied at the same time.
    pairs: Vec<StepSet>,
    /// Edges that lead to a step while another branch can be at it.
    pub(super) collisions: Vec<usize>,
    /// Whether two edges out of one step can be taken together.
    pub(super) forks: bool,
}

impl Meetings {
    pub(super) fn of(map: &Map<'_, '_>, ends: &Ends<'_, '_>) -> Self {
        let steps = map.leaving.len();
        let mut places = steps;
        let waiting_at: Vec<Option<usize>> = (0..steps)
            .map(|at| {
                is_join(ends, at).then(|| {
                    places += 1;
                    places - 1
                })
            })
            .collect();
        let mut meetings = Self {
            steps,
            before: (0..steps)
                .filter(|at| waiting_at[*at].is_some())
                .map(|join| places_before(ends, &waiting_at, join, places))
                .collect(),
            waiting_at,
            pairs: vec![StepSet::none(places); places],
            collisions: Vec::new(),
            forks: false,
        };
        meetings.meet(map, ends);
        meetings.collisions.sort_unstable();
        meetings.collisions.dedup();
        meetings
    }

    /// Whether the two places can be occupied at the same time.
    pub(super) fn meet_at(&self, one: usize, other: usize) -> bool {
        self.pairs[one].has(other)
    }

    /// The place to which an edge leads.
    fn place(&self, way: &Way<'_>) -> Option<usize> {
        let Goal::Step(to) = way.to else { return None };
        // A bounded transition opens a new visit at once, without waiting at the join.
        Some(
            self.waiting_at[to]
                .filter(|_| way.bound.is_none())
                .unwrap_or(to),
        )
    }

    fn meet(&mut self, map: &Map<'_, '_>, ends: &Ends<'_, '_>) {
        let steps = self.steps;
        let lingering: Vec<bool> = ends
            .draft
            .steps
            .iter()
            .map(|step| step.config.as_ref().is_none_or(can_linger))
            .collect();
        let mut moves = Vec::new();
        let joins: Vec<usize> = (0..steps)
            .filter(|at| self.waiting_at[*at].is_some())
            .collect();
        let reached = map.reached(ends.draft.entry.unwrap_or(0), |_| false);
        for from in (0..steps).filter(|at| reached.has(*at)) {
            for (at, one) in map.leaving[from].iter().enumerate() {
                for other in &map.leaving[from][..at] {
                    let (one, other) = (map.ways[*one], map.ways[*other]);
                    if !fire_together(ends, one, other) {
                        continue;
                    }
                    self.forks = true;
                    if let (Some(a), Some(b)) = (self.place(one), self.place(other)) {
                        self.pair(a, b, &mut moves);
                    }
                }
            }
        }
        while let Some((moving, staying)) = moves.pop() {
            if let Some(join) = moving.checked_sub(steps) {
                // The join begins once no branch can arrive any more, or it withdraws those that
                // still could.
                let step = joins[join];
                if !self.before[join].has(staying) && staying != step {
                    self.pair(step, staying, &mut moves);
                }
                continue;
            }
            for at in &map.leaving[moving] {
                let Some(to) = self.place(map.ways[*at]) else {
                    continue;
                };
                if to != staying {
                    self.pair(to, staying, &mut moves);
                } else if to < steps && lingering[to] {
                    self.collisions.push(*at);
                }
            }
        }
    }

    fn pair(&mut self, a: usize, b: usize, moves: &mut Vec<(usize, usize)>) {
        if !self.pairs[a].add(b) {
            return;
        }
        self.pairs[b].add(a);
        // Two transitions of one step to the same step enter it once.
        if a != b || a >= self.steps {
            moves.extend([(a, b), (b, a)]);
        }
    }
}

/// Whether the step waits for branches.
pub(super) fn is_join(ends: &Ends<'_, '_>, at: usize) -> bool {
    let config = ends.draft.steps[at].config.as_ref();
    let mode = config.and_then(|config| config.join_mode);
    ends.parallel && ends.ways.graph.joins(at, mode)
}

/// The places from which a branch can still arrive at a join, including the waiting places.
fn places_before(
    ends: &Ends<'_, '_>,
    waiting_at: &[Option<usize>],
    join: usize,
    places: usize,
) -> StepSet {
    let mut before = StepSet::none(places);
    let steps = ends.ways.graph.before(join);
    for step in (0..waiting_at.len()).filter(|step| steps.has(*step)) {
        before.add(step);
        if let Some(place) = waiting_at[step] {
            before.add(place);
        }
    }
    if let Some(place) = waiting_at[join] {
        before.add(place);
    }
    before
}

/// A step with more transitions than this may have expressions that exclude each other unnoticed.
const COMPARED_MAX: usize = 20;

/// Whether the expressions of two edges are never true together.
fn exclude(ends: &Ends<'_, '_>, one: &Way<'_>, other: &Way<'_>) -> bool {
    let leaving = &ends.leaving[one.from];
    let expression = |way: &Way<'_>| {
        let condition = condition_of(leaving[way.by.transition()?])?;
        let source = condition.expression.as_deref()?;
        ends.expressions.get(source)?.as_ref().ok()
    };
    leaving.len() <= COMPARED_MAX
        && expression(one)
            .zip(expression(other))
            .is_some_and(|(one, other)| exclude_each_other(one, other))
}

/// Whether a step can end so that both edges are taken.
fn fire_together(ends: &Ends<'_, '_>, one: &Way<'_>, other: &Way<'_>) -> bool {
    match (one.by.transition(), other.by.transition()) {
        // The loop back and the `on_exhausted` of one transition exclude each other.
        (Some(a), Some(b)) if a == b => false,
        (Some(_), Some(_)) => match &ends.endings[one.from] {
            Some(endings) => {
                let both = |outcome| {
                    ends.can_take(endings, outcome, one.by)
                        && ends.can_take(endings, outcome, other.by)
                };
                (0..endings.outcomes.len()).any(both) && !exclude(ends, one, other)
            }
            None => true,
        },
        // Branches of a conditional step.
        _ => false,
    }
}
