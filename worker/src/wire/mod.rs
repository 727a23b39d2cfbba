//! JSON of the outside world: commands in, messages and answers out, and their schemas.

pub mod acts;
pub mod claims;
pub mod commands;
pub mod data;
pub mod goals;
pub mod messages;
pub mod reasons;
pub mod replies;
pub mod schema;

pub use acts::{ActRequest, CompletionRequest, ReasonBody, WorkflowAct, read_act, read_completion};
pub use claims::{ClaimBody, read_claim};
pub(crate) use commands::check_storable;
pub use commands::{
    CommandRequest, ReadCommand, Unreadable, UnreadableCode, read_delivery, read_request,
};
pub use goals::{AlertReport, GoalReport, RaisedAlert};
pub use messages::{CloudEventMessages, MessageType, UnknownMessageType};
pub use reasons::{DeadReason, RetryReason};
pub use replies::CommandReply;
