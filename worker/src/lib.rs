//! A queue-driven worker for annotation workflows.
//!
//! Commands come in from RabbitMQ (or an embedded queue), HTTP, the command line and timers. All
//! take the same path: [`pipeline`] batches them, the engine decides and commits them, and the
//! outbox publishes the resulting messages. [`app`] puts the parts together; [`cli`] is the binary
//! `glyph`. HTTP and the command line share [`operations`].

pub mod amqp;
pub mod app;
pub mod backoff;
pub mod broker;
pub mod cli;
pub mod dead_letters;
pub mod diagram;
pub mod embedded;
pub mod failpoints;
pub mod http;
pub mod jobs;
pub mod labels;
pub mod metrics;
pub mod operations;
pub mod outbox;
pub mod pipeline;
mod poll;
pub mod printable;
pub mod projections;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod timers;
pub mod traces;
pub mod verbs;
pub mod webhook;
pub mod wire;
