//! Why a measure of agreement has no value.

use thiserror::Error;

/// What is missing for a coefficient to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum UndefinedReason {
    /// No item carries two values that could be compared.
    #[error("no two values to compare")]
    NoPair,
    /// All compared values are the same, so chance agreement is certain and nothing is left to
    /// correct for.
    #[error("no variation among the values")]
    NoVariation,
    /// Both sides are empty: a ratio of zero to zero.
    #[error("both sides are empty")]
    BothEmpty,
    /// Too few bootstrap samples had a value for an interval to mean anything.
    #[error("most resamples have no value")]
    MostResamplesUndefined,
}

impl UndefinedReason {
    /// A stable snake_case name, for records and metrics; the `Display` text is for people.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoPair => "no_pair",
            Self::NoVariation => "no_variation",
            Self::BothEmpty => "both_empty",
            Self::MostResamplesUndefined => "most_resamples_undefined",
        }
    }
}

/// A measure of agreement that could not be computed.
///
/// `Undefined` is a property of sound data (there was nothing to compare); every other variant
/// means that the arguments are not what the function asks for.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// The data are sound, but the coefficient has no value for them.
    #[error("agreement is undefined: {reason}")]
    Undefined {
        /// What is missing.
        reason: UndefinedReason,
    },
    /// Rows that must be of one length are not.
    #[error("row {row} has {found} entries where {expected} are expected")]
    UnequalLengths {
        /// Position of the first row that differs.
        row: usize,
        /// Length of the first row.
        expected: usize,
        /// Length of this row.
        found: usize,
    },
    /// Items that must have the same number of ratings do not.
    #[error("item {item} has {found} ratings where {expected} are expected")]
    UnequalRowSums {
        /// Position of the first item that differs.
        item: usize,
        /// Ratings of the first item.
        expected: u64,
        /// Ratings of this item.
        found: u64,
    },
    /// A rating is NaN or infinite.
    #[error("the rating of item {item} by annotator {annotator} is not finite")]
    NotFinite {
        /// Position of the annotator.
        annotator: usize,
        /// Position of the item.
        item: usize,
    },
    /// A rating on a ratio scale is below zero.
    #[error("the rating of item {item} by annotator {annotator} is negative on a ratio scale")]
    NegativeOnRatioScale {
        /// Position of the annotator.
        annotator: usize,
        /// Position of the item.
        item: usize,
    },
    /// Fewer categories are declared than the ratings use.
    #[error("{declared} categories are declared but {observed} are used")]
    TooFewCategories {
        /// Categories declared by the caller.
        declared: usize,
        /// Distinct categories in the ratings.
        observed: usize,
    },
    /// A setting is NaN or outside its domain.
    #[error("{name} is {value}, outside its domain")]
    OutOfDomain {
        /// Name of the setting.
        name: &'static str,
        /// Value given.
        value: f64,
    },
    /// A span or box ends before it starts, or has a corner that is not finite.
    #[error("a region ends before it starts or is not finite")]
    MalformedRegion,
    /// The item to remove from the window was never added.
    #[error("the item is not in the window")]
    NotInWindow,
    /// The computation would take more memory or time than is allowed.
    #[error("the computation needs {needed} cells or steps, more than the {limit} allowed")]
    TooLarge {
        /// Table cells or steps needed, as far as counted.
        needed: u128,
        /// Table cells or steps allowed.
        limit: u128,
    },
}

impl ConsensusError {
    /// Whether the data are sound and merely leave the coefficient without a value.
    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined { .. })
    }

    pub(crate) const NO_PAIR: Self = Self::Undefined {
        reason: UndefinedReason::NoPair,
    };
    pub(super) const NO_VARIATION: Self = Self::Undefined {
        reason: UndefinedReason::NoVariation,
    };
    pub(super) const BOTH_EMPTY: Self = Self::Undefined {
        reason: UndefinedReason::BothEmpty,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_the_reason() {
        assert_eq!(
            ConsensusError::NO_PAIR.to_string(),
            "agreement is undefined: no two values to compare"
        );
        assert!(ConsensusError::NO_VARIATION.is_undefined());
        assert!(!ConsensusError::MalformedRegion.is_undefined());
        assert_eq!(UndefinedReason::BothEmpty.code(), "both_empty");
    }
}
