//! `glyph publish`: enqueues commands from a file of JSON lines.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::{CliError, Output, connect::Publisher, output::grouped};
use crate::{
    backoff::Backoff,
    broker::{Destination, MessagePublisher, Properties, Publication, PublishOutcome},
    operations::text_file,
    settings::Settings,
    wire::read_delivery,
};

/// Commands whose confirms are awaited together.
pub(super) const WINDOW: usize = 256;
/// Attempts of a window; ids make repeating safe.
const ATTEMPTS_MAX: u32 = 8;
/// Faulty lines that are shown; the others are counted.
const FAULTS_SHOWN: usize = 20;

/// What to enqueue.
#[derive(Clone, Debug, Args)]
pub struct PublishArgs {
    /// File with one JSON command per line, or `-` for standard input
    file: PathBuf,
}

pub(super) async fn run(
    args: &PublishArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    settings.services()?;
    let from_file = args.file.as_os_str() != "-";
    // A file is read twice: nothing is published unless every line can be read.
    let length = if from_file { Some(check(args)?) } else { None };
    let broker = Publisher::connect(settings).await?;
    let started = Instant::now();
    let bar = output.progress(length, "publishing");
    let outcome = publish_lines(lines(args)?, broker.get(), &bar).await;
    broker.close().await;
    bar.finish_and_clear();
    let published = outcome?;
    let seconds = started.elapsed().as_secs_f64();
    output.result(&json!({"published": published, "seconds": seconds}), || {
        format!(
            "{} commands published and confirmed in {seconds:.1} s",
            grouped(published)
        )
    });
    Ok(())
}

type Lines = Box<dyn Iterator<Item = std::io::Result<Vec<u8>>> + Send>;

fn lines(args: &PublishArgs) -> Result<Lines, CliError> {
    let invalid = |fault: text_file::TextFileFault| CliError::InvalidFile(fault.to_string());
    let reader = if args.file.as_os_str() == "-" {
        let mut reader: Box<dyn BufRead + Send> = Box::new(BufReader::new(std::io::stdin()));
        text_file::skip_mark("standard input".as_ref(), &mut reader).map_err(invalid)?;
        reader
    } else {
        text_file::open(&args.file).map_err(invalid)?
    };
    Ok(Box::new(reader.split(b'\n')))
}

/// What the first line says of the whole file, if its lines can be no commands.
fn is_no_lines(first: &[u8]) -> Option<&'static str> {
    let text = first.trim_ascii();
    let is_array = text.starts_with(b"[");
    let is_pretty = text == b"{";
    (is_array || is_pretty).then_some(if is_array {
        "the file is a JSON array, and commands are read one per line (JSON Lines); write them so: \
         jq -c '.[]' FILE"
    } else {
        "the file has JSON over several lines, and commands are read one per line (JSON Lines); \
         write them so: jq -c . FILE"
    })
}

fn unreadable(args: &PublishArgs, error: &std::io::Error) -> CliError {
    CliError::InvalidFile(format!("{}: {error}", args.file.display()))
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Counts the commands of the file, or reports every line that is not a command.
fn check(args: &PublishArgs) -> Result<u64, CliError> {
    let (mut commands, mut faults, mut bad_lines) = (0, Vec::new(), 0);
    for (line, number) in lines(args)?.zip(1_u64..) {
        let line = line.map_err(|error| unreadable(args, &error))?;
        if is_blank(&line) {
            continue;
        }
        commands += 1;
        if commands == 1
            && let Some(why) = is_no_lines(&line)
        {
            return Err(CliError::InvalidFile(format!(
                "{}: {why}",
                args.file.display()
            )));
        }
        if let Err(fault) = publication(line) {
            bad_lines += 1;
            if faults.len() < FAULTS_SHOWN {
                faults.push(format!("{}:{number}: {fault}", args.file.display()));
            }
        }
    }
    if bad_lines > faults.len() {
        faults.push(format!("and {} more", bad_lines - faults.len()));
    }
    if faults.is_empty() {
        Ok(commands)
    } else {
        let lines = if bad_lines == 1 {
            "line is no command"
        } else {
            "lines are no commands"
        };
        let text = format!(
            "{bad_lines} {lines}; nothing was published\n{}",
            faults.join("\n")
        );
        Err(CliError::InvalidFile(text))
    }
}

/// A line as a message, validated as a worker would.
fn publication(line: Vec<u8>) -> Result<Publication, String> {
    let read = read_delivery(&line, &Properties::default()).map_err(|fault| fault.to_string())?;
    Ok(command_publication(
        read.envelope.command.type_name(),
        read.envelope.command_id.to_string(),
        line.into(),
    ))
}

/// The message that carries a command.
pub(super) fn command_publication(
    command_type: &str,
    command_id: String,
    body: Arc<[u8]>,
) -> Publication {
    Publication {
        destination: Destination::Commands,
        routing_key: command_type.to_owned(),
        message_id: command_id,
        message_type: command_type.to_owned(),
        correlation_id: None,
        reply_to: None,
        headers: BTreeMap::new(),
        original: None,
        content_type: "application/json",
        body,
        timestamp: Utc::now(),
        mandatory: true,
        persistent: true,
    }
}

async fn publish_lines(
    lines: Lines,
    publisher: &dyn MessagePublisher,
    bar: &ProgressBar,
) -> Result<u64, CliError> {
    let (mut count, mut window) = (0, Vec::with_capacity(WINDOW));
    for (line, number) in lines.zip(1_u64..) {
        let line =
            line.map_err(|error| CliError::InvalidFile(format!("line {number}: {error}")))?;
        if is_blank(&line) {
            continue;
        }
        if count == 0
            && window.is_empty()
            && let Some(why) = is_no_lines(&line)
        {
            return Err(CliError::InvalidFile(why.to_owned()));
        }
        match publication(line) {
            Ok(publication) => window.push(publication),
            Err(fault) => {
                // Commands read before the error are still published.
                count += publish_window(publisher, window).await?;
                return Err(CliError::InvalidFile(format!(
                    "line {number}: {fault}; the {count} commands before it are published, and \
                     publishing them again changes nothing"
                )));
            }
        }
        if window.len() == WINDOW {
            count += publish_window(publisher, std::mem::take(&mut window)).await?;
            bar.set_position(count);
        }
    }
    count += publish_window(publisher, window).await?;
    bar.set_position(count);
    Ok(count)
}

/// Publishes a window and waits for its confirms; unconfirmed commands are sent again, under the
/// same ids.
pub(super) async fn publish_window(
    publisher: &dyn MessagePublisher,
    mut window: Vec<Publication>,
) -> Result<u64, CliError> {
    let count = window.len() as u64;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    for attempt in 1.. {
        if window.is_empty() {
            break;
        }
        let outcomes = publisher.publish(0, &window).await;
        let mut last = String::new();
        let mut left = Vec::new();
        for (publication, outcome) in window.into_iter().zip(outcomes) {
            match outcome {
                PublishOutcome::Confirmed => {}
                PublishOutcome::Returned(reason) => {
                    return Err(CliError::failed(
                        "unroutable",
                        format!(
                            "the broker has no queue for `{}` commands ({reason}); a worker makes \
                             them when it starts",
                            publication.routing_key
                        ),
                    ));
                }
                PublishOutcome::Nacked => {
                    "the broker refused the message".clone_into(&mut last);
                    left.push(publication);
                }
                PublishOutcome::Unknown(reason) => {
                    last = reason;
                    left.push(publication);
                }
            }
        }
        if !left.is_empty() && attempt >= ATTEMPTS_MAX {
            return Err(CliError::Unreachable(format!(
                "{} commands were not confirmed in {ATTEMPTS_MAX} attempts: {last}; publishing \
                 them again is safe",
                left.len()
            )));
        }
        window = left;
        if !window.is_empty() {
            tokio::time::sleep(backoff.next()).await;
        }
    }
    Ok(count)
}
