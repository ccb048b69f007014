//! A server of HTTP/1.1 on this machine that remembers what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The first line and the headers, as they were sent.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// The path of the first line.
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header, whose name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }
}

/// Answers `rows` with the status that a path of the form `/status/503` names, or 200.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, over) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicBool>::default());
        let (to, end) = (Arc::clone(&requests), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                // What a client does to a connection is its own affair.
                let _ = stream.and_then(|stream| serve(stream, &to));
            }
        });
        Self { address, requests, over, thread: Some(thread) }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, requests: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let (mut held, mut buffer) = (Vec::new(), [0; 4096]);
    let mut more = |held: &mut Vec<u8>| {
        let count = stream.read(&mut buffer)?;
        held.extend_from_slice(&buffer[..count]);
        Ok::<_, std::io::Error>(count > 0)
    };
    let end = loop {
        if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if !more(&mut held)? {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&held[..end]).into_owned();
    let mut asked = Asked { head, body: String::new() };
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    while held.len() < end + length && more(&mut held)? {}
    asked.body = String::from_utf8_lossy(&held[end..]).into_owned();
    let status = asked.path().strip_prefix("/status/").unwrap_or("200").to_owned();
    requests.lock().unwrap().push(asked);
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nrows")
}
