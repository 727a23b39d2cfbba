//! JSON at the boundary: incoming commands, outgoing messages and replies, and their schemas.

mod body;
mod bounds;
pub mod claims;
pub mod commands;
pub mod data;
pub mod envelope;
mod forms;
mod from_events;
pub(crate) mod from_goals;
pub mod goals;
mod known_fields;
pub mod labels;
mod links;
mod message_types;
mod messages;
pub mod operator_commands;
pub mod reasons;
pub mod replies;
pub mod schema;
mod unreadable;

pub(crate) use body::{check_storable, too_large_integer};
pub use claims::{ClaimBody, read_claim};
pub use commands::{CommandRequest, ReadCommand, read_delivery, read_request, read_request_with};
pub(crate) use forms::{check_time, without_zone};
pub use goals::{AlertReport, GoalReport, RaisedAlert};
pub use known_fields::IgnoredFields;
pub use links::{InvalidPublicUrl, Links, SCHEMA_BASE};
pub use message_types::{MessageType, UnknownMessageType};
pub use messages::CloudEventMessages;
pub use operator_commands::{
    CompletionRequest, OperatorRequest, PauseVerb, ReasonBody, read_completion,
    read_operator_command, read_reason,
};
pub use reasons::{DeadReason, RetryReason};
pub use replies::CommandReply;
pub use unreadable::{Unreadable, UnreadableCode};
