//! The log: structured, on standard error, so that standard output contains only results.

mod lines;

use std::{
    any::Any,
    fmt::Debug,
    io::{IsTerminal, Write},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter, Registry,
    field::MakeExt,
    fmt,
    fmt::format::{Writer, debug_fn},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use self::lines::Lines;
use crate::{
    printable::printable_line,
    settings::{LogFormat, Settings},
};

/// Libraries whose log lines matter only to their own developers. lapin reports even an orderly
/// close as an error, and [`crate::amqp`] reports every broker failure anyway. hyper-util prints
/// URLs with their passwords.
const QUIET: &str = "lapin=off,sqlx=warn,hyper_util=warn";
/// How long the end of the process waits for a reader of the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of the process.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    lines: Lines,
    filter: reload::Handle<EnvFilter, Registry>,
    /// The filter in force, as it was given.
    text: Mutex<String>,
}

/// The filter of the log cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// It is no filter.
    #[error("`{0}` is no filter, as `info,glyph_worker=debug` is")]
    Invalid(String),
    /// This process writes no log.
    #[error("this process writes no log")]
    NoLog,
}

/// Starts logging according to the settings. A second call in one process changes nothing: a test
/// binary starts many workers, and the first one's log serves them all.
pub fn init(settings: &Settings) {
    let filter = filter_of(&settings.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let tell = |lines| tracing::warn!(lines, "log lines were dropped: nobody read the log in time");
    if LOG.get().is_some() {
        return;
    }
    let Ok(lines) = Lines::start(std::io::stderr(), tell) else {
        return;
    };
    let registry = tracing_subscriber::registry().with(filter);
    let writer = lines.clone();
    let started = match settings.log_format {
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(writer))
            .try_init(),
        LogFormat::Pretty => registry
            .with(
                fmt::layer()
                    .fmt_fields(debug_fn(write_field).delimited(" "))
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(writer),
            )
            .try_init(),
    };
    if started.is_ok() {
        let _ = LOG.set(Log {
            lines,
            filter: handle,
            text: Mutex::new(settings.log.clone()),
        });
    }
}

/// Writes a field of a log line. Texts of strangers neither begin a line nor command a terminal;
/// the form for programs (JSON) escapes them anyway.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let text = format!("{value:?}");
    let text = printable_line(&text);
    if field.name() == "message" {
        write!(writer, "{text}")
    } else {
        write!(writer, "{}={text}", field.name())
    }
}

/// The user's directives come last, so they override those that silence the libraries.
fn filter_of(text: &str) -> Result<EnvFilter, LogFilterError> {
    EnvFilter::try_new(format!("{QUIET},{text}"))
        .map_err(|_| LogFilterError::Invalid(text.to_owned()))
}

/// Sets the filter of the log, and returns the one before.
pub fn set_filter(text: &str) -> Result<String, LogFilterError> {
    let filter = filter_of(text)?;
    let log = LOG.get().ok_or(LogFilterError::NoLog)?;
    let mut current = log.text.lock().unwrap_or_else(PoisonError::into_inner);
    log.filter
        .reload(filter)
        .map_err(|_| LogFilterError::NoLog)?;
    Ok(std::mem::replace(&mut *current, text.to_owned()))
}

/// Prints a line to standard error: through the log if there is one, so that a reader who has
/// stalled holds nothing up.
pub fn print_line(text: &str) {
    let line = format!("{text}\n");
    match LOG.get() {
        Some(log) => log.lines.push(line.as_bytes()),
        None => {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

/// Waits until the log is written, but not for a reader who has stalled.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.lines.flush(FLUSH_TIMEOUT);
    }
}

/// Lines of the log that were dropped because nobody read them.
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |log| log.lines.dropped())
}

/// Logs panics from now on. The default hook would print them, and wait for the reader.
pub fn log_panics() {
    if LOG.get().is_some() {
        std::panic::set_hook(Box::new(|info| {
            let message = panic_text(info.payload());
            let place = info.location().map(ToString::to_string);
            tracing::error!(message, place, "a panic");
        }));
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
