//! What a decision knows about the people whose annotations it weighs.
//!
//! There is one [`AnnotatorModel`] for each [`ModelKey`]: a step of a workflow, and the field whose
//! answers are compared. It learns from the log in log order, so every process that has read the
//! log to the same position has the same model. A decision reads it through [`Annotators`] and
//! records what it used.

mod key;
mod look;
mod model;
mod peers;
mod view;

pub use key::ModelKey;
pub(in crate::executor) use key::weighs_votes;
pub use model::AnnotatorModel;
pub use peers::PeerAgreement;
pub use view::{Annotators, GivenLabel, ModelSource, Reliability};
