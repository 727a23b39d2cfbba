//! The connections to the broker, RabbitMQ or the embedded queue: consumer and publisher.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::store::Store;
use tokio::time::Instant;
use uuid::Uuid;

use super::{database::Database, error::AppError, parts::WorkerParts};
use crate::{
    amqp::{AmqpDeadLetters, AmqpPublisher, AmqpSettings, AmqpSource},
    backoff::Backoff,
    broker::{CommandSource, MessagePublisher},
    dead_letters::DeadLetters,
    embedded::{
        EmbeddedDeadLetters, EmbeddedError, EmbeddedPublisher, EmbeddedQueue, EmbeddedSource,
    },
    settings::{Services, Settings},
};

/// How long the database may be away between the first phase of the start and this one.
const DEPLOYMENT_TIME: Duration = Duration::from_secs(10);

/// The consumer and the publisher.
#[derive(Clone)]
pub(super) enum Broker {
    Amqp {
        source: Option<Arc<AmqpSource>>,
        publisher: Arc<AmqpPublisher>,
        letters: AmqpDeadLetters,
    },
    Embedded {
        source: Option<Arc<EmbeddedSource>>,
        publisher: Arc<EmbeddedPublisher>,
        letters: EmbeddedDeadLetters,
    },
}

impl Broker {
    /// Starts to connect; a broker that cannot be reached is retried until it can.
    pub(super) async fn start(
        services: &Services,
        settings: &Settings,
        parts: WorkerParts,
        database: &Database,
    ) -> Result<Self, AppError> {
        match (services, database) {
            (Services::Postgres { broker, .. }, _) => {
                let mut amqp = AmqpSettings::new(broker.expose(), &settings.prefix)?
                    .with_event_queues(settings.queues.are_declared());
                amqp.deployment = Some(deployment(&*database.store()).await?);
                amqp.prefetch = settings.prefetch;
                amqp.consume = parts.consume;
                // One channel for each lane, one for the relay.
                amqp.publish_channels = settings.lanes + 1;
                Ok(Self::Amqp {
                    source: parts.consume.then(|| AmqpSource::start(amqp.clone())),
                    letters: AmqpDeadLetters::new(amqp.clone()),
                    publisher: AmqpPublisher::start(amqp),
                })
            }
            (Services::Embedded { .. }, Database::Sqlite(store)) => {
                let queue = EmbeddedQueue::open(store.clone())
                    .await
                    .map_err(EmbeddedError::Store)?
                    .with_event_queues(settings.queues.are_declared());
                let source = if parts.consume {
                    Some(EmbeddedSource::start(&queue, settings.prefetch).await?)
                } else {
                    None
                };
                Ok(Self::Embedded {
                    source,
                    letters: EmbeddedDeadLetters::new(queue.clone()),
                    publisher: EmbeddedPublisher::new(queue),
                })
            }
            (Services::Embedded { .. }, Database::Postgres(_)) => {
                unreachable!("`Settings::services` pairs `embedded:` with SQLite alone")
            }
        }
    }

    /// Where commands come from; none if this process does not consume.
    pub(super) fn source(&self) -> Option<Arc<dyn CommandSource>> {
        match self {
            Self::Amqp { source, .. } => source.clone().map(|source| source as _),
            Self::Embedded { source, .. } => source.clone().map(|source| source as _),
        }
    }

    /// Where messages are published.
    pub(super) fn publisher(&self) -> Arc<dyn MessagePublisher> {
        match self {
            Self::Amqp { publisher, .. } => Arc::clone(publisher) as _,
            Self::Embedded { publisher, .. } => Arc::clone(publisher) as _,
        }
    }

    /// Returns once it is known at the start that another deployment has the prefix; never if it is
    /// this one's. What comes later is a matter of readiness.
    pub(super) async fn refused_at_start(&self) -> String {
        let mut state = self.publisher().state();
        let known = state.wait_for(|state| state.publishing || state.refused.is_some());
        match known.await.ok().and_then(|state| state.refused.clone()) {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// The dead queue.
    pub(super) fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        match self {
            Self::Amqp { letters, .. } => Arc::new(letters.clone()),
            Self::Embedded { letters, .. } => Arc::new(letters.clone()),
        }
    }

    /// Closes consumer and publisher.
    pub(super) async fn close(&self) {
        match self {
            Self::Amqp {
                source, publisher, ..
            } => {
                if let Some(source) = source {
                    source.close().await;
                }
                publisher.close().await;
            }
            Self::Embedded { source, .. } => {
                if let Some(source) = source {
                    source.close().await;
                }
            }
        }
    }
}

/// The deployment of the database, which was there a moment ago.
async fn deployment(store: &dyn Store) -> Result<Uuid, AppError> {
    let ends = Instant::now() + DEPLOYMENT_TIME;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    loop {
        match store.deployment().await {
            Ok(id) => return Ok(id),
            Err(error) if Instant::now() >= ends => return Err(AppError::DatabaseLost(error)),
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}
