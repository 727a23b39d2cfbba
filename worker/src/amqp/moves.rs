//! Commands that are in the dead queue only because their queue was missing go back.

use std::collections::BTreeMap;

use lapin::{
    Channel, Confirmation,
    message::Delivery,
    options::{
        BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::time::{Duration, Instant, timeout};

use super::{connection::Link, message, settings::AmqpSettings, topology::Topology};
use crate::{
    broker::{
        BrokerError,
        headers::{self, died_at_the_limit, header},
    },
    wire::reasons::HEADER_REASON,
};

/// How long one search of the dead queue may take; what it does not reach waits for the next.
const SEARCH_TIME: Duration = Duration::from_secs(30);

/// Puts back the commands in the dead queue that are there only because their queue was missing:
/// unroutable, under a key that leads to a queue. Returns how many.
///
/// A copy is confirmed before the dead letter is acked, so a crash between them leaves both, and
/// the inbox knows the second. Whatever else is in the queue is taken without an ack meanwhile and returned.
pub(super) async fn put_back(settings: &AmqpSettings, link: &Link) -> Result<usize, BrokerError> {
    let topology = settings.topology();
    let channel = link.channel().await?;
    let lost = |error: lapin::Error| link.lost(error);
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(lost)?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let dead = topology.dead();
    let found = channel
        .queue_declare(dead.as_str().into(), passive, FieldTable::default())
        .await
        .map_err(lost)?;
    let ends = Instant::now() + SEARCH_TIME;
    let mut moved = 0;
    for _ in 0..found.message_count() {
        if Instant::now() >= ends {
            tracing::warn!(
                queue = dead,
                "not searched to its end for commands whose queue was missing; \
                 `glyph dead-letter replay --reason unroutable` enqueues them again"
            );
            break;
        }
        let got = channel
            .basic_get(dead.as_str().into(), BasicGetOptions::default())
            .await
            .map_err(lost)?;
        let Some(letter) = got else { break };
        if let Some(queue) = lost_its_queue(topology, &letter.delivery)
            && arrives(settings, &channel, &letter.delivery, &queue).await?
        {
            let acked = channel.basic_ack(letter.delivery_tag, BasicAckOptions::default());
            acked.await.map_err(lost)?;
            moved += 1;
        }
    }
    let rest = BasicNackOptions {
        multiple: true,
        requeue: true,
    };
    channel.basic_nack(0, rest).await.map_err(lost)?;
    let _ = channel.close(200, "OK".into()).await;
    Ok(moved)
}

/// The queue in which a dead letter would be, had the queue been there.
fn lost_its_queue(topology: &Topology, letter: &Delivery) -> Option<String> {
    let properties = &letter.properties;
    if header(properties, HEADER_REASON).is_some() || died_at_the_limit(properties) {
        return None;
    }
    let queue = topology.leads_to(letter.routing_key.as_str())?;
    Some(topology.queue(queue))
}

/// Publishes a letter, as it is, straight to a queue. By the commands exchange it could come back
/// here. Whether it has arrived: a missing queue returns it.
async fn arrives(
    settings: &AmqpSettings,
    channel: &Channel,
    letter: &Delivery,
    queue: &str,
) -> Result<bool, BrokerError> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let key = letter.routing_key.to_string();
    let kept = BTreeMap::from([(headers::ROUTING_KEY.to_owned(), key)]);
    let properties = message::copied(&letter.properties, &kept);
    let published = async {
        channel
            .basic_publish("".into(), queue.into(), options, &letter.data, properties)
            .await?
            .await
    };
    match timeout(settings.confirm_timeout, published).await {
        Ok(Ok(confirmation)) => Ok(matches!(confirmation, Confirmation::Ack(None))),
        Ok(Err(error)) => Err(settings.unreachable(error)),
        Err(_) => Err(BrokerError::Unconfirmed {
            action: "a command that is put back".to_owned(),
            seconds: settings.confirm_timeout.as_secs(),
        }),
    }
}
