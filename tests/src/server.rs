//! HTTP and HTTPS servers on loopback, and self-made certificates.

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::http::{Response, header};
use headstart_runtime::server::{Server, ServerLimits};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::tls::{TlsArgs, TlsSource};
use tokio::net::TcpListener;

/// A server that stops when dropped.
pub struct Running {
    /// `http://…` or `https://…`, without a trailing slash.
    pub url: String,
    shutdown: Shutdown,
}

/// Serves `routes` over HTTP, or over HTTPS where certificate files are given.
pub async fn serve(routes: Router, tls: Option<&TlsArgs>) -> Running {
    headstart_runtime::program::install_crypto();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let tls = tls.map(|args| TlsSource::load(args).unwrap().0);
    let shutdown = Shutdown::new();
    tokio::spawn(Server::new(listener, tls, ServerLimits::default()).serve(routes, shutdown.clone()));
    Running { url, shutdown }
}

/// An answer that ends the connection: its body fails before the first byte, so that nothing of it is of use.
pub fn broken_off() -> Response<Body> {
    let broken = futures::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("played")) });
    Response::builder().header(header::CONTENT_LENGTH, 1000).body(Body::from_stream(broken)).unwrap()
}

/// Writes a self-made certificate for loopback, which is its own authority.
pub fn certificate(folder: &Path) -> TlsArgs {
    certificate_for(folder, &["127.0.0.1", "localhost"])
}

/// Writes a self-made certificate for these names.
pub fn certificate_for(folder: &Path, names: &[&str]) -> TlsArgs {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let issued = rcgen::generate_simple_self_signed(names).unwrap();
    let args = TlsArgs { tls_cert: folder.join("tls.crt"), tls_key: folder.join("tls.key") };
    std::fs::write(&args.tls_cert, issued.cert.pem()).unwrap();
    std::fs::write(&args.tls_key, issued.signing_key.serialize_pem()).unwrap();
    args
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}
