//! Fetching an archive from its addresses in order: hashed while it is written, and nobody reads it before its digest is
//! the pinned one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use headstart_externals::config::Download;
use headstart_externals::fault::FaultReason;
use reqwest::Client;
use rustix::fs::OFlags;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::args::SourceArgs;
use super::retry::{self, Next, Tries};
use super::sink::Sink;
use super::transfer::{Address, Transfer};
use crate::fault::{Fault, Outcome};
use crate::progress::Progress;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest download from one address; a server that trickles must not hold up other versions for ever.
const WHOLE: Duration = Duration::from_secs(30 * 60);

/// Most redirects; release downloads need one or two.
const REDIRECTS: usize = 5;

/// Bytes per read of a file.
const CHUNK: usize = 256 << 10;

/// How soon a download that waits for its server notices that it is not wanted any more.
const CANCEL_POLL: Duration = Duration::from_millis(200);

/// Fetches archives from blocking code.
#[derive(Clone)]
pub struct Fetcher {
    args: Arc<SourceArgs>,
    runtime: Handle,
}

impl Fetcher {
    /// A fetcher that does its network work on `runtime`; an error if the flags are unusable.
    pub fn new(args: SourceArgs, runtime: Handle) -> anyhow::Result<Self> {
        client(&args)?;
        Ok(Self { args: Arc::new(args), runtime })
    }

    /// Fetches `download` into the new file `to`; it must have the pinned digest and at most `limit` bytes.
    ///
    /// The addresses are tried in order; if none gives it, the fault is that of the first.
    pub(super) fn fetch(
        &self,
        download: &Download,
        to: &Path,
        limit: u64,
        progress: &Progress,
    ) -> Outcome<()> {
        let mut sink = Sink::create(to, limit, progress)?;
        let mirrors = download.mirrors.iter().map(|mirror| (&mirror.url, mirror.auth.as_ref()));
        let mut addresses =
            std::iter::once((&download.url, download.auth.as_ref())).chain(mirrors).peekable();
        let mut failed: Option<Fault> = None;
        while let Some((url, auth)) = addresses.next() {
            let address = Address::new(url, auth)?;
            let Err(fault) = self.from(&address, &download.sha256, &mut sink) else { return Ok(()) };
            if retry::is_ours(fault.reason) {
                return Err(fault);
            }
            if addresses.peek().is_some() {
                let Fault { reason, message, .. } = &fault;
                tracing::warn!(%reason, cause = message, "trying the next mirror");
            }
            failed = Some(match failed {
                None => fault,
                Some(first) => retry::likewise(first, &address.shown(), &fault),
            });
        }
        // There is at least one address, so this is a fault.
        failed.map_or(Ok(()), Err)
    }

    /// Fetches from one address.
    fn from(&self, address: &Address<'_>, sha256: &str, sink: &mut Sink<'_>) -> Outcome<()> {
        sink.restart()?;
        if let Some(path) = address.file() {
            copy_file(&path, address, sink)?;
            return compare(address, sha256, sink);
        }
        self.runtime.block_on(get(&self.args, address, sha256, sink))
    }
}

/// Fetches over HTTP, as long as that is wanted and not for ever.
async fn get(args: &SourceArgs, address: &Address<'_>, sha256: &str, sink: &mut Sink<'_>) -> Outcome<()> {
    let client =
        client(args).map_err(|error| address.fault(FaultReason::SourceUnavailable, &format!("{error:#}")))?;
    let mut transfer = Transfer::new(address, &client, args.credentials.as_deref());
    let progress = sink.progress();
    tokio::select! {
        outcome = timeout(WHOLE, persist(&mut transfer, sha256, sink)) => outcome.unwrap_or_else(|_| {
            let cause = format!("it is not there after {} minutes", WHOLE.as_secs() / 60);
            Err(address.fault(FaultReason::SourceTimeout, &cause))
        }),
        fault = cancelled(progress) => Err(fault),
    }
}

/// A client that trusts whom it should by now. It keeps no connections: the ones of a try that broke are of no use.
fn client(args: &SourceArgs) -> anyhow::Result<Client> {
    let client = Client::builder()
        .user_agent(concat!("headstart-cachesync/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(args.silence())
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
        .tls_certs_merge(args.authorities()?)
        .build();
    client.with_context(|| match &args.ca_bundle {
        Some(path) => format!("failed to set up HTTPS with {} (--ca-bundle)", path.display()),
        None => "failed to set up HTTPS".to_owned(),
    })
}

/// Asks until everything is there and right, or asking is of no use.
async fn persist(transfer: &mut Transfer<'_>, sha256: &str, sink: &mut Sink<'_>) -> Outcome<()> {
    let mut tries = Tries::default();
    loop {
        let next = match transfer.attempt(sink).await {
            Ok(()) => match compare(transfer.address, sha256, sink) {
                Ok(()) => return Ok(()),
                Err(fault) => tries.mismatched(fault, transfer.is_patched()),
            },
            Err(broken) => tries.broken(broken, sink.len()),
        };
        let (wait, cause) = match next {
            Next::Leave(fault) => return Err(fault),
            Next::GoOn(wait, fault) => (wait, fault),
            Next::StartOver(wait, fault) => {
                sink.restart()?;
                (wait, fault)
            }
        };
        let Fault { reason, message, .. } = &cause;
        tracing::info!(%reason, cause = message, bytes = sink.len(), "going on with the download");
        sleep(wait).await;
    }
}

/// Ends when the download is not wanted any more; a server may be silent for long.
async fn cancelled(progress: &Progress) -> Fault {
    loop {
        if let Err(fault) = progress.check() {
            return fault;
        }
        sleep(CANCEL_POLL).await;
    }
}

fn compare(address: &Address<'_>, sha256: &str, sink: &Sink<'_>) -> Outcome<()> {
    let digest = sink.digest();
    if digest == sha256 {
        return Ok(());
    }
    let message = format!("{} has sha256 {digest}, pinned is {sha256}", address.shown());
    Err(Fault::new(FaultReason::DigestMismatch, message))
}

fn copy_file(path: &Path, address: &Address<'_>, sink: &mut Sink<'_>) -> Outcome<()> {
    let failed = |error: io::Error| address.fault(FaultReason::SourceUnavailable, &error.to_string());
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(address.fault(FaultReason::SourceUnavailable, "it is not a file"));
    }
    sink.expect(metadata.len())?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk).map_err(failed)? {
            0 => return Ok(()),
            length => sink.take(&chunk[..length])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// The fault of a server that says nothing, on a clock that jumps to whatever is due next.
    async fn fault_of_silence(is_cancelled: bool) -> Fault {
        headstart_runtime::program::install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/source.tar.gz", listener.local_addr().unwrap());
        let address = Address::new(&url, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let progress = Progress::new(Arc::new(|_| {}));
        let mut sink = Sink::create(&folder.path().join("download"), 1, &progress).unwrap();
        if is_cancelled {
            progress.cancel();
        }
        let args = SourceArgs { source_silence: 3600, ..SourceArgs::default() };
        get(&args, &address, "", &mut sink).await.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn no_download_takes_for_ever() {
        let fault = fault_of_silence(false).await;
        assert_eq!(fault.reason, FaultReason::SourceTimeout);
        assert!(fault.message.contains("30 minutes"), "{fault}");
        assert_eq!(fault_of_silence(true).await.reason, FaultReason::Cancelled);
    }
}
