//! One connection, and the supervisor that rebuilds it for ever.
//!
//! The client's own recovery is off: once out of retries it leaves consumers that neither yield,
//! fail nor end. Here a connection is used until anything on it fails. It is then closed as a whole
//! and rebuilt from scratch: connection, topology, channels, consumers.

use std::{
    error::Error,
    io,
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind, Event,
    options::ConfirmSelectOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    tcp::{AsyncTcpStream, TLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::settings::AmqpSettings;
use crate::{
    backoff::Reconnecting,
    broker::{BrokerError, BrokerState},
    telemetry,
};

/// How long closing may take before the socket is shut without waiting for the broker.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long declaring, and subscribing to a queue, may take; quorum queues may be electing leaders
/// meanwhile.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a connection without traffic is checked.
const LOOK: Duration = Duration::from_millis(500);

/// An open connection.
pub(super) struct Link {
    connection: Connection,
    socket: Arc<Socket>,
    address: String,
}

impl Link {
    /// Connects within the time that the settings allow. An attempt that failed or timed out leaves
    /// nothing behind, neither a socket nor the client's thread.
    pub(super) async fn open(settings: &AmqpSettings, role: &str) -> Result<Self, BrokerError> {
        let options = ConnectionProperties::default()
            .with_connection_name(format!("glyph {role} {}", settings.topology().prefix()).into());
        let runtime =
            lapin::runtime::default_runtime().map_err(|error| settings.unreachable(error))?;
        let socket = Arc::new(Socket::default());
        let mut given_up = HangUp(Some(Arc::clone(&socket)));
        let limit = settings.connect_timeout;
        let kept = Arc::clone(&socket);
        let connecting = Connection::connector(
            settings.uri(),
            runtime,
            // The client runs this on a thread of its own, which would outlive a dropped attempt
            // for as long as the network stays silent. So it has its own limit.
            async move |uri: AMQPUri, runtime| {
                let dialled = timeout(limit, async {
                    let host = uri.authority.host.as_str();
                    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
                    for address in tokio::net::lookup_host((host, uri.authority.port)).await? {
                        match AsyncTcpStream::connect(&runtime, address).await {
                            Ok(stream) => {
                                if let AsyncTcpStream::Plain(plain) = &stream {
                                    kept.keep(plain.get_ref())?;
                                }
                                return match uri.scheme {
                                    AMQPScheme::AMQP => Ok(stream),
                                    AMQPScheme::AMQPS => {
                                        stream.into_tls(host, TLSConfig::default()).await
                                    }
                                };
                            }
                            Err(error) => failure = error,
                        }
                    }
                    Err(failure)
                });
                dialled
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(lapin::Error::from)
            },
            options,
        );
        let connection = timeout(limit, connecting)
            .await
            .map_err(|_| settings.unreachable(io::Error::from(io::ErrorKind::TimedOut)))?
            .map_err(|error| settings.unreachable(error))?;
        given_up.0 = None;
        Ok(Self {
            connection,
            socket,
            address: settings.address(),
        })
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        loop {
            match self.connection.create_channel().await {
                Ok(channel) => return Ok(channel),
                // The client keeps why the broker closed a channel, and gives that to the next one of
                // the same number too. That number is taken then, so this ends.
                Err(error) if soft_error(&error).is_some() => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    /// A new channel on which what is published is confirmed.
    pub(super) async fn confirming(&self) -> Result<Channel, BrokerError> {
        let channel = self.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(|error| self.lost(error))?;
        Ok(channel)
    }

    /// The same within a time: a network that has fallen silent never answers.
    pub(super) async fn confirming_within(&self, limit: Duration) -> Result<Channel, BrokerError> {
        timeout(limit, self.confirming())
            .await
            .unwrap_or_else(|elapsed| Err(self.lost(elapsed)))
    }

    /// Closes politely, then forcibly. A connection lives as long as any handle of any of its
    /// channels, and a frozen broker never answers a close.
    pub(super) async fn close(&self) {
        let farewell = self.connection.close(200, "OK".into());
        if !matches!(timeout(CLOSE_TIMEOUT, farewell).await, Ok(Ok(()))) {
            tracing::debug!(
                address = self.address,
                "the connection ended without a farewell"
            );
        }
        self.socket.hang_up();
    }

    /// Waits until the connection fails, and meanwhile reports alarms to `state`.
    pub(super) async fn broken(&self, state: &watch::Sender<BrokerState>) -> BrokerError {
        let mut events = self.connection.events_listener();
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                Some(event) = events.next() => match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(reason, "the broker holds publishers back");
                        state.send_modify(|state| {
                            state.blocked = true;
                            state.reason = Some(reason);
                        });
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!("the broker takes messages again");
                        state.send_modify(|state| {
                            state.blocked = false;
                            state.reason = None;
                        });
                    }
                    // Of a channel: whoever uses it finds out, and knows whether that is a failure.
                    Event::Error(error) if soft_error(&error).is_some() => {}
                    Event::Error(error) => return self.lost(error),
                    _ => {}
                },
                _ = look.tick() => if !self.connection.status().connected() {
                    return self.lost(io::Error::from(io::ErrorKind::ConnectionAborted));
                },
            }
        }
    }

    pub(super) fn lost(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> BrokerError {
        BrokerError::Unreachable {
            address: self.address.clone(),
            source: source.into(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.socket.hang_up();
    }
}

/// A second handle of a connection's socket. Shutting it ends the client's thread, even if that
/// thread is blocked.
#[derive(Default)]
struct Socket(Mutex<Handle>);

#[derive(Default)]
enum Handle {
    #[default]
    NotYet,
    Open(TcpStream),
    HungUp,
}

impl Socket {
    fn keep(&self, stream: &tokio::net::TcpStream) -> io::Result<()> {
        // Acks and confirms are small frames, and each has a waiter.
        stream.set_nodelay(true)?;
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;
            let second = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
            let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*handle, Handle::HungUp) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            *handle = Handle::Open(second);
        }
        Ok(())
    }

    fn hang_up(&self) {
        let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Handle::Open(stream) = &*handle {
            // Fails if the other side closed first.
            let _ = stream.shutdown(Shutdown::Both);
        }
        *handle = Handle::HungUp;
    }
}

/// Why the broker closed a channel, and not the connection.
pub(super) fn soft_error(error: &lapin::Error) -> Option<AMQPSoftError> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    match error.kind() {
        AMQPErrorKind::Soft(why) => Some(why.clone()),
        AMQPErrorKind::Hard(_) => None,
    }
}

/// Closes the socket when dropped, unless it was emptied before.
struct HangUp(Option<Arc<Socket>>);

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.hang_up();
        }
    }
}

/// What a connection is used for.
#[async_trait]
pub(super) trait Service: Send + Sync {
    /// Channels and consumers, ready for use.
    type Session: Send;

    /// The connection's name, as operators see it.
    const ROLE: &'static str;

    /// Declares and opens what is needed; fails after [`SETUP_TIMEOUT`].
    async fn prepare(&self, link: &Arc<Link>) -> Result<Self::Session, BrokerError>;

    /// Uses them until something fails or the work is over.
    async fn serve(&self, link: &Arc<Link>, session: Self::Session) -> Result<(), BrokerError>;
}

/// Connects and serves, over and over, until serving ends without a failure or `ended` is cancelled
/// while there is no connection. Makes one attempt at a time: parallel attempts would multiply what
/// a frozen broker costs.
pub(super) async fn supervise<S: Service>(
    service: &S,
    settings: &AmqpSettings,
    state: &watch::Sender<BrokerState>,
    ended: &CancellationToken,
) {
    let mut reconnecting = Reconnecting::default();
    loop {
        let ready = async {
            let link = Arc::new(Link::open(settings, S::ROLE).await?);
            let prepared = tokio::select! {
                prepared = timeout(SETUP_TIMEOUT, service.prepare(&link)) => {
                    prepared.unwrap_or_else(|_| Err(BrokerError::Unconfirmed {
                        action: format!("the preparations to {}", S::ROLE),
                        seconds: SETUP_TIMEOUT.as_secs(),
                    }))
                }
                // What was asked on a connection that has failed is not always answered.
                lost = link.broken(state) => Err(lost),
            };
            match prepared {
                Ok(session) => Ok((link, session)),
                Err(error) => {
                    link.close().await;
                    Err(error)
                }
            }
        };
        let began = Instant::now();
        let outcome = tokio::select! {
            biased;
            () = ended.cancelled() => return,
            ready = ready => match ready {
                Ok((link, session)) => {
                    tracing::info!(address = settings.address(), role = S::ROLE, "connected");
                    let served = service.serve(&link, session).await;
                    link.close().await;
                    served
                }
                Err(error) => Err(error),
            },
        };
        let Err(error) = outcome else { return };
        let lived = began.elapsed().saturating_sub(settings.connect_timeout);
        let wait = reconnecting.wait_after(lived);
        let other_deployment = matches!(error, BrokerError::OtherDeployment { .. });
        let reason = telemetry::chain(&error);
        tracing::warn!(
            role = S::ROLE,
            reason,
            ?wait,
            "no connection to the broker; trying again"
        );
        state.send_replace(BrokerState {
            refused: other_deployment.then(|| reason.clone()),
            reason: Some(reason),
            ..BrokerState::default()
        });
        tokio::select! {
            () = ended.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}
