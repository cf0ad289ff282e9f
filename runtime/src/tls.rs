//! TLS from certificate files: read at start, reloaded when their content changes, the last good pair kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::poll;
use crate::shutdown::Shutdown;

/// How often the files are compared; a mounted Secret changes at most every minute.
const POLL: Duration = Duration::from_secs(5);

/// Where the certificate chain and its key lie, both PEM.
#[derive(Clone, Debug, clap::Args)]
pub struct TlsArgs {
    /// Certificate chain, PEM; reloaded when it changes
    #[arg(long, env = "HEADSTART_TLS_CERT", value_name = "FILE")]
    pub tls_cert: PathBuf,

    /// Private key of the certificate, PEM
    #[arg(long, env = "HEADSTART_TLS_KEY", value_name = "FILE")]
    pub tls_key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {0}; check the path and its permissions")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file is not what it must be.
    #[error("{0} is not PEM with a {1}")]
    Pem(PathBuf, &'static str, #[source] rustls_pki_types::pem::Error),
    /// The certificate file holds none.
    #[error("{0} holds no PEM certificate")]
    NoCertificate(PathBuf),
    /// The chain and the key cannot be used together.
    #[error("the certificate in {0} and the key in {1} do not fit")]
    Pair(PathBuf, PathBuf, #[source] rustls::Error),
}

/// The content of both files, to tell whether they changed.
#[derive(PartialEq, Eq)]
struct Pair {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// A server's TLS set-up that follows its files.
#[derive(Clone)]
pub struct TlsSource {
    current: Arc<ArcSwap<ServerConfig>>,
}

impl TlsSource {
    /// The set-up that serves new connections from now on.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads both files, and gives a task that reloads them until the shutdown.
    pub fn load(args: &TlsArgs) -> Result<(Self, TlsReloader), TlsError> {
        let pair = Pair::read(args)?;
        let current = Arc::new(ArcSwap::new(pair.server_config(args)?));
        Ok((Self { current: current.clone() }, TlsReloader { args: args.clone(), seen: pair, current }))
    }
}

/// Follows the certificate files.
pub struct TlsReloader {
    args: TlsArgs,
    seen: Pair,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl TlsReloader {
    /// Compares the files every few seconds until the shutdown begins.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        poll::every(POLL, shutdown, || self.check()).await
    }

    /// Takes the files over if they changed and are sound; says so if they are not.
    fn check(&mut self) {
        let taken = Pair::read(&self.args).and_then(|pair| {
            if pair != self.seen {
                self.current.store(pair.server_config(&self.args)?);
                self.seen = pair;
                tracing::info!(certificate = %self.args.tls_cert.display(), "certificate reloaded");
            }
            Ok(())
        });
        if let Err(error) = taken {
            tracing::warn!(error = %format!("{:#}", anyhow::Error::new(error)), "keeping the last good certificate");
        }
    }
}

impl Pair {
    fn read(args: &TlsArgs) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error));
        Ok(Self { chain: read(&args.tls_cert)?, key: read(&args.tls_key)? })
    }

    fn server_config(&self, args: &TlsArgs) -> Result<Arc<ServerConfig>, TlsError> {
        let TlsArgs { tls_cert, tls_key } = args;
        let chain = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::Pem(tls_cert.clone(), "certificate", error))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(tls_cert.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| TlsError::Pem(tls_key.clone(), "private key", error))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Pair(tls_cert.clone(), tls_key.clone(), error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(args: &TlsArgs, name: &str) -> Vec<u8> {
        let issued = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&args.tls_cert, issued.cert.pem()).unwrap();
        std::fs::write(&args.tls_key, issued.signing_key.serialize_pem()).unwrap();
        issued.cert.pem().into_bytes()
    }

    #[test]
    fn files_are_followed_and_the_last_good_pair_is_kept() {
        crate::program::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let args = TlsArgs { tls_cert: dir.path().join("tls.crt"), tls_key: dir.path().join("tls.key") };
        write_pair(&args, "first.example");
        let (source, mut reloader) = TlsSource::load(&args).unwrap();
        let first = source.config();

        reloader.check();
        assert!(Arc::ptr_eq(&first, &source.config()), "unchanged files change nothing");

        let second = write_pair(&args, "second.example");
        reloader.check();
        let taken = source.config();
        assert!(!Arc::ptr_eq(&first, &taken), "changed files are taken over");
        assert!(reloader.seen.chain == second);

        std::fs::write(&args.tls_cert, "half a file").unwrap();
        reloader.check();
        assert!(Arc::ptr_eq(&taken, &source.config()), "a broken file changes nothing");
        std::fs::remove_file(&args.tls_key).unwrap();
        reloader.check();
        assert!(Arc::ptr_eq(&taken, &source.config()), "a missing file changes nothing");
    }

    #[test]
    fn errors_name_the_file() {
        crate::program::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let args = TlsArgs { tls_cert: dir.path().join("tls.crt"), tls_key: dir.path().join("tls.key") };
        let error = TlsSource::load(&args).err().unwrap();
        assert!(error.to_string().contains("tls.crt"), "{error}");
        write_pair(&args, "a.example");
        std::fs::write(&args.tls_key, "no key").unwrap();
        let error = TlsSource::load(&args).err().unwrap();
        assert!(error.to_string().contains("tls.key"), "{error}");
    }
}
