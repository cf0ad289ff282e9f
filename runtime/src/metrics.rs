//! What operators see of a server's connections and of its certificate.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::server::{ConnectionEvent, Observer};

/// Counts what happens to the connections of the one HTTPS server of a program.
pub struct ConnectionMetrics {
    open: IntGauge,
    accepted: IntCounter,
    refused: IntCounter,
    unused: IntCounter,
    handshake_failed: IntCounter,
    handshake_timed_out: IntCounter,
}

impl ConnectionMetrics {
    /// Registers all of them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let handshakes = IntCounterVec::new(
            Opts::new("headstart_tls_handshake_failures_total", "TLS handshakes without a result, by cause"),
            &["cause"],
        )?;
        registry.register(Box::new(handshakes.clone()))?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let open = IntGauge::new("headstart_https_connections", "Connections that are open")?;
        registry.register(Box::new(open.clone()))?;
        Ok(Self {
            open,
            accepted: counter("headstart_https_connections_accepted_total", "Connections that got a slot")?,
            refused: counter(
                "headstart_https_connections_refused_total",
                "Connections that were closed at once because all slots were taken",
            )?,
            unused: counter(
                "headstart_https_connections_unused_total",
                "Connections that were closed because they asked for nothing while slots were scarce",
            )?,
            handshake_failed: handshakes.with_label_values(&["failed"]),
            handshake_timed_out: handshakes.with_label_values(&["timed-out"]),
        })
    }

    /// The observer to give to the server.
    pub fn observer(self) -> Observer {
        Arc::new(move |event| self.count(event))
    }

    fn count(&self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Accepted => {
                self.accepted.inc();
                self.open.inc();
            }
            ConnectionEvent::Ended => self.open.dec(),
            ConnectionEvent::Refused => self.refused.inc(),
            ConnectionEvent::Unused => self.unused.inc(),
            ConnectionEvent::HandshakeFailed => self.handshake_failed.inc(),
            ConnectionEvent::HandshakeTimedOut => self.handshake_timed_out.inc(),
        }
    }
}

/// How long the certificate in use is good for, and how reloads of its files go.
pub struct CertificateMetrics {
    expiry: IntGauge,
    reloaded: IntCounter,
    failed: IntCounter,
}

impl CertificateMetrics {
    /// Registers all of them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let expiry = IntGauge::new(
            "headstart_tls_certificate_expiry_timestamp_seconds",
            "When the certificate in use expires, in seconds since 1970; 0 if that cannot be read",
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "headstart_tls_certificate_reloads_total",
                "Certificate files taken over after a change, and tries that kept the last good ones",
            ),
            &["result"],
        )?;
        registry.register(Box::new(expiry.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        let (reloaded, failed) =
            (reloads.with_label_values(&["success"]), reloads.with_label_values(&["failure"]));
        Ok(Self { expiry, reloaded, failed })
    }

    /// A certificate that expires then is in use.
    pub(crate) fn uses(&self, expiry: i64) {
        self.expiry.set(expiry);
    }

    /// Changed files were taken over.
    pub(crate) fn reloaded(&self, expiry: i64) {
        self.reloaded.inc();
        self.uses(expiry);
    }

    /// The files could not be used.
    pub(crate) fn failed(&self) {
        self.failed.inc();
    }
}
