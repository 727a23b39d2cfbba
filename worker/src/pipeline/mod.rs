//! The pipeline of every command: intake, lanes, batches, publishing, acknowledgement.
//!
//! Intake reads deliveries and hands each to the lane of its task. A lane collects a batch, lets
//! the orchestrator decide and commit it, and acknowledges the commands that have an outcome. It
//! then starts the next batch while its publisher sends the messages of the last one. A command
//! that could not be decided is copied to the retry ladder or the dead queue, and acknowledged once
//! that copy is confirmed. Nothing here costs a round trip or a task for each command.

mod aside;
mod blocked;
mod collecting;
mod disposition;
mod gate;
mod gauge_sampler;
mod handle;
mod intake;
mod job;
mod lane;
mod lease_renewer;
mod processor;
mod publishing;
mod running;
mod shared;
mod sizing;
mod suspects;
mod unknown_commit;
mod window;

pub use disposition::{Disposition, dead_reason, dispose};
pub use gate::IntakePauseReason;
pub use handle::{Pipeline, PipelineHandle, PipelineParts, PipelineSettings, PipelineStopped};
pub(crate) use job::reply_publication;
pub use processor::CommandProcessor;
pub use sizing::BatchMax;
