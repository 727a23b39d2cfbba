//! How often annotators give the same answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels of one visit that are compared with each other. A visit that takes submissions without
/// limit would cost more with each of them.
const COMPARED_MAX: usize = 100;

/// How often an annotator has given the same answer as others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAgreement {
    /// Comparisons with the label of another annotator in the same visit.
    pub compared: u64,
    /// Those in which both labels are the same answer.
    pub equal: u64,
}

/// The agreement of every annotator with the others, pair by pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Peers {
    /// Annotator and class of the labels of each visit that has not ended.
    open: BTreeMap<String, Vec<(String, String)>>,
    counts: BTreeMap<String, PeerAgreement>,
}

impl Peers {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.counts.is_empty()
    }

    pub(super) fn of(&self, annotator: &str) -> PeerAgreement {
        self.counts.get(annotator).copied().unwrap_or_default()
    }

    /// Compares a label with the earlier ones of its visit.
    pub(super) fn add(&mut self, item: &str, annotator: &str, class: &str) {
        let labels = self.open.entry(item.to_owned()).or_default();
        if labels.len() >= COMPARED_MAX {
            return;
        }
        let others = labels.iter().filter(|(other, _)| other != annotator);
        for (other, given) in others {
            let equal = u64::from(given == class);
            for person in [other, annotator] {
                let count = self.counts.entry(person.to_owned()).or_default();
                count.compared += 1;
                count.equal += equal;
            }
        }
        labels.push((annotator.to_owned(), class.to_owned()));
    }

    /// The visit has ended: no label is added to it any more.
    pub(super) fn close(&mut self, item: &str) {
        self.open.remove(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_different_people_counts_once_for_both() {
        let mut peers = Peers::default();
        for (person, class) in [
            ("ann", "cat"),
            ("bob", "cat"),
            ("cem", "dog"),
            ("ann", "cat"),
        ] {
            peers.add("1", person, class);
        }
        let of = |name| (peers.of(name).compared, peers.of(name).equal);
        assert_eq!(of("ann"), (4, 2));
        assert_eq!(of("bob"), (3, 2));
        assert_eq!(of("cem"), (3, 0));
        assert_eq!(of("nobody"), (0, 0));
    }

    #[test]
    fn what_has_ended_is_kept_no_longer_and_a_visit_is_compared_within_bounds() {
        let mut peers = Peers::default();
        for n in 0..COMPARED_MAX + 50 {
            peers.add("1", &n.to_string(), "cat");
        }
        assert_eq!(peers.open["1"].len(), COMPARED_MAX);
        peers.close("1");
        assert!(peers.open.is_empty() && !peers.is_empty());
        peers.add("1", "late", "cat");
        assert_eq!(peers.of("late").compared, 0);
    }
}
