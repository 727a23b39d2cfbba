//! A pooler in front of Postgres, as PgBouncer is: it refuses start-up parameters that it does not
//! know, and gives out sessions for a connection's life or for each transaction.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
};

const TLS_REQUEST: i32 = 80_877_103;
const PROTOCOL: i32 = 196_608;
/// What PgBouncer takes by default.
const TAKEN: [&str; 7] = [
    "user",
    "database",
    "client_encoding",
    "datestyle",
    "timezone",
    "standard_conforming_strings",
    "application_name",
];

type Stream = BufStream<TcpStream>;

/// A message: its type and its body.
struct Message(u8, Vec<u8>);

impl Message {
    async fn read(from: &mut Stream) -> std::io::Result<Self> {
        let kind = from.read_u8().await?;
        Ok(Self(kind, body(from).await?))
    }

    async fn write(&self, to: &mut Stream) -> std::io::Result<()> {
        to.write_u8(self.0).await?;
        to.write_i32(i32::try_from(self.1.len() + 4).unwrap())
            .await?;
        to.write_all(&self.1).await
    }
}

async fn body(from: &mut Stream) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await?).unwrap();
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

struct Shared {
    server: String,
    user: String,
    by_transaction: AtomicBool,
    /// The session used last is given out first.
    idle: Mutex<Vec<Stream>>,
}

pub(super) struct Pooler {
    shared: Arc<Shared>,
    port: u16,
}

impl Pooler {
    /// Starts one in front of `server`, as `host:port`, where `user` needs no password.
    pub(super) async fn start(server: String, user: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            user: user.to_owned(),
            by_transaction: AtomicBool::new(false),
            idle: Mutex::default(),
        });
        let pooler = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let pooler = Arc::clone(&pooler);
                // A client that hangs up is no fault.
                tokio::spawn(async move { pooler.serve(BufStream::new(client)).await });
            }
        });
        Self { shared, port }
    }

    pub(super) fn url(&self, database: &str) -> String {
        format!(
            "postgres://{}@127.0.0.1:{}/{database}",
            self.shared.user, self.port
        )
    }

    /// Gives out sessions for each transaction, or for a connection's life.
    pub(super) fn pool_by_transaction(&self, yes: bool) {
        self.shared.by_transaction.store(yes, Ordering::SeqCst);
        if !yes {
            // Sessions that others have used are not given out again.
            self.shared.idle.lock().unwrap().clear();
        }
    }
}

impl Shared {
    async fn serve(&self, mut client: Stream) -> std::io::Result<()> {
        let parameters = loop {
            let start = body(&mut client).await?;
            let (code, rest) = start.split_at(4);
            if i32::from_be_bytes(code.try_into().unwrap()) != TLS_REQUEST {
                break String::from_utf8(rest.to_vec()).unwrap();
            }
            client.write_u8(b'N').await?;
            client.flush().await?;
        };
        let words: Vec<&str> = parameters.split('\0').collect();
        let pairs = words.chunks_exact(2);
        for pair in pairs.clone().filter(|pair| !pair[0].is_empty()) {
            if !TAKEN.contains(&pair[0].to_lowercase().as_str()) {
                let text = format!("unsupported startup parameter: {}", pair[0]);
                let error = format!("SFATAL\0VFATAL\0C08P01\0M{text}\0\0");
                Message(b'E', error.into_bytes()).write(&mut client).await?;
                return client.flush().await;
            }
        }
        let database = pairs.clone().find(|pair| pair[0] == "database");
        let database = database.map_or("postgres", |pair| pair[1]).to_owned();
        Message(b'R', vec![0; 4]).write(&mut client).await?;
        let version = b"server_version\x0015.0\0".to_vec();
        Message(b'S', version).write(&mut client).await?;
        Message(b'K', vec![0; 8]).write(&mut client).await?;
        Message(b'Z', vec![b'I']).write(&mut client).await?;
        client.flush().await?;
        let mut session: Option<Stream> = None;
        loop {
            let asked = Message::read(&mut client).await?;
            if asked.0 == b'X' {
                return Ok(());
            }
            let held = session.take().or_else(|| self.idle.lock().unwrap().pop());
            let mut server = match held {
                Some(server) => server,
                None => self.open(&database).await?,
            };
            asked.write(&mut server).await?;
            let mut is_idle = false;
            // Answers come to a query and to the end of a group of messages.
            if matches!(asked.0, b'Q' | b'S') {
                server.flush().await?;
                let mut answer = Message::read(&mut server).await?;
                while answer.0 != b'Z' {
                    answer.write(&mut client).await?;
                    answer = Message::read(&mut server).await?;
                }
                answer.write(&mut client).await?;
                is_idle = answer.1 == *b"I";
                client.flush().await?;
            }
            if is_idle && self.by_transaction.load(Ordering::SeqCst) {
                self.idle.lock().unwrap().push(server);
            } else {
                session = Some(server);
            }
        }
    }

    async fn open(&self, database: &str) -> std::io::Result<Stream> {
        let mut server = BufStream::new(TcpStream::connect(&self.server).await?);
        let start = format!("user\0{}\0database\0{database}\0\0", self.user);
        let length = i32::try_from(start.len() + 8).unwrap();
        server.write_i32(length).await?;
        server.write_i32(PROTOCOL).await?;
        server.write_all(start.as_bytes()).await?;
        server.flush().await?;
        while Message::read(&mut server).await?.0 != b'Z' {}
        Ok(server)
    }
}
