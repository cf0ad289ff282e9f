//! One try to fetch what is missing of an archive over HTTP.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use headstart_externals::config::Auth;
use headstart_externals::fault::FaultReason;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, RANGE};
use reqwest::{Client, RequestBuilder, Response, Url};

use super::credentials;
use super::retry::{self, Asked, Body, Broken, Head};
use super::sink::Sink;
use crate::fault::{Fault, Outcome};

/// How a proxy that wants credentials of its own shows in the errors of the client, for HTTPS.
const PROXY_DENIES: &str = "proxy authorization required";

/// Where an archive is.
pub(super) struct Address<'a> {
    url: Url,
    auth: Option<&'a Auth>,
}

impl<'a> Address<'a> {
    /// A parsed address, and what it asks for.
    pub(super) fn new(url: &str, auth: Option<&'a Auth>) -> Outcome<Self> {
        let url = Url::parse(url)
            .map_err(|error| Fault::new(FaultReason::SourceUnavailable, format!("{url}: {error}")))?;
        Ok(Self { url, auth })
    }

    /// The path, if it is a file on this node.
    pub(super) fn file(&self) -> Option<PathBuf> {
        if self.url.scheme() == "file" { self.url.to_file_path().ok() } else { None }
    }

    /// The address as it may be shown: a query may hold a signature that is a secret.
    pub(super) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.into()
    }

    /// A fault at this address.
    pub(super) fn fault(&self, reason: FaultReason, cause: &str) -> Fault {
        Fault::new(reason, format!("failed to fetch {}: {cause}", self.shown()))
    }

    /// What an error of the client means; if nothing special, it is of the reason `otherwise`.
    fn error(&self, error: reqwest::Error, otherwise: FaultReason) -> Fault {
        let reason = match &error {
            error if error.is_timeout() => FaultReason::SourceTimeout,
            error if error.is_redirect() => FaultReason::SourceRedirects,
            error if is_denied_by_proxy(error) => FaultReason::SourceDenied,
            _ => otherwise,
        };
        self.fault(reason, &format!("{:#}", anyhow::Error::new(error.without_url())))
    }
}

fn is_denied_by_proxy(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.to_string().contains(PROXY_DENIES) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An address under way.
pub(super) struct Transfer<'a> {
    pub(super) address: &'a Address<'a>,
    client: &'a Client,
    credentials: Option<&'a Path>,
    /// The `ETag` of the answer that the first byte came with.
    etag: Option<String>,
    /// Answers that what is there was put together from.
    answers: u32,
}

impl<'a> Transfer<'a> {
    /// Nothing is there yet; `credentials` is the folder of all Secrets.
    pub(super) fn new(address: &'a Address<'a>, client: &'a Client, credentials: Option<&'a Path>) -> Self {
        Self { address, client, credentials, etag: None, answers: 0 }
    }

    /// Whether what is there came in several answers.
    pub(super) fn is_patched(&self) -> bool {
        self.answers > 1
    }

    /// Asks for what is missing, once.
    pub(super) async fn attempt(&mut self, sink: &mut Sink<'_>) -> Result<(), Broken> {
        let asked = Asked { from: sink.len(), etag: self.etag.as_deref() };
        let request = self.request(asked).map_err(Broken::Failed)?;
        let mut response = request.send().await.map_err(|error| self.unreached(error))?;
        let head = head(&response);
        let total = match retry::body(asked, &head) {
            Body::Whole { total } => {
                if asked.from > 0 {
                    sink.restart().map_err(Broken::Failed)?;
                }
                (self.etag, self.answers) = (head.etag, 0);
                total
            }
            Body::Rest { total } => total,
            Body::Other(cause) => {
                return Err(Broken::NoRest(self.address.fault(FaultReason::SourceTruncated, cause)));
            }
            Body::None(reason) => {
                let cause = format!("the server answers {}", response.status());
                let fault = self.address.fault(reason, &cause);
                let is_passing = retry::is_passing(head.status);
                return Err(if is_passing { Broken::Away(fault) } else { Broken::Failed(fault) });
            }
        };
        self.answers += 1;
        total.map_or(Ok(()), |total| sink.expect(total)).map_err(Broken::Failed)?;
        self.receive(&mut response, total, sink).await
    }

    fn request(&self, asked: Asked<'_>) -> Outcome<RequestBuilder> {
        // The digest is that of the archive itself, not of some encoding of it.
        let mut request = self.client.get(self.address.url.clone()).header(ACCEPT_ENCODING, "identity");
        if asked.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", asked.from));
            if let Some(tag) = retry::if_range(&asked) {
                request = request.header(IF_RANGE, tag);
            }
        }
        let Some(auth) = self.address.auth else { return Ok(request) };
        if self.address.url.scheme() != "https" {
            let message = format!("credentials are sent over https only, not to {}", self.address.shown());
            return Err(Fault::new(FaultReason::CredentialsUnusable, message));
        }
        credentials::authorise(request, auth, self.credentials)
    }

    /// How a try ended that got no answer.
    fn unreached(&self, error: reqwest::Error) -> Broken {
        let fault = self.address.error(error, FaultReason::SourceUnavailable);
        match fault.reason {
            FaultReason::SourceUnavailable | FaultReason::SourceTimeout => Broken::Away(fault),
            _ => Broken::Failed(fault),
        }
    }

    async fn receive(
        &self,
        response: &mut Response,
        total: Option<u64>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Broken> {
        let broke = |error| Broken::Midway(self.address.error(error, FaultReason::SourceTruncated));
        while let Some(chunk) = response.chunk().await.map_err(broke)? {
            sink.take(&chunk).map_err(Broken::Failed)?;
        }
        match total {
            Some(total) if sink.len() < total => {
                let cause = format!("it ended after {} of {total} bytes", sink.len());
                Err(Broken::Midway(self.address.fault(FaultReason::SourceTruncated, &cause)))
            }
            _ => Ok(()),
        }
    }
}

fn head(response: &Response) -> Head {
    let text = |name: HeaderName| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    Head {
        status: response.status().as_u16(),
        length: response.content_length(),
        range: text(CONTENT_RANGE),
        etag: text(ETAG),
    }
}
