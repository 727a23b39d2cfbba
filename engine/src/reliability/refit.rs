//! Re-evaluation of all items, in slices.

use super::ReliabilityModel;
use super::cursor::Cursor;
use super::expert::{EXPERTS, Scratch};

/// Passes over all items in a refit.
const PASSES: usize = 4;
/// A refit begins when the labels within reach have grown by this part (one in ten), but at least
/// [`REFIT_GAP`] labels after the previous one.
const REFIT_PART: u64 = 10;
const REFIT_GAP: u64 = 5;
/// How many items one observation re-evaluates at most, over all experts.
const SLICE: usize = 4_000;

impl ReliabilityModel {
    /// Re-evaluates all items within reach in several passes, with everything known now.
    ///
    /// The model does so by itself, in slices: each observation re-evaluates at most 4,000 items,
    /// so none takes long, and the same observations give the same numbers. This runs the whole at
    /// once; use it to look back when all is done.
    pub fn refit(&mut self) {
        self.cursor = Some(Cursor::default());
        while self.cursor.is_some() {
            self.refit_some(usize::MAX);
        }
    }

    /// The part of a refit that is due with one observation.
    pub(super) fn refit_slice(&mut self) {
        if self.cursor.is_none() && self.position >= self.refit_at {
            self.cursor = Some(Cursor::default());
        }
        self.refit_some(SLICE);
    }

    fn refit_some(&mut self, budget: usize) {
        let mut left = budget;
        while left > 0
            && let Some(mut cursor) = self.cursor.take()
        {
            let (visited, next) = match cursor.part {
                0..EXPERTS => self.visit_expert(&cursor, left),
                EXPERTS => self.visit_ties(&cursor, left),
                _ => self.visit_fair(&cursor, left),
            };
            left = left.saturating_sub(visited.max(1));
            if let Some(item) = next {
                cursor.item = item;
                self.cursor = Some(cursor);
                continue;
            }
            cursor.item = 0;
            cursor.pass += 1;
            let passes = if cursor.part == EXPERTS { 1 } else { PASSES };
            if cursor.pass == passes {
                if cursor.part < EXPERTS {
                    self.recount(cursor.part);
                }
                cursor.pass = 0;
                cursor.part += 1;
            }
            if cursor.part <= EXPERTS + 1 {
                self.cursor = Some(cursor);
            } else {
                let gap = (self.labels_within_reach / REFIT_PART).max(REFIT_GAP);
                self.refit_at = self.position + gap;
            }
        }
    }

    /// Visits items for one expert; returns how many, and the next one unless the pass has ended.
    fn visit_expert(&mut self, cursor: &Cursor, budget: usize) -> (usize, Option<u64>) {
        let scope = self.scope();
        let e = cursor.part;
        if cursor.item == 0 {
            self.experts[e].pool_errors(scope);
        }
        let ties: Vec<_> = if self.groups.is_empty() {
            Vec::new()
        } else {
            let within = self.items.range(cursor.item..).take(budget);
            within.map(|(_, item)| self.ties(&item.votes)).collect()
        };
        let mut ties = ties.into_iter();
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = Scratch::new(scope);
        let expert = &mut self.experts[e];
        let mut visited = 0;
        for (&id, item) in self.items.range_mut(cursor.item..) {
            if visited == budget {
                return (visited, Some(id));
            }
            visited += 1;
            let ties = ties.next().unwrap_or_default();
            let Some(own) = item.own(e).filter(|_| item.gold.is_none()) else {
                continue;
            };
            let votes = (own.votes, ties.as_slice());
            expert.posterior(scope, votes, None, Some(own), &mut out, &mut scratch);
            expert.count(scope, own, -1.0);
            item.probabilities[e].clear();
            item.probabilities[e].extend_from_slice(&out[..scope.classes]);
            if let Some(own) = item.own(e) {
                expert.count(scope, own, 1.0);
            }
        }
        (visited, None)
    }

    /// Counts anew: counts were added and removed many times, and rounding errors add up.
    fn recount(&mut self, e: usize) {
        let scope = self.scope();
        let expert = &mut self.experts[e];
        expert.restart_from(&self.base[e]);
        for item in self.items.values() {
            if let Some(own) = item.own(e) {
                expert.count(scope, own, 1.0);
            }
        }
        expert.pool_errors(scope);
    }

    fn visit_ties(&mut self, cursor: &Cursor, budget: usize) -> (usize, Option<u64>) {
        let within = self.items.range(cursor.item..).map(|(&id, _)| id);
        // An item costs about as much as a visit by every expert.
        let most = (budget / EXPERTS).max(1);
        let mut ids: Vec<u64> = within.take(most.saturating_add(1)).collect();
        let next = if ids.len() > most { ids.pop() } else { None };
        for &id in &ids {
            self.learn_ties(id);
        }
        (ids.len() * EXPERTS, next)
    }

    fn visit_fair(&mut self, cursor: &Cursor, budget: usize) -> (usize, Option<u64>) {
        if cursor.item == 0 {
            self.start_fair();
        }
        let crowd = self.fair.crowd(self.classes.len());
        for (visited, (&id, item)) in self.items.range(cursor.item..).enumerate() {
            if visited == budget {
                return (visited, Some(id));
            }
            if !item.votes.is_empty() {
                let votes = self.tied(item.votes.iter().copied());
                self.fair.count(&crowd, &votes, item.gold);
            }
        }
        self.fair.end_pass();
        (self.items.len(), None)
    }

    fn start_fair(&mut self) {
        for annotator in 0..self.annotators.len() {
            if !self.fair.knows(annotator) {
                let rows = self.rows(annotator);
                let rates: Vec<f64> = rows.iter().enumerate().map(|(z, row)| row[z]).collect();
                self.fair.start(annotator, &rates);
            }
        }
        self.fair.begin_pass();
    }
}
