//! A server of HTTP/1.1 that says just what a test wants, byte by byte, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    /// What is asked for, as it stands in the first line.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What is sent, and what becomes of the connection.
#[derive(Debug, Clone)]
pub(super) struct Reply(pub(super) Vec<u8>, pub(super) Then);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It waits for the next request.
    GoOn,
    /// It ends.
    Close,
    /// Nothing more comes.
    Hang,
    /// One byte comes now and then, without an end.
    Trickle,
}

impl Reply {
    /// An answer with headers (each with its line end) and a body.
    pub(super) fn new(status: u16, headers: &str, body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        Self(bytes, Then::GoOn)
    }

    pub(super) fn to(status: u16, location: &str) -> Self {
        Self::new(status, &format!("location: {location}\r\n"), b"")
    }
}

type Answer = dyn Fn(&Seen) -> Reply + Send + Sync;

/// Listens until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(super) async fn new(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    pub(super) async fn at(address: &str, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicUsize>::default());
        let answer: Arc<Answer> = Arc::new(answer);
        let mut tasks = JoinSet::new();
        let (to, count) = (Arc::clone(&seen), Arc::clone(&connections));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (answer, to) = (Arc::clone(&answer), Arc::clone(&to));
                open.spawn(async move {
                    // What a client does to a connection is its own affair.
                    let _ = serve(stream, &*answer, &to).await;
                });
            }
        });
        Self { address, seen, connections, _tasks: tasks }
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, answer: &Answer, seen: &Mutex<Vec<Seen>>) -> std::io::Result<()> {
    let mut held = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            // A client that speaks TLS is not answered.
            if stream.read_buf(&mut held).await? == 0 || held.first() == Some(&0x16) {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&held[..end]).into_owned();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse::<usize>().unwrap());
        while held.len() < end + length {
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
        }
        let body = held[end..end + length].to_vec();
        held.drain(..end + length);
        let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let request = Seen { method, path, headers, body };
        let Reply(bytes, then) = answer(&request);
        seen.lock().unwrap().push(request);
        stream.write_all(&bytes).await?;
        match then {
            Then::GoOn => {}
            Then::Close => return stream.shutdown().await,
            Then::Hang => std::future::pending().await,
            Then::Trickle => loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                stream.write_all(b"x").await?;
            },
        }
    }
}
