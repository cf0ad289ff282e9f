//! Servers of archives that break every promise of HTTP, and proxies on the way to them; what they were asked is kept.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use headstart_runtime::tls::{TlsArgs, TlsSource};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /path`, or `CONNECT host:port`.
    pub line: String,
    headers: BTreeMap<String, String>,
}

/// What a server answers; every part of it can be a lie.
#[derive(Clone)]
pub struct Answer {
    status: String,
    headers: Vec<String>,
    length: Option<usize>,
    body: Vec<u8>,
    silent: bool,
}

/// A server that ends when dropped.
pub struct Origin {
    /// `http://…` or `https://…`, without a trailing slash.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

/// Decides over the answer; the number counts requests from 0.
type Answers = dyn Fn(usize, &Asked) -> Answer + Send + Sync;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Asked {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that is asked for.
    pub fn from(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap())
    }

    async fn read(stream: &mut dyn Stream) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().rsplit_once(' ').unwrap().0.to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Ok(Self { line, headers })
    }
}

impl Answer {
    /// An answer with a status line such as `404 Not Found`, and nothing else.
    pub fn status(status: &str) -> Self {
        let (status, headers) = (status.to_owned(), vec!["Connection: close".to_owned()]);
        Self { status, headers, length: Some(0), body: Vec::new(), silent: false }
    }

    /// All of it.
    pub fn whole(content: &[u8]) -> Self {
        Self { length: Some(content.len()), body: content.to_owned(), ..Self::status("200 OK") }
    }

    /// What is asked for of it, as a server that knows ranges answers.
    pub fn part(content: &[u8], asked: &Asked) -> Self {
        let (from, total) = (asked.from(), content.len());
        match asked.header("range") {
            None => Self::whole(content),
            Some(_) if from >= total => Self::status("416 Range Not Satisfiable"),
            Some(_) => Self::range(content, from),
        }
    }

    /// Everything from a byte on, whatever was asked for.
    pub fn range(content: &[u8], from: usize) -> Self {
        let range = format!("Content-Range: bytes {from}-{}/{}", content.len() - 1, content.len());
        Self { status: "206 Partial Content".to_owned(), ..Self::whole(&content[from..]) }.with(&range)
    }

    /// A redirect.
    pub fn to(location: &str) -> Self {
        Self::status("302 Found").with(&format!("Location: {location}"))
    }

    /// Nothing at all, for ever.
    pub fn nothing() -> Self {
        Self { status: String::new(), silent: true, ..Self::status("") }
    }

    /// With one more header line.
    pub fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    /// With another length than it has; `None` says none, so that the end of the connection is the end.
    pub fn announcing(self, length: Option<usize>) -> Self {
        Self { length, ..self }
    }

    /// Only so many bytes come, then the connection ends.
    pub fn cut(mut self, length: usize) -> Self {
        self.body.truncate(length);
        self
    }

    /// After the last byte the connection stays open, and nothing more comes.
    pub fn then_silent(self) -> Self {
        Self { silent: true, ..self }
    }

    async fn write(self, stream: &mut dyn Stream) -> io::Result<()> {
        if !self.status.is_empty() {
            let length = self.length.map(|length| format!("Content-Length: {length}"));
            let lines: Vec<String> = self.headers.into_iter().chain(length).collect();
            let head = format!("HTTP/1.1 {}\r\n{}\r\n\r\n", self.status, lines.join("\r\n"));
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&self.body).await?;
            stream.flush().await?;
        }
        if self.silent {
            std::future::pending::<()>().await;
        }
        stream.shutdown().await
    }
}

impl Origin {
    /// Answers each request on a connection of its own; over HTTPS where certificate files are given.
    pub async fn serve(
        tls: Option<&TlsArgs>,
        answers: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        headstart_runtime::program::install_crypto();
        let acceptor = tls.map(|args| TlsAcceptor::from(TlsSource::load(args).unwrap().0.config()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let answers: Arc<Answers> = Arc::new(answers);
        Self::listen(scheme, move |stream, asked| {
            let (acceptor, answers) = (acceptor.clone(), answers.clone());
            async move {
                let mut stream: Box<dyn Stream> = match acceptor {
                    None => Box::new(stream),
                    Some(acceptor) => Box::new(acceptor.accept(stream).await?),
                };
                let request = Asked::read(&mut *stream).await?;
                let number = keep(&asked, &request);
                answers(number, &request).write(&mut *stream).await
            }
        })
        .await
    }

    /// The same over HTTP at another address of this machine than loopback, such as one that pods reach.
    pub async fn serve_at(
        host: &str,
        answers: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let answers: Arc<Answers> = Arc::new(answers);
        Self::listen_at(host, "http", move |mut stream, asked| {
            let answers = answers.clone();
            async move {
                let request = Asked::read(&mut stream).await?;
                let number = keep(&asked, &request);
                answers(number, &request).write(&mut stream).await
            }
        })
        .await
    }

    /// A proxy through which every name leads to `to`, a host with its port; or one that lets nobody through.
    pub async fn proxy(to: Option<String>) -> Self {
        Self::listen("http", move |mut stream, asked| {
            let to = to.clone();
            async move {
                let request = Asked::read(&mut stream).await?;
                keep(&asked, &request);
                let Some(to) = to else {
                    return Answer::status("407 Proxy Authentication Required").write(&mut stream).await;
                };
                let mut origin = TcpStream::connect(to).await?;
                if request.line.starts_with("CONNECT ") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                } else {
                    let path = request.line.splitn(4, '/').last().unwrap();
                    origin.write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await?;
                }
                copy_bidirectional(&mut stream, &mut origin).await.map(drop)
            }
        })
        .await
    }

    async fn listen<F: Future<Output = io::Result<()>> + Send + 'static>(
        scheme: &str,
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<Asked>>>) -> F + Send + 'static,
    ) -> Self {
        Self::listen_at("127.0.0.1", scheme, serve).await
    }

    async fn listen_at<F: Future<Output = io::Result<()>> + Send + 'static>(
        host: &str,
        scheme: &str,
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<Asked>>>) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away is none of the server's business.
                connections.spawn(serve(stream, kept.clone()));
            }
        });
        Self { url, asked, task }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.url.split_once("://").unwrap().1.to_owned()
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The first lines of all requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps a request; how many came before it.
fn keep(asked: &Mutex<Vec<Asked>>, request: &Asked) -> usize {
    let mut asked = asked.lock().unwrap();
    asked.push(request.clone());
    asked.len() - 1
}
