//! Stands in front of a webhook with the webhook's own certificate, and misbehaves in its place when told to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_runtime::tls::{TlsArgs, TlsSource};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What it does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Accepts it and says nothing, ever.
    Silent,
    /// Shakes hands, takes the request and says nothing, ever.
    SilentAfterHandshake,
    /// The same for requests to this path; answers others as the webhook does.
    SilentTo(&'static str),
    /// Speaks no TLS.
    Babbling,
    /// Answers with what this makes of the webhook's own answer; with nothing, the connection just ends.
    Answering(fn(&str) -> Vec<u8>),
}

/// The stand-in; gone when dropped.
pub struct Front {
    address: String,
    manner: Arc<Mutex<Manner>>,
    held: Arc<Held>,
    task: JoinHandle<()>,
}

/// The webhook behind.
#[derive(Clone)]
struct Behind {
    url: String,
    client: reqwest::Client,
    held: Arc<Held>,
}

/// Requests to which nothing is said.
#[derive(Default)]
struct Held {
    count: AtomicUsize,
    cut: Notify,
}

impl Front {
    /// Stands before the webhook at `url`, and passes on what that says.
    pub async fn start(tls: &TlsArgs, url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let authority = reqwest::Certificate::from_pem(&std::fs::read(&tls.tls_cert).unwrap()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let held = Arc::<Held>::default();
        let behind = Behind { url: url.to_owned(), client, held: held.clone() };
        let (tls, _) = TlsSource::load(tls).unwrap();
        let manner = Arc::new(Mutex::new(Manner::Answering(as_it_is)));
        let told = manner.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (manner, tls) = (*told.lock().unwrap(), TlsAcceptor::from(tls.config()));
                tokio::spawn(behind.clone().serve(stream, tls, manner));
            }
        });
        Self { address, manner, held, task }
    }

    /// Where it stands.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Serves connections in that manner from now on. None is kept from before, since each is used once.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// How many requests were taken so far to which nothing is said.
    pub fn held(&self) -> usize {
        self.held.count.load(Ordering::SeqCst)
    }

    /// The connections of these end, as when a webhook dies over its requests.
    pub fn cut(&self) {
        self.held.cut.notify_waiters();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Behind {
    async fn serve(self, mut stream: TcpStream, tls: TlsAcceptor, manner: Manner) {
        if matches!(manner, Manner::Silent) {
            std::future::pending::<()>().await;
        }
        if matches!(manner, Manner::Babbling) {
            let _ = stream.write_all(&noise("")).await;
            return;
        }
        let Ok(mut stream) = tls.accept(stream).await else { return };
        let Some((path, body)) = request(&mut stream).await else { return };
        let make = match manner {
            Manner::Answering(make) => Some(make),
            Manner::SilentTo(silent) if !path.starts_with(silent) => Some(as_it_is as fn(&str) -> Vec<u8>),
            _ => None,
        };
        match make {
            Some(make) => {
                let answer = self.client.post(format!("{}{path}", self.url)).body(body).send().await;
                let Ok(answer) = answer else { return };
                let _ = stream.write_all(&make(&answer.text().await.unwrap())).await;
                let _ = stream.shutdown().await;
            }
            None => {
                let mut cut = std::pin::pin!(self.held.cut.notified());
                cut.as_mut().enable();
                self.held.count.fetch_add(1, Ordering::SeqCst);
                cut.await;
            }
        }
    }
}

/// Reads one request: its path and its body.
async fn request(stream: &mut TlsStream<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let (first, headers) = head.split_once("\r\n")?;
    let mut lengths = headers.lines().filter_map(|line| line.split_once(": "));
    let (_, length) = lengths.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some((first.split(' ').nth(1)?.to_owned(), body))
}

/// The webhook's own answer.
pub fn as_it_is(answer: &str) -> Vec<u8> {
    http("200 OK", answer.len(), answer)
}

/// An error.
pub fn error(_: &str) -> Vec<u8> {
    http("500 Internal Server Error", 6, "broken")
}

/// What a wrong route leads to.
pub fn page(_: &str) -> Vec<u8> {
    let page = "<html><body>Welcome</body></html>";
    http("200 OK", page.len(), page)
}

/// Bytes that mean nothing; the same ones each time.
pub fn noise(_: &str) -> Vec<u8> {
    (0..600_u32).map(|at| (at.wrapping_mul(at) % 251).to_le_bytes()[0]).collect()
}

/// The answer to another request.
pub fn of_another(answer: &str) -> Vec<u8> {
    let mut review: Value = serde_json::from_str(answer).unwrap();
    review["response"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    as_it_is(&review.to_string())
}

/// Half of the answer, as if that were all: the text ends within the patch.
pub fn half_a_patch(answer: &str) -> Vec<u8> {
    let review: Value = serde_json::from_str(answer).unwrap();
    let patch = review["response"]["patch"].as_str().unwrap();
    let end = answer.find(patch).unwrap() + patch.len() / 2;
    as_it_is(&answer[..end])
}

/// A whole answer with half of a patch in it.
pub fn torn_patch(answer: &str) -> Vec<u8> {
    let mut review: Value = serde_json::from_str(answer).unwrap();
    let patch = BASE64_STANDARD.decode(review["response"]["patch"].as_str().unwrap()).unwrap();
    review["response"]["patch"] = BASE64_STANDARD.encode(&patch[..patch.len() / 2]).into();
    as_it_is(&review.to_string())
}

/// A whole answer whose patch changes something that is not there.
pub fn misplaced_patch(answer: &str) -> Vec<u8> {
    let mut review: Value = serde_json::from_str(answer).unwrap();
    let patch = r#"[{"op": "replace", "path": "/spec/volumes/99", "value": {}}]"#;
    review["response"]["patch"] = BASE64_STANDARD.encode(patch).into();
    as_it_is(&review.to_string())
}

/// The first half of the answer, after which the connection ends although more was announced.
pub fn cut_off(answer: &str) -> Vec<u8> {
    http("200 OK", answer.len(), &answer[..answer.len() / 2])
}

/// Nothing: the webhook died over the request.
pub fn dead(_: &str) -> Vec<u8> {
    Vec::new()
}

fn http(status: &str, length: usize, body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}
