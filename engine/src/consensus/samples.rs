//! Random inputs and the comparison that the property tests of this folder share.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::ConsensusError;

/// A matrix `[annotator][item]` of up to 6 x 12, a fifth of it missing.
pub(super) fn matrix<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Vec<Vec<Option<T>>>> {
    (0_usize..=6, 0_usize..=12).prop_flat_map(move |(annotators, items)| {
        let cell = prop_oneof![1 => Just(None), 4 => value.clone().prop_map(Some)];
        prop::collection::vec(prop::collection::vec(cell, items), annotators)
    })
}

/// Category codes; one in a hundred is far away, so that no code is ever used as a table size.
pub(super) fn codes() -> impl Strategy<Value = Vec<Vec<Option<u32>>>> {
    matrix(prop_oneof![99 => 0_u32..5, 1 => Just(u32::MAX)])
}

/// The two implementations agree to 1e-9, or both have no value.
pub(super) fn same(
    fast: Result<f64, ConsensusError>,
    slow: Option<f64>,
) -> Result<(), TestCaseError> {
    match (fast, slow) {
        (Ok(fast), Some(slow)) => {
            prop_assert!(
                (fast - slow).abs() <= 1e-9 * slow.abs().max(1.0),
                "{fast} != {slow}"
            );
        }
        (Err(ConsensusError::Undefined { .. }), None) => {}
        (fast, slow) => prop_assert!(false, "{fast:?} against {slow:?}"),
    }
    Ok(())
}
