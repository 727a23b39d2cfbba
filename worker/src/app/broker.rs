//! The connections to the broker, RabbitMQ or the embedded queue: consumer and publisher.

use std::sync::Arc;

use super::{database::Database, error::AppError, parts::WorkerParts};
use crate::{
    amqp::{AmqpPublisher, AmqpSettings, AmqpSource},
    broker::{CommandSource, MessagePublisher},
    embedded::{EmbeddedError, EmbeddedPublisher, EmbeddedQueue, EmbeddedSource},
    settings::{Services, Settings},
};

/// The consumer and the publisher.
#[derive(Clone)]
pub(super) enum Broker {
    Amqp {
        source: Option<Arc<AmqpSource>>,
        publisher: Arc<AmqpPublisher>,
    },
    Embedded {
        source: Option<Arc<EmbeddedSource>>,
        publisher: Arc<EmbeddedPublisher>,
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
                let mut amqp = AmqpSettings::new(broker.expose(), &settings.prefix)?;
                amqp.prefetch = settings.prefetch;
                amqp.consume = parts.consume;
                // One channel for each lane, one for the relay.
                amqp.publish_channels = settings.lanes + 1;
                Ok(Self::Amqp {
                    source: parts.consume.then(|| AmqpSource::start(amqp.clone())),
                    publisher: AmqpPublisher::start(amqp),
                })
            }
            (Services::Embedded { .. }, Database::Sqlite(store)) => {
                let queue = EmbeddedQueue::open(store.clone())
                    .await
                    .map_err(EmbeddedError::Store)?;
                let source = if parts.consume {
                    Some(EmbeddedSource::start(&queue, settings.prefetch).await?)
                } else {
                    None
                };
                Ok(Self::Embedded {
                    source,
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

    /// Closes consumer and publisher.
    pub(super) async fn close(&self) {
        match self {
            Self::Amqp { source, publisher } => {
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
