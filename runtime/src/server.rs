//! The HTTP server of every program: an accept loop of our own, so that one silent peer stalls nobody, connections
//! are bounded, and a drain finishes what was begun.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::shutdown::Shutdown;
use crate::tls::TlsSource;

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Most connections at once; a further one is closed at once, so that its peer need not wait for a time-out.
    pub connections: usize,
    /// Longest TLS handshake.
    pub handshake: Duration,
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
            headers: Duration::from_secs(120),
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}

/// A server that is bound but does not serve yet.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsSource>,
    limits: ServerLimits,
}

/// What every connection of a server shares.
#[derive(Clone)]
struct Connections {
    router: Router,
    tls: Option<TlsSource>,
    limits: ServerLimits,
}

impl Server {
    /// A server on `listener`: HTTPS where `tls` is given.
    pub fn new(listener: TcpListener, tls: Option<TlsSource>, limits: ServerLimits) -> Self {
        Self { listener, tls, limits }
    }

    /// Serves `router` until the shutdown, then drains.
    pub async fn serve(self, router: Router, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { listener, tls, limits } = self;
        let permits = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let connections = Connections { router, tls, limits };
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
                Ok((stream, _)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => {
                        tokio::spawn(connections.clone().serve(stream, permit, graceful.watcher()));
                    }
                    Err(_) => tracing::debug!("closed a connection: there are too many"),
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

/// Errors of accept are those of one connection, or of a process out of descriptors: never of the listener.
async fn wait_after(error: &io::Error) {
    tracing::warn!(%error, "failed to accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

impl Connections {
    async fn serve(self, stream: TcpStream, permit: OwnedSemaphorePermit, watcher: Watcher) {
        // Small answers must not wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.serve_http(stream, watcher).await,
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.config()).accept(stream);
                match tokio::time::timeout(self.limits.handshake, handshake).await {
                    Ok(Ok(stream)) => self.serve_http(stream, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => tracing::debug!("TLS handshake took too long"),
                }
            }
        }
        drop(permit);
    }

    async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: Watcher,
    ) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended");
        }
    }
}
