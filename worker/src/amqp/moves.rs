//! Commands that are in the dead queue only because their queue was missing go back.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use lapin::Channel;
use tokio::time::timeout;

use super::{
    connection::Link,
    dead_letters::{AmqpDeadLetters, publish_alone},
    settings::AmqpSettings,
    topology::Topology,
};
use crate::{
    broker::{BrokerError, headers::ROUTING_KEY},
    dead_letters::{DeadLetters, KeepError, Letter, LetterStore},
    wire::reasons::REASON_UNROUTABLE,
};

/// How long one search of the dead queue may take.
const SEARCH_TIME: Duration = Duration::from_secs(30);

/// Puts back the commands in the dead queue that are there only because their queue was missing:
/// unroutable, under a key that leads to a queue. Returns how many.
///
/// A copy is confirmed before the dead letter is removed, so a crash between them leaves both, and
/// the inbox knows the second.
pub(super) async fn put_back(settings: &AmqpSettings) -> Result<usize, BrokerError> {
    let link = Link::open(settings, "commands that found no queue").await?;
    let mut moved = 0;
    let searched = timeout(SEARCH_TIME, search(settings, &link, &mut moved)).await;
    link.close().await;
    searched.unwrap_or_else(|_| {
        tracing::warn!(
            queue = settings.topology().dead(),
            "not searched to its end for commands whose queue was missing; \
             `glyph dead-letter replay --reason unroutable` enqueues them again"
        );
        Ok(())
    })?;
    Ok(moved)
}

/// Searches the dead queue to its end, and counts in `moved` what it has put back.
async fn search(
    settings: &AmqpSettings,
    link: &Link,
    moved: &mut usize,
) -> Result<(), BrokerError> {
    let mut queues = CommandQueues {
        settings,
        channel: link.confirming_within(settings.connect_timeout).await?,
        arrived: 0,
        moved,
    };
    let chosen = |_: &str, letter: &Letter| lost_its_queue(settings.topology(), letter).is_some();
    let letters = AmqpDeadLetters::new(settings.clone());
    letters.take(&chosen, &mut queues).await.map(drop)
}

/// The queue in which a dead letter would be, had the queue been there.
fn lost_its_queue(topology: &Topology, letter: &Letter) -> Option<String> {
    if letter.reason() != REASON_UNROUTABLE {
        return None;
    }
    let queue = topology.leads_to(&letter.routing_key)?;
    Some(topology.queue(queue))
}

/// Takes letters straight to their queues. By the commands exchange they could come back here.
struct CommandQueues<'a> {
    settings: &'a AmqpSettings,
    channel: Channel,
    arrived: usize,
    /// Arrived, and removed from the dead queue.
    moved: &'a mut usize,
}

#[async_trait]
impl LetterStore for CommandQueues<'_> {
    async fn keep(&mut self, page: Vec<Letter>) -> Result<(), KeepError> {
        for letter in page {
            let Some(queue) = lost_its_queue(self.settings.topology(), &letter) else {
                continue;
            };
            let first_key = BTreeMap::from([(ROUTING_KEY.to_owned(), letter.routing_key.clone())]);
            publish_alone(
                self.settings,
                &self.channel,
                ("", &queue),
                &letter,
                &first_key,
                "a command that is put back",
            )
            .await?;
            self.arrived += 1;
        }
        Ok(())
    }

    async fn removed(&mut self) -> Result<(), KeepError> {
        *self.moved = self.arrived;
        Ok(())
    }
}
