//! The HTTP server of every program: an accept loop of our own, so that one silent peer stalls nobody, connections
//! are bounded, and a drain finishes what was begun.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::shutdown::Shutdown;
use crate::tls::TlsSource;

/// Bytes read at once below TLS, about one of its records.
const READ_BUFFER: usize = 16 << 10;

/// Most bytes of a request's headers; the API server sends a few hundred.
const HEADER_BYTES: usize = 16 << 10;

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Most connections at once; a further one is closed at once, so that its peer need not wait for a time-out.
    pub connections: usize,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// How long a connection may ask for nothing at all once more than half of the connections are taken. The API
    /// server opens connections that it may never use; with room for all they do no harm.
    pub first_request: Duration,
    /// Longest wait for a request's headers. hyper counts idle keep-alive time as such a wait, and the API server
    /// keeps idle connections for 90 s, so a shorter time would close them under its hands.
    pub headers: Duration,
    /// How long the server goes on accepting after the shutdown began, until load balancers know.
    pub drain_delay: Duration,
    /// How long requests may take to finish after that.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(10),
            headers: Duration::from_secs(120),
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// One got a slot.
    Accepted,
    /// One that had a slot is gone.
    Ended,
    /// One was closed at once because all slots were taken.
    Refused,
    /// One was closed because it asked for nothing while slots were scarce.
    Unused,
    /// One did not speak TLS as this server does.
    HandshakeFailed,
    /// One was too slow to agree on TLS.
    HandshakeTimedOut,
}

/// Told of every event, from many threads; it must not block.
pub type Observer = Arc<dyn Fn(ConnectionEvent) + Send + Sync>;

/// A server that is bound but does not serve yet.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsSource>,
    limits: ServerLimits,
    observer: Observer,
}

/// What every connection of a server shares.
struct Connections {
    router: Router,
    tls: Option<TlsSource>,
    limits: ServerLimits,
    observer: Observer,
    slots: Arc<Semaphore>,
}

/// The slot of one connection, free again when it ends in whatever way.
struct Slot {
    observer: Observer,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        (self.observer)(ConnectionEvent::Ended);
    }
}

impl Server {
    /// A server on `listener`: HTTPS where `tls` is given.
    pub fn new(listener: TcpListener, tls: Option<TlsSource>, limits: ServerLimits) -> Self {
        Self { listener, tls, limits, observer: Arc::new(|_| {}) }
    }

    /// Tells `observer` what happens to connections.
    pub fn observed(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Serves `router` until the shutdown, then drains.
    pub async fn serve(self, router: Router, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { listener, tls, limits, observer } = self;
        let slots = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Connections { router, tls, limits, observer, slots });
        let stop = async {
            shutdown.begun().await;
            tokio::time::sleep(limits.drain_delay).await;
        };
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            match accepted {
                Ok((stream, _)) => match connections.take_slot() {
                    Some(slot) => {
                        tokio::spawn(connections.clone().serve(stream, slot, graceful.watcher()));
                    }
                    None => tracing::debug!("closed a connection: there are too many"),
                },
                Err(error) => wait_after(&error).await,
            }
        }
        drop(listener);
        if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("closed connections that were still busy after {:?}", limits.drain);
        }
        Ok(())
    }
}

/// Errors of accept are those of one connection, or of a process or machine without means: never of the listener. What
/// is missing may be there a moment later.
async fn wait_after(error: &io::Error) {
    let is_of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if is_of_one_connection {
        tracing::debug!(%error, "a connection ended before it was accepted");
    } else {
        tracing::warn!(%error, "failed to accept a connection");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Connections {
    fn take_slot(&self) -> Option<Slot> {
        let permit = self.slots.clone().try_acquire_owned().ok();
        (self.observer)(if permit.is_some() { ConnectionEvent::Accepted } else { ConnectionEvent::Refused });
        permit.map(|permit| Slot { observer: self.observer.clone(), _permit: permit })
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, slot: Slot, watcher: Watcher) {
        // Small answers must not wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.serve_http(stream, watcher).await,
            Some(tls) => {
                // TLS reads little by little; a request should still come with one call to the kernel.
                let stream = BufReader::with_capacity(READ_BUFFER, stream);
                let handshake = TlsAcceptor::from(tls.config()).accept(stream);
                match tokio::time::timeout(self.limits.handshake, handshake).await {
                    Ok(Ok(stream)) => self.serve_http(stream, watcher).await,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "TLS handshake failed");
                        (self.observer)(ConnectionEvent::HandshakeFailed);
                    }
                    Err(_) => {
                        tracing::debug!("TLS handshake took too long");
                        (self.observer)(ConnectionEvent::HandshakeTimedOut);
                    }
                }
            }
        }
        drop(slot);
    }

    async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: Watcher,
    ) {
        let asked = Arc::new(AtomicBool::new(false));
        let inner = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .max_header_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), Noting { inner, asked: asked.clone() });
        tokio::select! {
            biased;
            ended = watcher.watch(connection) => if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            },
            () = self.is_useless(&asked) => {
                tracing::debug!("closed a connection that asked for nothing");
                (self.observer)(ConnectionEvent::Unused);
            }
        }
    }

    /// Waits until the connection has asked for nothing in time while slots are scarce: often for ever. One that asked
    /// once is left alone: it may be the API server's, which would not know that it is closed when it asks again.
    async fn is_useless(&self, asked: &AtomicBool) {
        loop {
            tokio::time::sleep(self.limits.first_request).await;
            if asked.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            if self.slots.available_permits() * 2 < self.limits.connections {
                return;
            }
        }
    }
}

/// A service that takes note of being asked.
struct Noting<S> {
    inner: S,
    asked: Arc<AtomicBool>,
}

impl<R, S: Service<R>> Service<R> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: R) -> Self::Future {
        self.asked.store(true, Ordering::Relaxed);
        self.inner.call(request)
    }
}
