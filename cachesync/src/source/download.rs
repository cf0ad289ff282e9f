//! Fetching an archive: hashed while it is written, and nobody reads it before its digest is the pinned one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headstart_externals::config::Download;
use headstart_externals::fault::FaultReason;
use headstart_externals::version::hex;
use reqwest::{Client, Url};
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::fault::{Fault, IoContext, Outcome};
use crate::progress::Progress;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(30);

/// Longest download in all; a server that trickles must not hold up other versions for ever.
const WHOLE: Duration = Duration::from_secs(30 * 60);

/// Most redirects; release downloads need one or two.
const REDIRECTS: usize = 5;

/// Fetches archives from blocking code.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    runtime: Handle,
}

impl Fetcher {
    /// A fetcher that does its network work on `runtime`.
    pub fn new(runtime: Handle) -> anyhow::Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("headstart-cachesync/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .timeout(WHOLE)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .build()?;
        Ok(Self { client, runtime })
    }

    /// Fetches `download` into the new file `to`; it must have the pinned digest and at most `limit` bytes.
    pub(super) fn fetch(
        &self,
        download: &Download,
        to: &Path,
        limit: u64,
        progress: &Progress,
    ) -> Outcome<()> {
        let file = File::create_new(to).doing("create", to)?;
        let mut sink =
            Sink { file, path: to.to_owned(), hasher: Sha256::new(), left: limit, limit, progress };
        let url =
            Url::parse(&download.url).map_err(|error| unavailable(&download.url, &error.to_string()))?;
        match url.to_file_path() {
            Ok(path) if url.scheme() == "file" => copy_file(&path, &mut sink)?,
            _ => self.runtime.block_on(self.get(url, &mut sink))?,
        }
        let digest = hex(&sink.hasher.finalize());
        if digest != download.sha256 {
            let name = Url::parse(&download.url).map_or_else(|_| String::new(), |url| shown(&url));
            let message = format!("{name} has sha256 {digest}, pinned is {}", download.sha256);
            return Err(Fault::new(FaultReason::DigestMismatch, message));
        }
        Ok(())
    }

    async fn get(&self, url: Url, sink: &mut Sink<'_>) -> Outcome<()> {
        let name = shown(&url);
        let failed = |error: reqwest::Error| {
            unavailable(&name, &format!("{:#}", anyhow::Error::new(error.without_url())))
        };
        let response = self.client.get(url.clone()).send().await.map_err(failed)?;
        let mut response = response.error_for_status().map_err(failed)?;
        if let Some(length) = response.content_length() {
            sink.expect(length)?;
        }
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            sink.take(&chunk)?;
        }
        Ok(())
    }
}

fn copy_file(path: &Path, sink: &mut Sink<'_>) -> Outcome<()> {
    let failed = |error: io::Error| unavailable(&path.display().to_string(), &error.to_string());
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unavailable(&path.display().to_string(), "it is not a file"));
    }
    sink.expect(metadata.len())?;
    let mut chunk = vec![0; 256 << 10];
    loop {
        match file.read(&mut chunk).map_err(failed)? {
            0 => return Ok(()),
            length => sink.take(&chunk[..length])?,
        }
    }
}

/// An address as it may be shown: a query may hold a signature that is a secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}

fn unavailable(url: &str, cause: &str) -> Fault {
    Fault::new(FaultReason::SourceUnavailable, format!("failed to fetch {url}: {cause}"))
}

/// The file that is being written.
struct Sink<'a> {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    left: u64,
    limit: u64,
    progress: &'a Progress,
}

impl Sink<'_> {
    /// The source says how long it is.
    fn expect(&self, length: u64) -> Outcome<()> {
        self.progress.expect_bytes(length);
        if length > self.limit { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Fault {
        let message = format!("the archive is longer than {} bytes (limits.archiveBytes)", self.limit);
        Fault::new(FaultReason::TooLarge, message)
    }

    fn take(&mut self, chunk: &[u8]) -> Outcome<()> {
        let length = chunk.len() as u64;
        self.progress.check()?;
        self.left = self.left.checked_sub(length).ok_or_else(|| self.too_large())?;
        self.hasher.update(chunk);
        self.progress.add_bytes(length);
        self.file.write_all(chunk).doing("write", &self.path)
    }
}
