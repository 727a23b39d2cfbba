//! A proxy between two programs whose connection can break.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use reqwest::Url;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cable {
    Whole,
    /// Connections are accepted, but no byte passes in either direction.
    Silent,
    /// Connections are dropped.
    Cut,
    /// Every third request that contains these bytes arrives, and its connection is dropped when
    /// the reply comes.
    LosesReplyTo(&'static str),
    /// What a broker delivers does not arrive; all else does. To be set while nothing is on the way.
    LosesDeliveries,
}

/// Forwards connections to another address, as the cable permits.
pub(crate) struct Proxy {
    url: Url,
    shared: Arc<Shared>,
}

struct Shared {
    cable: watch::Sender<Cable>,
    /// Connections open now, and the maximum so far.
    open: AtomicUsize,
    most: AtomicUsize,
    accepted: AtomicU64,
    /// Chunks that a silent cable did not pass on.
    swallowed: AtomicU64,
    /// Requests whose replies may be lost, and replies and deliveries lost.
    requests: AtomicU64,
    lost: AtomicU64,
}

impl Proxy {
    /// A proxy to the host of `url`; `port` is the default port.
    pub(crate) async fn start(url: &str, port: u16, cable: Cable) -> Self {
        let mut url = Url::parse(url).unwrap();
        let upstream = (
            url.host_str().unwrap().to_owned(),
            url.port().unwrap_or(port),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        let port = listener.local_addr().unwrap().port();
        url.set_port(Some(port)).unwrap();
        let shared = Arc::new(Shared {
            cable: watch::Sender::new(cable),
            open: AtomicUsize::default(),
            most: AtomicUsize::default(),
            accepted: AtomicU64::default(),
            swallowed: AtomicU64::default(),
            requests: AtomicU64::default(),
            lost: AtomicU64::default(),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (shared, upstream) = (Arc::clone(&accepting), upstream.clone());
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
                shared.most.fetch_max(open, Ordering::SeqCst);
                tokio::spawn(async move {
                    shared.carry(near, upstream).await;
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, shared }
    }

    /// The URL through this proxy.
    pub(crate) fn url(&self) -> String {
        self.url.to_string()
    }

    pub(crate) fn set(&self, cable: Cable) {
        self.shared.cable.send_replace(cable);
    }

    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn carry(&self, near: TcpStream, upstream: (String, u16)) {
        let Ok(far) = TcpStream::connect(upstream).await else {
            return;
        };
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        let mut cable = self.cable.subscribe();
        let loses_reply = AtomicBool::new(false);
        tokio::select! {
            () = self.requests(near_in, far_out, &loses_reply) => {}
            () = self.replies(far_in, near_out, &loses_reply) => {}
            _ = cable.wait_for(|cable| *cable == Cable::Cut) => {}
        }
    }

    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, loses: &AtomicBool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let request = &buffer[..count];
            if let Cable::LosesReplyTo(text) = *self.cable.borrow()
                && request.windows(text.len()).any(|w| w == text.as_bytes())
            {
                let third = self.requests.fetch_add(1, Ordering::SeqCst) % 3 == 2;
                // Set before the request is forwarded, so that its reply sees it.
                loses.store(third, Ordering::SeqCst);
            }
            if self.is_silent() {
                continue;
            }
            if to.write_all(request).await.is_err() {
                return;
            }
        }
    }

    async fn replies(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, loses: &AtomicBool) {
        let mut buffer = vec![0; 64 * 1024];
        let mut frames = Vec::new();
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if *self.cable.borrow() == Cable::LosesDeliveries {
                frames.extend_from_slice(&buffer[..count]);
                if to
                    .write_all(&self.without_deliveries(&mut frames))
                    .await
                    .is_err()
                {
                    return;
                }
                continue;
            }
            if loses.load(Ordering::SeqCst) {
                self.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if !self.is_silent() && to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }

    /// Takes all whole frames of AMQP 0-9-1 (2.3.5); returns those that are not of a delivery.
    fn without_deliveries(&self, frames: &mut Vec<u8>) -> Vec<u8> {
        const HEADER: usize = 7;
        const DELIVER: [u8; 4] = [0, 60, 0, 60];
        let mut kept = Vec::new();
        while let Some(size) = frames.get(3..HEADER) {
            let size = u32::from_be_bytes(size.try_into().unwrap()) as usize;
            let end = HEADER + size + 1;
            if frames.len() < end {
                break;
            }
            let frame: Vec<_> = frames.drain(..end).collect();
            match frame[0] {
                1 if frame[HEADER..].starts_with(&DELIVER) => {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                }
                // The header and the body of a message.
                2 | 3 => {}
                _ => kept.extend(frame),
            }
        }
        kept
    }

    /// Whether the bytes just read are lost. Reading continues all the same: the end of the stream
    /// must be seen.
    fn is_silent(&self) -> bool {
        let silent = *self.cable.borrow() == Cable::Silent;
        if silent {
            self.swallowed.fetch_add(1, Ordering::SeqCst);
        }
        silent
    }
}
