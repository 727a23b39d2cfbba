//! Publishes the messages that their lanes did not publish.
//!
//! Of a task's events the outbox has only the versions; the relay reads the events and builds the
//! messages again, with the ids and bodies that the lane would have sent. A row that cannot be built
//! stays, with the reason, and backs off like one that the broker refuses: it holds its own task
//! only.
//!
//! **Order.** For one task, messages leave this process in the order of their rows, and within a
//! row in the order of versions:
//!
//! - The store leases a row only if no older row of its task is leased by another publisher or
//!   backs off, and it leases rows to the relay in order. The relay has a publisher name of its
//!   own, different from that of the lanes: to the store they are two publishers, so neither
//!   overtakes the other.
//! - A commit of the task, here or in another process, sees under the head lock that older rows
//!   belong to the relay, and leaves its own rows behind them.
//! - After a failure the row of the failed message backs off, which blocks all later ones of its
//!   task, and begins with that message from then on: what was confirmed before it is not sent
//!   again. When the row is tried again, its first message is sent alone; the others of the task,
//!   in this row and behind it, follow once it is confirmed.
//! - Within one window, later messages of a task may be confirmed although an earlier one was
//!   refused: they had already been sent. Those of later rows are not sent again; those of the same
//!   row are, under the same ids.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use glyph_workflow_engine::{
    MessageBuilder,
    ids::TaskId,
    store::{EventStoreError, OUTBOX_LEASE, Outbox, OutboxMessage, OutboxRow, PublisherId},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    deletions::delete,
    publication::publication_of,
    rebuilding::rebuild_messages,
    verdict::{Released, judge, release, whole_row},
};
use crate::{
    backoff::Backoff,
    broker::MessagePublisher,
    failpoints::{CrashPoint, Failpoints},
    metrics::Metrics,
};

/// Rows of one claim: a window small enough for the broker to confirm well within the lease.
const CLAIM_MAX: u32 = 512;
/// Time between two polls while messages wait, but none for the relay.
const POLL_BACKLOG: Duration = Duration::from_millis(200);
/// Time between two polls while no message waits.
const POLL_IDLE: Duration = Duration::from_secs(1);
/// A claim that found nothing may have looked at every row, if all wait for others or back off. The
/// pause after it is so many times as long, so that looking takes little of the database's time.
const POLL_SHARE: u32 = 10;
/// The longest such pause: a claim takes minutes only where its process stood still meanwhile.
const POLL_MAX: Duration = Duration::from_secs(10);

/// How long to wait after a claim that found nothing and took so long.
fn pause_after(took: Duration, idle: Duration) -> Duration {
    idle.max(took.saturating_mul(POLL_SHARE).min(POLL_MAX))
}

/// The relay's name among publishers, next to the lanes' of the same process.
pub(crate) fn relay_id(lanes: PublisherId) -> PublisherId {
    PublisherId(Uuid::new_v5(&lanes.0, b"relay"))
}

/// The relay of one process.
pub(crate) struct Relay {
    pub(crate) outbox: Arc<dyn Outbox>,
    /// Builds the messages of events.
    pub(crate) builder: Arc<dyn MessageBuilder>,
    /// Whether anything was in the outbox when it was last counted.
    pub(crate) backlog: Arc<AtomicBool>,
    pub(crate) publisher: Arc<dyn MessagePublisher>,
    pub(crate) id: PublisherId,
    /// The publisher's channel for the relay; the lanes use others.
    pub(crate) channel: usize,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) failpoints: Failpoints,
    pub(crate) stopping: CancellationToken,
}

impl Relay {
    /// Runs until stopped; a window that has begun is finished.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        // Whether rows may be leased to the relay that it does not have in memory.
        let mut unsure = false;
        while !self.stopping.is_cancelled() {
            if !self.publisher.state().borrow().publishing {
                self.wait_for_broker().await;
                continue;
            }
            let asked = Instant::now();
            let published = self.publish_next(unsure).await;
            unsure = published.is_err();
            match published {
                Ok(found) => {
                    backoff.reset();
                    if !found {
                        let time = pause_after(asked.elapsed(), self.idle_time());
                        self.pause(time).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the outbox could not be read");
                    self.pause(backoff.next()).await;
                }
            }
        }
    }

    /// Claims rows and publishes them; returns whether there were any.
    async fn publish_next(&self, unsure: bool) -> Result<bool, EventStoreError> {
        if unsure {
            self.give_back().await?;
        }
        let rows = self.outbox.claim(self.id, OUTBOX_LEASE, CLAIM_MAX).await?;
        let found = !rows.is_empty();
        if found {
            self.publish(rows).await?;
        }
        Ok(found)
    }

    /// Gives back the rows of a claim whose answer was lost, or whose events could not be read. They
    /// are claimed anew: if their leases have run out meanwhile, another relay may be publishing the
    /// older ones of them, and the others would overtake those.
    async fn give_back(&self) -> Result<(), EventStoreError> {
        let rows = self.outbox.leased(self.id, 0).await?;
        let rows = rows.iter().map(|row| whole_row(row.position)).collect();
        self.release(BTreeMap::from([(None, rows)])).await;
        Ok(())
    }

    fn idle_time(&self) -> Duration {
        if self.backlog.load(Ordering::Relaxed) {
            POLL_BACKLOG
        } else {
            POLL_IDLE
        }
    }

    async fn wait_for_broker(&self) {
        let mut state = self.publisher.state();
        let connected = async { state.wait_for(|state| state.publishing).await.is_ok() };
        let gone = tokio::select! {
            biased;
            () = self.stopping.cancelled() => false,
            connected = connected => !connected,
        };
        // Without a publisher the process is about to end.
        if gone {
            self.pause(POLL_IDLE).await;
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// Publishes claimed rows in two rounds. The second contains the messages that wait for one
    /// which has failed before.
    ///
    /// # Errors
    ///
    /// The events of the rows could not be read; the rows are still leased.
    async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), EventStoreError> {
        let rebuilt = rebuild_messages(&*self.outbox, &self.builder, rows).await?;
        self.release(rebuilt.released).await;
        if !rebuilt.empty.is_empty() {
            delete(&*self.outbox, &rebuilt.empty, &self.stopping).await;
        }
        let (first, behind) = split_probes(rebuilt.messages);
        let ended = self.publish_round(&first, &behind).await;
        if behind.is_empty() {
            return Ok(());
        }
        let (blocked, free): (Vec<_>, Vec<_>) = behind.into_iter().partition(|message| {
            message
                .task_id
                .is_some_and(|task| ended.held.contains(&task))
        });
        // The row of the message that failed again is released already.
        let blocked: BTreeSet<i64> = blocked
            .iter()
            .map(|message| message.position)
            .filter(|position| !ended.released.contains(position))
            .collect();
        let blocked = blocked.into_iter().map(whole_row).collect();
        self.release(BTreeMap::from([(None, blocked)])).await;
        self.publish_round(&free, &[]).await;
        Ok(())
    }

    /// Publishes one window. `later` are messages that follow in another one.
    async fn publish_round(
        &self,
        messages: &[OutboxMessage],
        later: &[OutboxMessage],
    ) -> EndedRound {
        if messages.is_empty() {
            return EndedRound::default();
        }
        let window: Vec<_> = messages.iter().map(publication_of).collect();
        let begun = Instant::now();
        let publishing = self.publisher.publish(self.channel, &window);
        let outcomes = self
            .failpoints
            .pass_within(CrashPoint::BeforeConfirm, publishing)
            .await;
        self.metrics.confirmed_after(begun.elapsed());
        let verdict = judge(messages, &outcomes, later, &self.metrics);
        self.failpoints.pass(CrashPoint::AfterConfirm);
        if !verdict.confirmed.is_empty() {
            delete(&*self.outbox, &verdict.confirmed, &self.stopping).await;
        }
        let released = verdict.released.values().flatten();
        let ended = EndedRound {
            released: released.map(|row| row.position).collect(),
            held: verdict.held,
        };
        self.release(verdict.released).await;
        ended
    }

    async fn release(&self, released: Released) {
        release(&*self.outbox, released, &self.stopping).await;
    }
}

/// What a window left undone.
#[derive(Default)]
struct EndedRound {
    /// Rows that went back to the store.
    released: HashSet<i64>,
    /// Tasks that are blocked now.
    held: HashSet<TaskId>,
}

/// Separates the messages that may be sent now from those that wait behind one of their own task
/// which has failed before.
fn split_probes(messages: Vec<OutboxMessage>) -> (Vec<OutboxMessage>, Vec<OutboxMessage>) {
    let mut probed: HashMap<TaskId, bool> = HashMap::new();
    messages.into_iter().partition(|message| {
        let Some(task) = message.task_id else {
            return true;
        };
        let behind_a_probe = probed.get(&task).copied().unwrap_or(false);
        *probed.entry(task).or_default() |= message.attempts > 0;
        !behind_a_probe
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicI64};

    use async_trait::async_trait;
    use chrono::{TimeDelta, Utc};
    use glyph_workflow_engine::{
        WorkflowOrchestrator,
        command::{Command, CommandEnvelope},
        store::MemoryStore,
    };
    use tokio::sync::watch;

    use super::{super::verdict::tests::message, *};
    use crate::{
        broker::{BrokerState, Publication, PublishOutcome, QueueDepth},
        wire::CloudEventMessages,
    };

    /// A broker that takes everything.
    struct Broker {
        taken: Mutex<Vec<String>>,
        state: watch::Sender<BrokerState>,
    }

    #[async_trait]
    impl MessagePublisher for Broker {
        async fn publish(&self, _: usize, window: &[Publication]) -> Vec<PublishOutcome> {
            let mut taken = self.taken.lock().unwrap();
            taken.extend(window.iter().map(|message| message.message_type.clone()));
            vec![PublishOutcome::Confirmed; window.len()]
        }

        fn state(&self) -> watch::Receiver<BrokerState> {
            self.state.subscribe()
        }

        async fn queues(&self) -> Option<Vec<QueueDepth>> {
            None
        }
    }

    const WORKFLOW: &str = "
workflow:
  id: flow
  steps: [{ id: label, type: annotation }]
  transitions: [{ from: label, to: _complete }]
";

    /// Commands to one task, each with a message.
    fn commands() -> [Command; 3] {
        let body = serde_json::json!({"task_id": Uuid::nil(), "workflow": "flow"});
        [
            Command::Start(serde_json::from_value(body.clone()).unwrap()),
            Command::Pause(serde_json::from_value(body.clone()).unwrap()),
            Command::Resume(serde_json::from_value(body).unwrap()),
        ]
    }

    /// While it does not know what it has claimed, the leases may run out. Another relay may then have
    /// claimed some of the rows, and be about to publish them.
    #[tokio::test]
    async fn rows_of_a_lost_claim_overtake_none_that_another_took_over() {
        let late = Arc::new(AtomicI64::new(0));
        let seconds = Arc::clone(&late);
        let clock = move || Utc::now() + TimeDelta::seconds(seconds.load(Ordering::SeqCst));
        let store = Arc::new(MemoryStore::with_clock(Arc::new(clock)));
        let orchestrator = WorkflowOrchestrator::new(store.clone(), store.clone())
            .with_messages(Arc::new(CloudEventMessages::default()));
        orchestrator.create_workflow(WORKFLOW).await.unwrap();
        for command in commands() {
            let batch = vec![CommandEnvelope::new(Uuid::now_v7(), command)];
            orchestrator.process_batch(batch, None).await.unwrap();
        }
        let up = BrokerState {
            publishing: true,
            ..BrokerState::default()
        };
        let broker = Arc::new(Broker {
            taken: Mutex::default(),
            state: watch::channel(up).0,
        });
        let relay = Relay {
            outbox: store.clone(),
            builder: orchestrator.messages(),
            backlog: Arc::default(),
            publisher: broker.clone(),
            id: relay_id(PublisherId(Uuid::from_u128(1))),
            channel: 0,
            metrics: Arc::new(Metrics::new().unwrap()),
            failpoints: Failpoints::default(),
            stopping: CancellationToken::new(),
        };
        let lost = store
            .claim(relay.id, OUTBOX_LEASE, CLAIM_MAX)
            .await
            .unwrap();
        assert_eq!(lost.len(), 3);
        late.store(60, Ordering::SeqCst);
        let other = relay_id(PublisherId(Uuid::from_u128(2)));
        let taken_over = store.claim(other, OUTBOX_LEASE, 1).await.unwrap();
        assert!(!relay.publish_next(true).await.unwrap());
        assert_eq!(*broker.taken.lock().unwrap(), Vec::<String>::new());
        // What it still has is claimed anew, once nothing is before it.
        store.confirmed(&[taken_over[0].position]).await.unwrap();
        assert!(relay.publish_next(false).await.unwrap());
        assert_eq!(
            broker.taken.lock().unwrap().last().unwrap(),
            "dev.glyph.workflow.resumed.v1"
        );
        assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
    }

    fn positions(messages: &[OutboxMessage]) -> Vec<i64> {
        messages.iter().map(|message| message.position).collect()
    }

    #[test]
    fn a_relay_that_stood_still_pauses_no_longer_for_it() {
        let seconds = Duration::from_secs;
        assert_eq!(pause_after(Duration::from_millis(1), POLL_IDLE), POLL_IDLE);
        assert_eq!(
            pause_after(Duration::from_millis(500), POLL_IDLE),
            seconds(5)
        );
        assert_eq!(pause_after(seconds(3_600), POLL_IDLE), POLL_MAX);
    }

    #[test]
    fn a_message_that_failed_before_travels_alone_and_first() {
        let messages = vec![
            message(1, 1, 3, 2),
            message(1, 1, 4, 0),
            message(2, 2, 1, 0),
            message(3, 1, 5, 0),
            message(4, 2, 6, 0),
            message(5, 0, 0, 3),
        ];
        let (first, behind) = split_probes(messages);
        assert_eq!(positions(&first), [1, 2, 4, 5]);
        assert_eq!(positions(&behind), [1, 3]);
    }
}
