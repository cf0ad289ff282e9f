//! The server's connections over real sockets: which are kept, which are closed and when, and what a drain finishes.
//!
//! Traffic runs in real time; only what is waited for between is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use headstart_runtime::server::{ConnectionEvent, Server, ServerLimits};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::tls::{TlsArgs, TlsSource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A running server and what it told.
struct Running {
    address: SocketAddr,
    events: Arc<Mutex<Vec<ConnectionEvent>>>,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
    /// Lets `/slow` answer.
    finish: Arc<Notify>,
    /// Told when `/slow` is asked.
    asked: Arc<Notify>,
}

impl Running {
    async fn start(tls: Option<TlsSource>, connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (finish, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let gates = (finish.clone(), asked.clone());
        let slow = move || async move {
            gates.1.notify_one();
            gates.0.notified().await;
            "ok"
        };
        let routes = Router::new().route("/", get(|| async { "ok" })).route("/slow", get(slow));
        let (shutdown, sink) = (Shutdown::new(), events.clone());
        let limits = ServerLimits { connections, ..ServerLimits::default() };
        let server = Server::new(listener, tls, limits)
            .observed(Arc::new(move |event| sink.lock().unwrap().push(event)));
        let task = tokio::spawn(server.serve(routes, shutdown.clone()));
        Self { address, events, shutdown, task, finish, asked }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn count(&self, event: ConnectionEvent) -> usize {
        self.events.lock().unwrap().iter().filter(|seen| **seen == event).count()
    }

    /// Waits until an event was told so many times.
    async fn told(&self, event: ConnectionEvent, times: usize) {
        let seen = async {
            while self.count(event) < times {
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), seen).await;
        told.unwrap_or_else(|_| panic!("no {event:?}: {:?}", self.events.lock().unwrap()));
    }
}

async fn send(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads one answer, which must be `ok`.
async fn answer(stream: &mut TcpStream) {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nok") {
        let read = stream.read_buf(&mut text).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&text));
    }
    assert!(text.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&text));
}

async fn ask(stream: &mut TcpStream) {
    send(stream, "/").await;
    answer(stream).await;
}

/// Waits until the server has closed the connection.
async fn closed(stream: &mut TcpStream) {
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0; 64])).await;
    assert!(matches!(read.expect("it is still open"), Ok(0) | Err(_)));
}

fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Skips time.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn connections_that_ask_for_nothing_are_closed_only_while_slots_are_scarce() {
    let server = Running::start(None, 4).await;
    let first = server.connect().await;
    let mut used = server.connect().await;
    ask(&mut used).await;
    server.told(ConnectionEvent::Accepted, 2).await;
    later(60).await;
    ask(&mut used).await;
    assert!(is_open(&first), "half of the slots are taken: no reason to close anything");

    let second = server.connect().await;
    server.told(ConnectionEvent::Accepted, 3).await;
    later(11).await;
    server.told(ConnectionEvent::Unused, 1).await;
    later(60).await;
    ask(&mut used).await;
    assert!(is_open(&first) != is_open(&second), "one of them is enough");
    assert_eq!((server.count(ConnectionEvent::Unused), server.count(ConnectionEvent::Ended)), (1, 1));
}

#[tokio::test]
async fn a_connection_that_was_used_is_kept_longer_than_the_api_server_keeps_it() {
    let server = Running::start(None, 1).await;
    let mut kept = server.connect().await;
    ask(&mut kept).await;
    later(95).await;
    ask(&mut kept).await;
    later(121).await;
    closed(&mut kept).await;
    server.told(ConnectionEvent::Ended, 1).await;
}

#[tokio::test]
async fn a_connection_beyond_the_last_slot_is_refused_until_one_is_free() {
    let server = Running::start(None, 1).await;
    let mut first = server.connect().await;
    ask(&mut first).await;
    closed(&mut server.connect().await).await;
    assert_eq!(server.count(ConnectionEvent::Refused), 1);
    drop(first);
    server.told(ConnectionEvent::Ended, 1).await;
    ask(&mut server.connect().await).await;
}

#[tokio::test]
async fn handshakes_that_lead_nowhere_end_and_are_told_by_cause() {
    headstart_runtime::program::install_crypto();
    let dir = tempfile::tempdir().unwrap();
    let args = TlsArgs { tls_cert: dir.path().join("tls.crt"), tls_key: dir.path().join("tls.key") };
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&args.tls_cert, issued.cert.pem()).unwrap();
    std::fs::write(&args.tls_key, issued.signing_key.serialize_pem()).unwrap();
    let server = Running::start(Some(TlsSource::load(&args).unwrap().0), 4).await;

    let mut plain = server.connect().await;
    send(&mut plain, "/").await;
    server.told(ConnectionEvent::HandshakeFailed, 1).await;

    let mut silent = server.connect().await;
    server.told(ConnectionEvent::Accepted, 2).await;
    later(11).await;
    closed(&mut silent).await;
    server.told(ConnectionEvent::Ended, 2).await;
    assert_eq!(server.count(ConnectionEvent::HandshakeTimedOut), 1);
    assert_eq!(server.count(ConnectionEvent::HandshakeFailed), 1);
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_finishes_what_was_begun() {
    let server = Running::start(None, 4).await;
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    ask(&mut idle).await;
    send(&mut busy, "/slow").await;
    server.asked.notified().await;
    server.shutdown.begin();
    closed(&mut idle).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "no new connections");
    assert!(!server.task.is_finished());
    server.finish.notify_one();
    answer(&mut busy).await;
    closed(&mut busy).await;
    server.task.await.unwrap().unwrap();
}
