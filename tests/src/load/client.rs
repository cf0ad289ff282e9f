//! An HTTPS client that does almost nothing, since it shares the machine with the server that is measured.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where to send requests.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    connector: TlsConnector,
}

/// One request, ready to be sent, and a word that its answer must hold.
#[derive(Clone)]
pub struct Request {
    text: Arc<[u8]>,
    expected: &'static str,
}

/// A connection that is kept.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    request: Request,
    /// The first answer, which all others must equal but for their date, and where its body begins.
    first: (Vec<u8>, usize),
    buffer: Vec<u8>,
    asked: u32,
}

/// One of so many answers is compared as a whole.
const COMPARED: u32 = 16;

impl Target {
    /// A server with a certificate that is its own authority.
    pub fn new(address: SocketAddr, certificate: &[u8]) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { address, connector: TlsConnector::from(Arc::new(config)) }
    }
}

impl Request {
    /// A GET.
    pub fn get(path: &str, expected: &'static str) -> Self {
        Self { text: format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes().into(), expected }
    }

    /// A POST of JSON.
    pub fn post(path: &str, body: &str, expected: &'static str) -> Self {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        Self { text: (head + body).into_bytes().into(), expected }
    }
}

impl Connection {
    /// Connects and sends the request for the first time.
    pub async fn open(target: &Target, request: &Request) -> Self {
        let stream = TcpStream::connect(target.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = target.connector.connect(name, stream).await.unwrap();
        let mut this =
            Self { stream, request: request.clone(), first: (Vec::new(), 0), buffer: Vec::new(), asked: 0 };
        this.first = this.ask_first().await;
        this.buffer = vec![0; this.first.0.len()];
        this
    }

    async fn ask_first(&mut self) -> (Vec<u8>, usize) {
        self.stream.write_all(&self.request.text).await.unwrap();
        let mut answer = Vec::new();
        loop {
            let read = self.stream.read_buf(&mut answer).await.unwrap();
            let text = std::str::from_utf8(&answer).unwrap();
            assert!(read > 0, "closed after {text:?}");
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
                assert!(body.contains(self.request.expected), "{text}");
                let begin = head.len() + 4;
                return (answer, begin);
            }
        }
    }

    /// Sends the request again and reads its answer; every now and then it is compared to its last byte.
    pub async fn ask(&mut self) {
        self.stream.write_all(&self.request.text).await.unwrap();
        self.stream.read_exact(&mut self.buffer).await.unwrap();
        self.asked += 1;
        let (first, body) = (&self.first.0, self.first.1);
        let end = if self.asked.is_multiple_of(COMPARED) { first.len() } else { body + 1 };
        let same = self.buffer[..15] == first[..15] && self.buffer[body..end] == first[body..end];
        assert!(same, "another answer than before: {}", String::from_utf8_lossy(&self.buffer));
    }
}
