//! Tests through the public API: one binary, one module for each behaviour.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agreement;
mod amqp;
mod backup;
mod calls;
mod cli;
mod crash_points;
mod database_link;
mod documentation;
mod flow;
mod fuzz;
mod goals;
mod goals_survive;
mod gold;
mod hostile;
mod http_api;
mod import;
mod labels;
mod least_privilege;
mod links;
mod messages_page;
mod operations_page;
mod own_handlers;
mod pipeline;
mod processes;
mod rebuilt_messages;
mod replay;
mod retention;
mod rights;
mod schema_contract;
mod services;
mod storms;
mod sub_workflows;
mod support;
mod tokens;
mod traces;
mod verbs;
mod verdict;
mod webhook;
