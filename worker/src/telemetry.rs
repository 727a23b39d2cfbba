//! The log: structured, on standard error, so that standard output contains only results.

use std::{any::Any, fmt as fmt_std, io::IsTerminal};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt,
    fmt::format::{Writer, debug_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    printable::printable_line,
    settings::{LogFormat, Settings},
};

/// Libraries whose log lines matter only to their own developers. lapin reports even an orderly
/// close as an error, and [`crate::amqp`] reports every broker failure anyway.
const QUIET: &str = "lapin=off,sqlx=warn";

/// Starts logging according to the settings. A second call in one process changes nothing.
pub fn init(settings: &Settings) {
    // The user's directives come last, so they override those that silence the libraries.
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.log))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    // A test binary starts many workers in one process; the first one's log serves them all.
    let _ = match settings.log_format {
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Pretty => registry
            .with(
                fmt::layer()
                    .fmt_fields(debug_fn(write_field).delimited(" "))
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
}

/// Writes a field of a log line. Texts of strangers neither begin a line nor command a terminal;
/// the form for programs (JSON) escapes them anyway.
fn write_field(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn fmt_std::Debug,
) -> fmt_std::Result {
    let text = format!("{value:?}");
    let text = printable_line(&text);
    if field.name() == "message" {
        write!(writer, "{text}")
    } else {
        write!(writer, "{}={text}", field.name())
    }
}

/// An error with all its causes, on one line: logs print the whole chain once, where the error is
/// handled.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(sqlx::Error::Database(database)) = cause.downcast_ref() {
            // The database's own message only; the library adds a line of the database's source
            // code.
            return format!("{text}: {}", database.message());
        }
        let cause_text = cause.to_string();
        // Some libraries repeat their source's text in their own.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The message of a panic.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
