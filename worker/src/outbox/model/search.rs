//! Breadth-first search of a model: first all states, then whether all of them end well.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use super::{Model, Promise, World, steps::Step};

/// The result of a search.
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// The first promise that is broken, with the shortest way there.
    pub(super) broken: Option<(Promise, Vec<Step>)>,
}

/// The states of a model, by number.
#[derive(Default)]
struct States {
    /// The step that first led to each state, and from where.
    ways: Vec<(usize, Option<Step>)>,
    /// Where a state goes while nothing goes wrong.
    calm: Vec<Vec<usize>>,
    /// Whether nothing is left to do.
    done: Vec<bool>,
}

impl States {
    fn add(&mut self, from: usize, step: Option<Step>, done: bool) -> usize {
        self.ways.push((from, step));
        self.calm.push(Vec::new());
        self.done.push(done);
        self.ways.len() - 1
    }

    fn way_to(&self, mut state: usize) -> Vec<Step> {
        let mut way = Vec::new();
        while let (from, Some(step)) = self.ways[state] {
            way.push(step);
            state = from;
        }
        way.reverse();
        way
    }

    /// A state from which calm steps go round in a circle, or to an end with work left.
    fn endless(&self) -> Option<usize> {
        let mut before = vec![Vec::new(); self.calm.len()];
        let mut open: Vec<usize> = self.calm.iter().map(Vec::len).collect();
        for (state, next) in self.calm.iter().enumerate() {
            for next in next {
                before[*next].push(state);
            }
        }
        let mut ends = vec![false; self.calm.len()];
        let mut sure: Vec<usize> = (0..ends.len())
            .filter(|state| open[*state] == 0 && self.done[*state])
            .collect();
        while let Some(state) = sure.pop() {
            ends[state] = true;
            for before in &before[state] {
                open[*before] -= 1;
                if open[*before] == 0 {
                    sure.push(*before);
                }
            }
        }
        ends.iter().position(|ends| !ends)
    }
}

impl Model {
    /// Visits every state that can be reached, until one breaks a promise.
    pub(super) fn search(&self) -> Found {
        let mut states = States::default();
        let mut known: HashMap<World, usize> = HashMap::new();
        let mut queue = VecDeque::new();
        let begin = self.begin();
        known.insert(begin, states.add(0, None, false));
        queue.push_back((0, begin));
        let (mut steps, mut next) = (0, Vec::new());
        while let Some((from, world)) = queue.pop_front() {
            self.steps(&world, &mut next);
            steps += next.len();
            for (step, is_calm, world) in next.drain(..) {
                if let Some(promise) = world.broken {
                    let end = states.add(from, Some(step), false);
                    return Found {
                        states: known.len(),
                        steps,
                        broken: Some((promise, states.way_to(end))),
                    };
                }
                let to = match known.entry(world) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let to = states.add(from, Some(step), self.is_done(&world));
                        queue.push_back((to, world));
                        *new.insert(to)
                    }
                };
                if is_calm && to != from {
                    states.calm[from].push(to);
                }
            }
        }
        let endless = states.endless();
        Found {
            states: known.len(),
            steps,
            broken: endless.map(|state| (Promise::Ends, states.way_to(state))),
        }
    }
}
