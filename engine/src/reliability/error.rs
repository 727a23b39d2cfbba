//! What the model refuses.

use thiserror::Error;

/// A label or setting that the model of reliability cannot use. The model is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReliabilityError {
    /// More classes than a categorical field may have: most likely free text taken for a category.
    #[error("more than {limit} classes")]
    TooManyClasses {
        /// Classes allowed.
        limit: usize,
    },
    /// The classes are declared, and this is none of them.
    #[error("`{class}` is none of the declared classes")]
    UndeclaredClass {
        /// The class of the label.
        class: String,
    },
    /// The same class is declared twice, or none is.
    #[error("the declared classes are empty or repeat one")]
    MalformedClasses,
    /// A checkpoint that does not fit together: of another version, or damaged.
    #[error("the checkpoint is damaged or of another version")]
    MalformedCheckpoint,
}
