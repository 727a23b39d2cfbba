//! Warnings about what can happen along the edges of a workflow, however its steps end.
//!
//! A task can get stuck, although every person and handler responds, in four ways:
//!
//! 1. a step ends and no transition matches (`ending_checks` reports this);
//! 2. a loop has run out and has no `on_exhausted`;
//! 3. a branch reaches a step at which another branch still is;
//! 4. more transitions follow one another than a command may cause.
//!
//! The last three are checked here. A workflow without any of these warnings is sound. A task that
//! has not ended has a step that waits for a person or handler (joins never wait for each other,
//! see `transition/joins.rs`). Every step that ends leads on. Since every cycle is bounded, a task
//! whose people all respond ends; then nothing is active, as a task completes only once no branch
//! has anything left to do.
//!
//! Which steps can be active at the same time is computed from pairs, because the combinations of
//! active steps are exponentially many. A place is, as in a Petri net, a step or the waiting area
//! before a join. A fork creates pairs of places; one place of a pair moves on while the other
//! stays, until there are no new pairs. This takes time quadratic in the number of steps, so the
//! bounds of a file are enough.
//!
//! The result errs on one side. Three places that meet pairwise are assumed to meet all together,
//! and expressions are assumed to be independent of each other. So a reported collision may be
//! impossible with the actual data of the tasks, but none is missed.

use super::{
    draft::{Goal, TransitionDraft},
    fault::Faults,
    outcomes::{Ends, Match},
    path::Path,
    report::DiagnosticCode as Code,
};
use crate::{
    config::{CompletionType, HookStage, JoinMode, Performer, StepConfig},
    limits::TRANSITIONS_PER_COMMAND_MAX,
};

/// One edge out of a step that can be taken.
struct Way<'d> {
    from: usize,
    to: Goal,
    /// How often the edge can be taken at most, where a `loop` bounds it.
    bound: Option<u32>,
    /// Column in the `answers` of its step; none for a branch of a conditional step.
    answer: Option<usize>,
    origin: &'d Path,
}

/// Adds the warnings.
pub(super) fn check(ends: &Ends<'_, '_>, faults: &mut Faults) {
    let map = Map::of(ends);
    map.open_loops(ends, faults);
    map.long_chains(ends, faults);
    if ends.draft.is_parallel() {
        let meetings = Meetings::of(&map, ends);
        meetings.report(&map, ends, faults);
    }
}

/// The edges of a workflow.
struct Map<'d> {
    ways: Vec<Way<'d>>,
    /// For each step, the indexes of the edges that leave it.
    leaving: Vec<Vec<usize>>,
    /// Steps that can end as soon as they have begun.
    instant: Vec<bool>,
    /// Steps at which a task can stay for a while.
    lingering: Vec<bool>,
}

impl<'d> Map<'d> {
    fn of(ends: &Ends<'d, '_>) -> Self {
        let steps = &ends.draft.steps;
        let mut ways = Vec::new();
        for (from, step) in steps.iter().enumerate() {
            for (key, to) in [
                ("true_branch", step.true_branch),
                ("false_branch", step.false_branch),
            ] {
                if let (Some(to), Some(node)) = (to, step.node.get(key)) {
                    ways.push(Way {
                        from,
                        to,
                        bound: None,
                        answer: None,
                        origin: &node.origin,
                    });
                }
            }
            if step.true_branch.is_some() && step.false_branch.is_some() {
                continue;
            }
            for (answer, transition) in ends.leaving[from].iter().enumerate() {
                if can_fire(ends, from, answer) {
                    ways.extend(ways_of(from, answer, transition));
                }
            }
        }
        let mut leaving = vec![Vec::new(); steps.len()];
        for (at, way) in ways.iter().enumerate() {
            leaving[way.from].push(at);
        }
        let instant = steps
            .iter()
            .map(|step| step.config.as_ref().is_some_and(is_instant))
            .collect();
        let lingering = steps
            .iter()
            .map(|step| step.config.as_ref().is_none_or(can_linger))
            .collect();
        Self {
            ways,
            leaving,
            instant,
            lingering,
        }
    }

    /// Reports loops that can run out and have no `on_exhausted`.
    fn open_loops(&self, ends: &Ends<'_, '_>, faults: &mut Faults) {
        for (from, transitions) in ends.leaving.iter().enumerate() {
            for (answer, transition) in transitions.iter().enumerate() {
                let Some(node) = transition.node.get("loop") else {
                    continue;
                };
                let Goal::Step(back) = transition.to else {
                    continue;
                };
                let open = transition.on_exhausted.is_none()
                    && can_fire(ends, from, answer)
                    && self.reaches(back, from);
                if open {
                    let iterations = node.get("max_iterations").map(super::tree::Node::to_value);
                    let iterations = iterations.map_or(String::new(), |n| format!(" {n} times"));
                    let message = format!(
                        "once the loop has run{iterations}, a task that would take it again stands \
                         still"
                    );
                    faults
                        .add(Code::OpenLoop, &node.origin, message)
                        .suggest("add `on_exhausted: _failed`, or the step to go on with");
                }
            }
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen = vec![false; self.leaving.len()];
        let mut waiting = vec![from];
        while let Some(at) = waiting.pop() {
            if at == to {
                return true;
            }
            if !std::mem::replace(&mut seen[at], true) {
                let next = self.leaving[at].iter().filter_map(|way| self.target(*way));
                waiting.extend(next);
            }
        }
        false
    }

    fn target(&self, way: usize) -> Option<usize> {
        match self.ways[way].to {
            Goal::Step(to) => Some(to),
            Goal::End | Goal::Unknown => None,
        }
    }

    /// Reports chains of automatic steps that exceed the number of transitions that one command may
    /// cause.
    fn long_chains(&self, ends: &Ends<'_, '_>, faults: &mut Faults) {
        let most = if ends.draft.is_parallel() {
            self.transitions_of_all_branches()
        } else {
            self.transitions_of_one_branch()
        };
        let Some((at, count)) = most else { return };
        if count <= TRANSITIONS_PER_COMMAND_MAX {
            return;
        }
        let step = &ends.draft.steps[at];
        let message = format!(
            "up to {count} transitions can follow from here before somebody is asked; a task stops \
             with an incident after {TRANSITIONS_PER_COMMAND_MAX}"
        );
        faults
            .add(Code::LongChain, &step.node.origin, message)
            .suggest("bound the loops more tightly, or do the work of several steps in one");
    }

    /// The longest chain of transitions through instant steps, and the step at which it begins.
    fn transitions_of_one_branch(&self) -> Option<(usize, usize)> {
        let order = self.instant_order();
        let lengths = self.longest(&order, None);
        let chain = (0..self.leaving.len())
            .filter(|at| self.instant[*at])
            .max_by_key(|at| lengths[*at])?;
        let mut count = lengths[chain].unwrap_or(0);
        for way in &self.ways {
            if let (Goal::Step(to), Some(bound)) = (way.to, way.bound)
                && self.instant[to]
                && self.instant[way.from]
                && let Some(round) = self.longest(&order, Some(way.from))[to]
            {
                count += bound as usize * (round + 1);
            }
        }
        // One more for the transition that leads to the first step of the chain.
        Some((chain, count + 1))
    }

    /// An upper bound: all transitions of instant steps, counted once, and once more for each round
    /// of a loop among these steps.
    fn transitions_of_all_branches(&self) -> Option<(usize, usize)> {
        let chained = |way: &&Way<'_>| self.instant[way.from];
        let first = self.ways.iter().find(chained)?.from;
        let ways = self.ways.iter().filter(chained);
        let count = ways.clone().filter(|way| way.bound.is_none()).count();
        let rounds: u32 = ways
            .filter(|way| matches!(way.to, Goal::Step(to) if self.instant[to]))
            .filter_map(|way| way.bound)
            .sum();
        let fork = self.leaving.iter().map(Vec::len).max().unwrap_or(0);
        Some((first, count * (1 + rounds as usize) + fork))
    }

    /// The instant steps in reverse topological order: each comes after the steps that it leads to.
    /// Unbounded edges form no cycle, because this check runs only on files without errors.
    fn instant_order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.leaving.len()];
        for start in 0..self.leaving.len() {
            // An explicit stack avoids recursion over up to 500 steps in a row.
            let mut stack = vec![(start, 0)];
            while let Some((at, next)) = stack.pop() {
                if next == 0 && (!self.instant[at] || std::mem::replace(&mut seen[at], true)) {
                    continue;
                }
                match self.leaving[at].get(next) {
                    Some(way) => {
                        stack.push((at, next + 1));
                        if let (Some(to), None) = (self.target(*way), self.ways[*way].bound) {
                            stack.push((to, 0));
                        }
                    }
                    None => order.push(at),
                }
            }
        }
        order
    }

    /// For each instant step, the number of transitions of its longest chain without loops: to any
    /// end, or to `goal`, if the chain leads there.
    fn longest(&self, order: &[usize], goal: Option<usize>) -> Vec<Option<usize>> {
        let mut lengths = vec![None; self.leaving.len()];
        for at in order {
            let onward = self.leaving[*at].iter().filter_map(|way| {
                let target = self
                    .target(*way)
                    .filter(|_| self.ways[*way].bound.is_none());
                match (target, goal) {
                    (Some(to), _) if self.instant[to] => {
                        lengths[to].map(|length: usize| length + 1)
                    }
                    (_, None) => Some(1),
                    (_, Some(_)) => None,
                }
            });
            let here = (goal == Some(*at)).then_some(0);
            lengths[*at] = onward.max().max(here);
        }
        lengths
    }
}

fn ways_of<'d>(
    from: usize,
    answer: usize,
    transition: &'d TransitionDraft<'_>,
) -> impl Iterator<Item = Way<'d>> {
    let bound = transition
        .config
        .as_ref()
        .and_then(|c| c.loop_bound.as_ref());
    let onward = Way {
        from,
        to: transition.to,
        bound: bound.map(|bound| bound.max_iterations),
        answer: Some(answer),
        origin: &transition.node.origin,
    };
    let exhausted = transition.on_exhausted.map(|to| Way {
        from,
        to,
        bound: None,
        answer: Some(answer),
        origin: &transition.node.origin,
    });
    std::iter::once(onward).chain(exhausted)
}

/// Whether the step can end so that this transition fires.
fn can_fire(ends: &Ends<'_, '_>, from: usize, answer: usize) -> bool {
    let parallel = ends.draft.is_parallel();
    ends.endings[from].as_ref().is_none_or(|endings| {
        endings.answers.iter().any(|row| {
            row[answer] != Match::No && (parallel || !row[..answer].contains(&Match::Yes))
        })
    })
}

/// Whether a step can end as soon as it has begun. `post_process` hooks are ignored: they are
/// skipped where the step has no value, so they do not always delay the step.
fn is_instant(step: &StepConfig) -> bool {
    matches!(
        step.kind.spec().performer,
        Performer::Handler | Performer::Expression
    ) && step.completion_type() == CompletionType::Auto
        && step.external_handler().is_none()
        && !waits_outside(step, HookStage::PreProcess)
}

/// Whether a task can stay at a step for a while.
fn can_linger(step: &StepConfig) -> bool {
    !is_instant(step) || waits_outside(step, HookStage::PostProcess)
}

/// Whether a hook that the step waits for calls an external handler; all other hooks run within the
/// decision.
fn waits_outside(step: &StepConfig, stage: HookStage) -> bool {
    let mut hooks = step.hooks_at(stage).iter();
    hooks.any(|hook| hook.external_handler().is_some())
}

/// Which places can be occupied at the same time: the steps, and before every join the place of the
/// branches that wait there.
struct Meetings {
    /// For each step that is a join, its waiting place.
    waiting_at: Vec<Option<usize>>,
    /// For each join, in the order of the waiting places, the places from which a branch can still
    /// arrive.
    before: Vec<StepSet>,
    /// Pairs of places that can be occupied at the same time.
    pairs: Vec<StepSet>,
    /// Edges that lead to a step while another branch can be at it.
    collisions: Vec<usize>,
}

/// A set of places.
#[derive(Clone)]
struct StepSet(Vec<u64>);

impl StepSet {
    fn none(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)])
    }

    fn has(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    /// Returns whether the place is new.
    fn add(&mut self, place: usize) -> bool {
        let is_new = !self.has(place);
        self.0[place / 64] |= 1 << (place % 64);
        is_new
    }
}

impl Meetings {
    fn of(map: &Map<'_>, ends: &Ends<'_, '_>) -> Self {
        let steps = map.leaving.len();
        let mut places = steps;
        let waiting_at: Vec<Option<usize>> = (0..steps)
            .map(|at| {
                is_join(map, ends, at).then(|| {
                    places += 1;
                    places - 1
                })
            })
            .collect();
        let mut meetings = Self {
            before: waiting_at
                .iter()
                .enumerate()
                .filter(|(_, place)| place.is_some())
                .map(|(join, _)| steps_before(map, &waiting_at, join, places))
                .collect(),
            waiting_at,
            pairs: vec![StepSet::none(places); places],
            collisions: Vec::new(),
        };
        meetings.meet(map, ends, steps);
        meetings
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

    fn meet(&mut self, map: &Map<'_>, ends: &Ends<'_, '_>, steps: usize) {
        let entry = ends.draft.entry.unwrap_or(0);
        let mut moves = Vec::new();
        let joins: Vec<usize> = (0..steps)
            .filter(|at| self.waiting_at[*at].is_some())
            .collect();
        for from in (0..steps).filter(|at| map.reaches(entry, *at)) {
            for (at, one) in map.leaving[from].iter().enumerate() {
                for other in &map.leaving[from][..at] {
                    let (one, other) = (&map.ways[*one], &map.ways[*other]);
                    if !fire_together(ends, one, other) {
                        continue;
                    }
                    if let (Some(a), Some(b)) = (self.place(one), self.place(other)) {
                        self.pair(a, b, steps, &mut moves);
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
                    self.pair(step, staying, steps, &mut moves);
                }
                continue;
            }
            for at in &map.leaving[moving] {
                let Some(to) = self.place(&map.ways[*at]) else {
                    continue;
                };
                if to != staying {
                    self.pair(to, staying, steps, &mut moves);
                } else if to < steps && map.lingering[to] {
                    self.collisions.push(*at);
                }
            }
        }
    }

    fn pair(&mut self, a: usize, b: usize, steps: usize, moves: &mut Vec<(usize, usize)>) {
        if !self.pairs[a].add(b) {
            return;
        }
        self.pairs[b].add(a);
        // Two transitions of one step to the same step enter it once.
        if a != b || a >= steps {
            moves.extend([(a, b), (b, a)]);
        }
    }

    fn report(mut self, map: &Map<'_>, ends: &Ends<'_, '_>, faults: &mut Faults) {
        self.collisions.sort_unstable();
        self.collisions.dedup();
        for at in &self.collisions {
            let way = &map.ways[*at];
            let Goal::Step(to) = way.to else { continue };
            let id = ends.draft.steps[to].id.unwrap_or_default();
            let message = format!(
                "a branch can come to `{id}` this way while another branch is still at it; it is \
                 then held by an incident"
            );
            let fault = faults.add(Code::BranchCollision, way.origin, message);
            if way.bound.is_some() {
                fault.suggest(
                    "let a branch loop within itself, behind the fork and before the join",
                );
            } else {
                fault.suggest(format!(
                    "let the branches meet before, or give `{id}` a `join_mode`"
                ));
            }
        }
        let loops = map.ways.iter().any(|way| way.bound.is_some());
        for (at, step) in ends.draft.steps.iter().enumerate() {
            let (Some(place), Some(config)) = (self.waiting_at[at], &step.config) else {
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
                    let meets = arriving > 1 || self.pairs[from].has(place);
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
}

/// Whether the step waits for branches: it has a `join_mode`, or several steps lead to it.
fn is_join(map: &Map<'_>, ends: &Ends<'_, '_>, at: usize) -> bool {
    let explicit = ends.draft.steps[at]
        .config
        .as_ref()
        .is_some_and(|config| config.join_mode.is_some());
    let mut sources = map
        .ways
        .iter()
        .filter(|way| way.to == Goal::Step(at) && way.bound.is_none())
        .map(|way| way.from);
    let first = sources.next();
    explicit || sources.any(|source| Some(source) != first)
}

/// The places from which a branch can still arrive at a join, including the waiting places.
fn steps_before(
    map: &Map<'_>,
    waiting_at: &[Option<usize>],
    join: usize,
    places: usize,
) -> StepSet {
    let mut before = StepSet::none(places);
    let mut entering = vec![Vec::new(); map.leaving.len()];
    for way in map.ways.iter().filter(|way| way.bound.is_none()) {
        if let Goal::Step(to) = way.to {
            entering[to].push(way.from);
        }
    }
    let mut waiting = vec![join];
    while let Some(at) = waiting.pop() {
        if let Some(place) = waiting_at[at] {
            before.add(place);
        }
        for from in &entering[at] {
            if before.add(*from) {
                waiting.push(*from);
            }
        }
    }
    before
}

/// How many edges from `from` to the join `to` a single ending of the step takes at most.
fn most_together(map: &Map<'_>, ends: &Ends<'_, '_>, from: usize, to: usize) -> usize {
    let arriving: Vec<Option<usize>> = map.leaving[from]
        .iter()
        .map(|at| &map.ways[*at])
        .filter(|way| way.to == Goal::Step(to) && way.bound.is_none())
        .map(|way| way.answer)
        .collect();
    let of_transitions = || arriving.iter().flatten();
    match &ends.endings[from] {
        Some(endings) if of_transitions().next().is_some() => {
            let taken =
                |row: &Vec<Match>| of_transitions().filter(|at| row[**at] != Match::No).count();
            endings.answers.iter().map(taken).max().unwrap_or(0)
        }
        _ => arriving.len(),
    }
}

/// Whether a step can end so that both edges are taken.
fn fire_together(ends: &Ends<'_, '_>, one: &Way<'_>, other: &Way<'_>) -> bool {
    match (one.answer, other.answer, &ends.endings[one.from]) {
        // The loop back and the `on_exhausted` of one transition exclude each other.
        (Some(a), Some(b), _) if a == b => false,
        (Some(a), Some(b), Some(endings)) => endings
            .answers
            .iter()
            .any(|row| row[a] != Match::No && row[b] != Match::No),
        (Some(_), Some(_), None) => true,
        // Branches of a conditional step.
        _ => false,
    }
}
