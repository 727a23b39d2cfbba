//! Errors of the reliability model.

use thiserror::Error;

/// A label or setting that the reliability model cannot use. The model is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReliabilityError {
    /// More classes than a categorical field may have: most likely free text treated as a category.
    #[error("more than {limit} classes")]
    TooManyClasses {
        /// The maximum number of classes.
        limit: usize,
    },
    /// The classes are declared, and this one is not among them.
    #[error("`{class}` is none of the declared classes")]
    UndeclaredClass {
        /// The class of the label.
        class: String,
    },
    /// A class is declared twice, or no class is declared.
    #[error("the declared classes are empty or repeat one")]
    MalformedClasses,
    /// An inconsistent checkpoint: of another version, or damaged.
    #[error("the checkpoint is damaged or of another version")]
    MalformedCheckpoint,
}
