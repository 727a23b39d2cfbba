//! What a decision knows of the people whose annotations it weighs.
//!
//! One [`AnnotatorModel`] for each [`ModelKey`]: a step of a workflow, and the field whose answers are
//! compared. It is learnt from the log in its order, so whoever has read the log to the same position
//! has the same model. A decision looks at it through [`Annotators`] and records what it has seen.

mod key;
mod model;
mod view;

pub use key::ModelKey;
pub(in crate::executor) use key::weighs_votes;
pub use model::{AnnotatorModel, ModelPosition};
pub use view::{Annotators, ModelSource, Reliability};
