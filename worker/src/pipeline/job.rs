//! A command in the pipeline, and the messages sent about it.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    command::{CommandEnvelope, Outcome},
    ids::{CommandId, TaskId},
};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use super::disposition::{Disposition, dispose};
use crate::{
    broker::{Delivery, Destination, Properties, Publication, Receipt, RetryDelay},
    metrics::TYPE_UNKNOWN,
    traces::{CommandOrigin, CommandSpan, Traces},
    wire::{
        CommandReply, DeadReason, RetryReason, Unreadable, UnreadableCode, read_delivery,
        reasons::{HEADER_ATTEMPTS, HEADER_FIRST_FAILED_AT, failure_headers},
    },
};

/// A readable command and where its outcome goes.
pub(super) struct Job {
    pub(super) envelope: Arc<CommandEnvelope>,
    pub(super) origin: Origin,
    /// Paths of fields that its type does not know, for a reply.
    pub(super) ignored: Vec<String>,
    pub(super) received_at: Instant,
    /// Starts when the lane takes the command.
    pub(super) span: CommandSpan,
}

pub(super) enum Origin {
    /// A queue; the delivery is kept because its body may have to be copied.
    Queue(Box<Delivery>),
    /// A caller in this process, who waits for the outcome.
    Direct(oneshot::Sender<Outcome>),
}

/// The input of a lane.
pub(super) enum Incoming {
    Job(Job),
    Unreadable {
        delivery: Box<Delivery>,
        unreadable: Unreadable,
        received_at: Instant,
    },
}

impl Incoming {
    /// Reads a delivery; also returns how many of its fields are ignored.
    pub(super) fn read(delivery: Delivery) -> (Self, u64) {
        let received_at = Instant::now();
        let read = read_delivery(&delivery.body, &delivery.properties);
        let delivery = Box::new(delivery);
        match read {
            Ok(read) => {
                let origin = Origin::Queue(delivery);
                let job = Job {
                    envelope: Arc::new(read.envelope),
                    origin,
                    ignored: read.ignored.paths,
                    received_at,
                    span: CommandSpan::default(),
                };
                (Self::Job(job), read.ignored.count)
            }
            Err(unreadable) => (
                Self::Unreadable {
                    delivery,
                    unreadable,
                    received_at,
                },
                0,
            ),
        }
    }

    pub(super) fn received_at(&self) -> Instant {
        match self {
            Self::Job(job) => job.received_at,
            Self::Unreadable { received_at, .. } => *received_at,
        }
    }

    /// The command's id; none if it cannot be read.
    pub(super) fn command_id(&self) -> Option<CommandId> {
        match self {
            Self::Job(job) => Some(job.envelope.command_id),
            Self::Unreadable { .. } => None,
        }
    }

    pub(super) fn deliveries_before(&self) -> u32 {
        match self {
            Self::Job(job) => job.deliveries_before(),
            // It is not run.
            Self::Unreadable { .. } => 0,
        }
    }

    /// Bytes of its content. An unreadable delivery is not run.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Job(job) => job.envelope.content_bytes,
            Self::Unreadable { .. } => 0,
        }
    }

    /// Which of `lanes` the command belongs to: all commands of a task use one lane. Unreadable
    /// ones may use any.
    pub(super) fn lane(&self, lanes: usize) -> usize {
        match self {
            Self::Job(job) => lane_of(job.envelope.command.task_id().0, lanes),
            Self::Unreadable { delivery, .. } => {
                usize::try_from(delivery.receipt.tag).unwrap_or_default() % lanes.max(1)
            }
        }
    }

    /// The receipt that must be given back if the command cannot be worked on. None for a caller in
    /// this process, who learns of it by the closed channel.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        match self {
            Self::Job(job) => job.receipt(),
            Self::Unreadable { delivery, .. } => Some(delivery.receipt),
        }
    }
}

/// Task ids end in random bits, in every UUID version.
pub(super) fn lane_of(task: Uuid, lanes: usize) -> usize {
    let (_, low) = task.as_u64_pair();
    usize::try_from(low & 0xffff_ffff).unwrap_or_default() % lanes.max(1)
}

impl Job {
    /// Starts the command's span.
    pub(super) fn trace(&mut self, traces: &Traces) {
        let origin = match &self.origin {
            Origin::Queue(_) => CommandOrigin::Queue,
            Origin::Direct(_) => CommandOrigin::Direct,
        };
        let age = self.received_at.elapsed();
        let envelope = Arc::make_mut(&mut self.envelope);
        self.span = traces.begin_command(envelope, origin, age);
    }

    pub(super) fn task(&self) -> TaskId {
        self.envelope.command.task_id()
    }

    pub(super) fn deliveries_before(&self) -> u32 {
        match &self.origin {
            Origin::Queue(delivery) => delivery.deliveries_before,
            // It comes from this process.
            Origin::Direct(_) => 0,
        }
    }

    pub(super) fn receipt(&self) -> Option<Receipt> {
        match &self.origin {
            Origin::Queue(delivery) => Some(delivery.receipt),
            Origin::Direct(_) => None,
        }
    }
}

/// How often a delivery has failed before, by its retry header.
pub(super) fn attempts_before(properties: &Properties) -> u32 {
    properties
        .headers
        .get(HEADER_ATTEMPTS)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// A copy of a command that must be confirmed before the original is acknowledged.
pub(super) struct CommandCopy {
    pub(super) receipt: Receipt,
    pub(super) publication: Publication,
    pub(super) kind: CopyKind,
    pub(super) command_type: &'static str,
    pub(super) command_id: Option<CommandId>,
    pub(super) received_at: Instant,
    /// The reply that was requested; sent once the copy is confirmed.
    pub(super) reply: Option<Publication>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyKind {
    Retry(RetryDelay, RetryReason),
    Dead(DeadReason),
}

/// Why a delivery is copied, for the copy's headers.
pub(super) struct CopyCause {
    kind: CopyKind,
    attempts: u32,
    error: String,
}

impl CopyCause {
    /// The copy that an outcome requires for a delivery that had failed `attempts_before` times;
    /// none if the delivery is acknowledged.
    pub(super) fn of(outcome: &Outcome, attempts_before: u32) -> Option<Self> {
        match dispose(outcome, attempts_before) {
            Disposition::Settle => None,
            Disposition::Retry {
                delay,
                attempts,
                reason,
                error,
            } => Some(Self {
                kind: CopyKind::Retry(delay, reason),
                attempts,
                error,
            }),
            Disposition::Dead {
                attempts,
                reason,
                error,
            } => Some(Self {
                kind: CopyKind::Dead(reason),
                attempts,
                error,
            }),
        }
    }
}

impl CommandCopy {
    /// The copy of a readable command.
    pub(super) fn of_job(
        delivery: Delivery,
        envelope: &CommandEnvelope,
        ignored: Vec<String>,
        outcome: &Outcome,
        cause: &CopyCause,
        received_at: Instant,
        now: DateTime<Utc>,
    ) -> Self {
        let command_type = envelope.command.type_name();
        let reply = match cause.kind {
            // The command may still succeed; until then there is nothing to reply.
            CopyKind::Retry(..) => None,
            CopyKind::Dead(reason) => {
                let id = envelope.command_id;
                let reply = CommandReply::of(id, outcome, Some(reason.as_str()), ignored);
                reply_publication(&delivery.properties, &reply, now)
            }
        };
        Self {
            receipt: delivery.receipt,
            kind: cause.kind,
            command_type,
            command_id: Some(envelope.command_id),
            received_at,
            reply,
            publication: copy_publication(delivery, Some(command_type), cause, now),
        }
    }

    /// The copy of a command that cannot be read.
    pub(super) fn of_unreadable(
        delivery: Delivery,
        unreadable: Unreadable,
        received_at: Instant,
        now: DateTime<Utc>,
    ) -> Self {
        let reason = match unreadable.code {
            UnreadableCode::Malformed => DeadReason::Malformed,
            UnreadableCode::TooLarge => DeadReason::TooLarge,
        };
        let attempts = attempts_before(&delivery.properties).saturating_add(1);
        let reply = CommandReply::unreadable(&unreadable);
        let cause = CopyCause {
            kind: CopyKind::Dead(reason),
            attempts,
            error: unreadable.error,
        };
        Self {
            receipt: delivery.receipt,
            kind: cause.kind,
            command_type: TYPE_UNKNOWN,
            command_id: unreadable.command_id,
            received_at,
            reply: reply_publication(&delivery.properties, &reply, now),
            publication: copy_publication(delivery, None, &cause, now),
        }
    }
}

/// The way back to a queue goes by the type that the body or the routing key named, so that it does
/// not depend on a routing key that the producer chose.
fn copy_publication(
    delivery: Delivery,
    command_type: Option<&str>,
    cause: &CopyCause,
    now: DateTime<Utc>,
) -> Publication {
    let Delivery {
        body, properties, ..
    } = delivery;
    // Without the producer's properties as they came, what is known of them is kept.
    let mut headers = properties.headers;
    if properties.original.is_some() {
        headers.retain(|name, _| name == HEADER_FIRST_FAILED_AT);
    }
    let first_failed_at = headers.remove(HEADER_FIRST_FAILED_AT);
    let first_failed_at =
        first_failed_at.unwrap_or_else(|| now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
    let (destination, reason) = match cause.kind {
        CopyKind::Retry(delay, reason) => (Destination::Retry(delay), reason.as_str()),
        CopyKind::Dead(reason) => (Destination::Dead, reason.as_str()),
    };
    let failure = failure_headers(reason, &cause.error, cause.attempts, first_failed_at);
    headers.extend(failure.map(|(name, value)| (name.to_owned(), value)));
    // An id may be the only one of the command, and none is made: a command without one could then
    // be replayed as if its producer had given it.
    let message_type = properties.message_type.filter(|kind| !kind.is_empty());
    Publication {
        destination,
        routing_key: properties.routing_key,
        message_id: properties.message_id.unwrap_or_default(),
        message_type: message_type.unwrap_or_else(|| command_type.unwrap_or_default().to_owned()),
        correlation_id: properties.correlation_id,
        reply_to: properties.reply_to,
        headers,
        original: properties.original,
        content_type: "application/json",
        body: body.into(),
        timestamp: now,
        mandatory: true,
        persistent: true,
    }
}

/// The reply to a delivery that requested one.
pub(crate) fn reply_publication(
    properties: &Properties,
    reply: &CommandReply,
    now: DateTime<Utc>,
) -> Option<Publication> {
    let queue = properties
        .reply_to
        .clone()
        .filter(|queue| !queue.is_empty())?;
    Some(Publication {
        routing_key: queue.clone(),
        destination: Destination::Reply(queue),
        message_id: Uuid::now_v7().to_string(),
        message_type: "command.outcome".to_owned(),
        correlation_id: properties.correlation_id.clone(),
        reply_to: None,
        headers: BTreeMap::new(),
        original: None,
        content_type: "application/json",
        body: reply.to_json().into(),
        timestamp: now,
        mandatory: false,
        persistent: false,
    })
}
