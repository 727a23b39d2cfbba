//! Warnings about loops: without a way out, without a way back, and inside one another.

use super::{
    draft::{Goal, TransitionDraft},
    fault::Faults,
    map::Map,
    outcomes::Ends,
    report::DiagnosticCode as Code,
    tree::Node,
    ways::{By, Way},
};
use crate::config::StepSet;

/// A transition with `loop` that can fire.
struct Loop<'m> {
    way: &'m Way<'m>,
    /// Its bound.
    max: u32,
    /// The key `loop`.
    node: &'m Node,
    has_exit: bool,
    /// The steps that a round can pass, from the one it leads to back to the one it leaves, taking
    /// no other loop. Empty where no way leads back.
    body: StepSet,
}

/// Adds the warnings.
pub(super) fn check(map: &Map<'_, '_>, ends: &Ends<'_, '_>, faults: &mut Faults) {
    let loops: Vec<Loop<'_>> = (0..map.ways.len())
        .filter_map(|at| loop_of(map, ends, at))
        .collect();
    for one in &loops {
        one.forward(map, faults);
        one.open(map, faults);
        one.nested(&loops, ends, faults);
    }
}

fn loop_of<'m>(map: &'m Map<'_, '_>, ends: &'m Ends<'_, '_>, at: usize) -> Option<Loop<'m>> {
    let way: &Way<'_> = map.ways[at];
    let (By::Transition(place), Some(max)) = (way.by, way.bound) else {
        return None;
    };
    let transition: &TransitionDraft<'_> = ends.leaving[way.from][place];
    let to = map.target(at)?;
    let forth = map.reached(to, |way| way.bound.is_some());
    let mut body = StepSet::none(map.leaving.len());
    for step in (0..map.leaving.len()).filter(|step| forth.has(*step)) {
        if step == way.from || ends.ways.graph.leads(step, way.from) {
            body.add(step);
        }
    }
    Some(Loop {
        way,
        max,
        node: transition.node.get("loop")?,
        has_exit: transition.on_exhausted.is_some(),
        body,
    })
}

impl Loop<'_> {
    /// Whether a task can come back to the transition.
    fn comes_back(&self, map: &Map<'_, '_>) -> bool {
        let Goal::Step(to) = self.way.to else {
            return false;
        };
        map.reached(to, |_| false).has(self.way.from)
    }

    fn forward(&self, map: &Map<'_, '_>, faults: &mut Faults) {
        if self.comes_back(map) {
            return;
        }
        let message = "no way leads back, so the transition closes no cycle; marked as a `loop`, \
                       it also waits at no join";
        faults
            .add(Code::ForwardLoop, &self.node.origin, message)
            .suggest("remove `loop`, or move it to the transition that leads back");
    }

    fn open(&self, map: &Map<'_, '_>, faults: &mut Faults) {
        if self.has_exit || !self.comes_back(map) {
            return;
        }
        let message = format!(
            "once the loop has run {} times, a task that would take it again stands still",
            self.max
        );
        faults
            .add(Code::OpenLoop, &self.node.origin, message)
            .suggest("add `on_exhausted: _failed`, or the step to go on with");
    }

    /// Reports a loop that has fewer rounds for the whole task than the loops around it need to
    /// pass it once a round.
    fn nested(&self, loops: &[Loop<'_>], ends: &Ends<'_, '_>, faults: &mut Faults) {
        let around = |other: &&Loop<'_>| {
            other.body.has(other.way.from) && self.body.is_less_than(&other.body)
        };
        let Some(outer) = loops.iter().filter(around).max_by_key(|outer| outer.max) else {
            return;
        };
        if !self.body.has(self.way.from) || self.max > outer.max {
            return;
        }
        let name = |step: usize| ends.draft.steps[step].id.unwrap_or_default();
        let most = u64::from(self.max) * (u64::from(outer.max) + 1);
        let message = format!(
            "`max_iterations: {}` counts over the whole task, not for each round of the loop that \
             leaves `{}`: once it is used up, later rounds have none left",
            self.max,
            name(outer.way.from)
        );
        faults
            .add(Code::NestedLoop, &self.node.origin, message)
            .suggest(format!("raise it: {most} is {} for every round", self.max));
    }
}
