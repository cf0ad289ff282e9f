//! TLS from certificate files: read at start, reloaded when their content changes, the last good pair kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::metrics::CertificateMetrics;
use crate::poll;
use crate::shutdown::Shutdown;
use crate::trouble::Trouble;

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
        let Usable { config, expiry } = pair.usable(args)?;
        let current = Arc::new(ArcSwap::new(config));
        let reloader = TlsReloader {
            args: args.clone(),
            seen: pair,
            expiry,
            current: current.clone(),
            metrics: None,
            trouble: Trouble::default(),
        };
        Ok((Self { current }, reloader))
    }
}

/// Follows the certificate files.
pub struct TlsReloader {
    args: TlsArgs,
    seen: Pair,
    expiry: i64,
    current: Arc<ArcSwap<ServerConfig>>,
    metrics: Option<CertificateMetrics>,
    trouble: Trouble,
}

impl TlsReloader {
    /// Shows when the certificate expires, and how reloads go.
    pub fn observed(mut self, metrics: CertificateMetrics) -> Self {
        metrics.uses(self.expiry);
        self.metrics = Some(metrics);
        self
    }

    /// Compares the files every few seconds until the shutdown begins.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        poll::every(POLL, shutdown, || self.check()).await
    }

    /// Takes the files over if they changed and are sound; says so if they are not.
    fn check(&mut self) {
        match self.reload() {
            Ok(changed) => self.is_good(changed),
            Err(error) => self.is_bad(&format!("{:#}", anyhow::Error::new(error))),
        }
    }

    fn is_good(&mut self, changed: bool) {
        let was_broken = self.trouble.is_over();
        let certificate = self.args.tls_cert.display();
        if changed {
            tracing::info!(%certificate, expires = self.expiry, "certificate reloaded");
        } else if was_broken {
            tracing::info!(%certificate, "the certificate files are good again");
        }
        if let Some(metrics) = self.metrics.as_ref().filter(|_| changed) {
            metrics.reloaded(self.expiry);
        }
    }

    fn is_bad(&mut self, error: &str) {
        if self.trouble.is_news(&error) {
            tracing::warn!(error, "keeping the last good certificate");
        }
        if let Some(metrics) = &self.metrics {
            metrics.failed();
        }
    }

    /// Whether the files had changed.
    fn reload(&mut self) -> Result<bool, TlsError> {
        let pair = Pair::read(&self.args)?;
        if pair == self.seen {
            return Ok(false);
        }
        let Usable { config, expiry } = pair.usable(&self.args)?;
        self.current.store(config);
        (self.seen, self.expiry) = (pair, expiry);
        Ok(true)
    }
}

/// What a good pair of files gives.
struct Usable {
    config: Arc<ServerConfig>,
    /// Seconds since 1970; 0 if the certificate does not say it in a way that can be read.
    expiry: i64,
}

impl Pair {
    fn read(args: &TlsArgs) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error));
        Ok(Self { chain: read(&args.tls_cert)?, key: read(&args.tls_key)? })
    }

    fn usable(&self, args: &TlsArgs) -> Result<Usable, TlsError> {
        let TlsArgs { tls_cert, tls_key } = args;
        let chain = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::Pem(tls_cert.clone(), "certificate", error))?;
        let leaf = chain.first().ok_or_else(|| TlsError::NoCertificate(tls_cert.clone()))?;
        let expiry = expiry(leaf);
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| TlsError::Pem(tls_key.clone(), "private key", error))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Pair(tls_cert.clone(), tls_key.clone(), error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Usable { config: Arc::new(config), expiry })
    }
}

fn expiry(leaf: &CertificateDer<'_>) -> i64 {
    x509_parser::parse_x509_certificate(leaf).map_or(0, |(_, leaf)| leaf.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(args: &TlsArgs, name: &str) -> Vec<u8> {
        write_pair_until(args, name, 2040)
    }

    /// A pair that is good until the year begins.
    fn write_pair_until(args: &TlsArgs, name: &str, year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(&args.tls_cert, certificate.pem()).unwrap();
        std::fs::write(&args.tls_key, key.serialize_pem()).unwrap();
        certificate.pem().into_bytes()
    }

    /// The value of a metric's line as it is served.
    fn metric(registry: &prometheus::Registry, name: &str) -> i64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.trim().parse().unwrap()
    }

    #[test]
    fn operators_see_when_the_certificate_expires_and_how_reloads_went() {
        crate::program::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let args = TlsArgs { tls_cert: dir.path().join("tls.crt"), tls_key: dir.path().join("tls.key") };
        write_pair_until(&args, "first.example", 2031);
        let registry = prometheus::Registry::new();
        let (_, reloader) = TlsSource::load(&args).unwrap();
        let mut reloader = reloader.observed(CertificateMetrics::new(&registry).unwrap());
        let seen = || {
            [
                "expiry_timestamp_seconds ",
                "reloads_total{result=\"success\"} ",
                "reloads_total{result=\"failure\"} ",
            ]
            .map(|end| metric(&registry, &format!("headstart_tls_certificate_{end}")))
        };
        assert_eq!(seen(), [1_924_992_000, 0, 0]);
        write_pair_until(&args, "second.example", 2032);
        reloader.check();
        assert_eq!(seen(), [1_956_528_000, 1, 0]);
        std::fs::write(&args.tls_key, "half a file").unwrap();
        reloader.check();
        reloader.check();
        assert_eq!(seen(), [1_956_528_000, 1, 2]);
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
