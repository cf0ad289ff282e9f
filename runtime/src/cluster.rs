//! The way to the Kubernetes API: one client, calls that never hang, and errors in words that people can act on.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use kube::core::Status;
use kube::{Client, Config};

/// Longest time for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest silence of a connection. Longer than the API server keeps a watch (about 290 s), so that it ends only
/// connections that are dead; single calls have a limit of their own, see [`within`].
const SILENCE: Duration = Duration::from_secs(330);

/// Longest silence of a connection of [`connect_to_watch`].
const WATCH_SILENCE: Duration = Duration::from_secs(60);

/// A client for the cluster that KUBECONFIG or the pod's service account names.
///
/// It retries nothing by itself: callers see every answer and know best when to try again.
pub async fn connect() -> anyhow::Result<Client> {
    client(configuration().await?)
}

/// The same, for watches that the API server is asked to end sooner than that: a connection that is silent for longer is
/// dead, and a new one is made.
pub async fn connect_to_watch() -> anyhow::Result<Client> {
    let mut config = configuration().await?;
    config.read_timeout = Some(WATCH_SILENCE);
    client(config)
}

/// The same, but every call is made as `user`, whom the own identity must be allowed to impersonate.
pub async fn connect_as(user: &str) -> anyhow::Result<Client> {
    let mut config = configuration().await?;
    config.auth_info.impersonate = Some(user.to_owned());
    client(config)
}

async fn configuration() -> anyhow::Result<Config> {
    let mut config = Config::infer().await.context(
        "no cluster configuration found; run in a pod with a service account, or set KUBECONFIG to a readable file",
    )?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(config)
}

fn client(config: Config) -> anyhow::Result<Client> {
    let server = config.cluster_url.to_string();
    let user = config.auth_info.impersonate.clone();
    let client = Client::try_from(config).with_context(|| {
        format!("cannot talk to the API server {server}; check certificates and credentials in KUBECONFIG")
    })?;
    tracing::info!(server, user, "using the Kubernetes API");
    Ok(client)
}

/// Why a call to the API server gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time. The call may still take effect.
    #[error("no answer from the API server within {0:?}; check that it is up and can be reached")]
    TimedOut(Duration),
    /// An answer that says no.
    #[error("{}", in_words(.0))]
    Refused(Box<Status>),
    /// No answer that could be read.
    #[error("failed to call the API server: {0}")]
    Failed(String),
}

impl CallError {
    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status.is_not_found())
    }

    /// Whether somebody else was faster: the object has changed since it was read, or is there already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(status) if status.is_conflict() || status.is_already_exists())
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            error => Self::Failed(causes(&error)),
        }
    }
}

/// Waits for a call to the API server, but not longer than `limit`.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(CallError::from),
        Err(_) => Err(CallError::TimedOut(limit)),
    }
}

/// An error with its causes. Some of the client's layers repeat the text of the one below; that is left out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let below = error.to_string();
        if !text.ends_with(&below) {
            text = format!("{text}: {below}");
        }
        cause = error.source();
    }
    text
}

fn in_words(status: &Status) -> String {
    let text = if status.message.is_empty() { &status.reason } else { &status.message };
    let remedy = if status.is_forbidden() { "; grant it with a Role and a RoleBinding" } else { "" };
    format!("the API server answered {}: {text}{remedy}", status.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str, message: &str) -> CallError {
        kube::Error::Api(Status::failure(message, reason).with_code(code).boxed()).into()
    }

    #[test]
    fn refusals_say_what_the_server_said_once_and_what_to_do() {
        let error = refused(403, "Forbidden", "leases is forbidden: User \"x\" cannot get resource");
        assert_eq!(
            error.to_string(),
            "the API server answered 403: leases is forbidden: User \"x\" cannot get resource; \
             grant it with a Role and a RoleBinding"
        );
        assert!(!error.is_not_found() && !error.is_conflict());
    }

    #[test]
    fn causes_are_named_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("connecting failed")]
        struct Layer(#[source] std::io::Error);
        let error = kube::Error::Service(Box::new(Layer(std::io::Error::other("refused"))));
        assert_eq!(
            CallError::from(error).to_string(),
            "failed to call the API server: ServiceError: connecting failed: refused"
        );
    }

    #[test]
    fn whoever_was_slower_sees_a_conflict() {
        assert!(refused(409, "Conflict", "the object has been modified").is_conflict());
        assert!(refused(409, "AlreadyExists", "it exists").is_conflict());
        assert!(refused(404, "NotFound", "not found").is_not_found());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_its_limit() {
        let call = within(Duration::from_secs(2), std::future::pending::<Result<(), kube::Error>>());
        assert!(matches!(call.await, Err(CallError::TimedOut(limit)) if limit == Duration::from_secs(2)));
    }
}
