//! What people and programs ask for, whichever way they ask: HTTP and the command line both stand on
//! this room, and so answer alike.
//!
//! An operation takes the store or the orchestrator and gives a document, or a typed error. What a
//! document looks like as a page or a table, and which status or exit code an error becomes, is said
//! by the one who asks.

pub mod explain;
pub mod goals;
pub mod migration;
pub mod tasks;
pub mod workflows;
