//! Calls to the API server as the making of runners needs them: prepared bodies out, as little as possible back, and every
//! refusal as the engine's own word for it, `Retry-After` included.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

use super::call::Trouble;

/// An answer with nothing but metadata: nobody here needs the rest, and it costs both sides time.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

const PLAIN: &str = "application/json";

/// For writes: who writes, for whoever looks at managed fields, and that unknown fields go without a warning. Nobody reads it,
/// and looking for them costs the API server time.
const WRITES: &str = "fieldManager=headstart-controller&fieldValidation=Ignore";

/// The content types of bodies.
pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const PATCH: &str = "application/json-patch+json";

/// The API server.
#[derive(Clone)]
pub(super) struct Kubernetes {
    client: Client,
    deadline: Duration,
}

/// What is known of an object after a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Written {
    pub(super) metadata: Metadata,
}

/// The metadata that calls ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) uid: String,
    pub(super) generation: i64,
}

/// Why the API server says no.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    reason: String,
    message: String,
}

impl Kubernetes {
    /// Calls with `client`, each of which ends within `deadline`.
    pub(super) fn new(client: Client, deadline: Duration) -> Self {
        Self { client, deadline }
    }

    /// The same with calls that end within `limit` at the latest.
    pub(super) fn within(&self, limit: Duration) -> Self {
        Self { client: self.client.clone(), deadline: self.deadline.min(limit) }
    }

    /// Creates an object at the path of its kind.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Written, Trouble> {
        // The API server gives up when we do: what is not done then is not done later.
        let seconds = self.deadline.as_secs().max(1);
        let path = format!("{path}?{WRITES}&timeout={seconds}s");
        self.write("POST", &path, JSON, object).await
    }

    /// Changes an object.
    pub(super) async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Result<Written, Trouble> {
        let path = format!("{path}?{WRITES}");
        self.write("PATCH", &path, kind, patch).await
    }

    /// Deletes an object; one that is not there is deleted.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Trouble> {
        match self.call("DELETE", path, (METADATA, JSON), Vec::new()).await {
            Ok(_) | Err(Trouble::NotFound) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    /// Reads an object, if it is there.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Value>, Trouble> {
        self.read(path, PLAIN).await
    }

    /// Reads its metadata, if it is there.
    pub(super) async fn get_metadata(&self, path: &str) -> Result<Option<Written>, Trouble> {
        self.read(path, METADATA).await
    }

    async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        accept: &str,
    ) -> Result<Option<T>, Trouble> {
        match self.call("GET", path, (accept, JSON), Vec::new()).await {
            Ok(body) => understood(&body).map(Some),
            Err(Trouble::NotFound) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn write(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Written, Trouble> {
        let body = serde_json::to_vec(body).map_err(|error| Trouble::Refused(error.to_string()))?;
        understood(&self.call(method, path, (METADATA, kind), body).await?)
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        (accept, kind): (&str, &str),
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Trouble> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, accept)
            .header(http::header::CONTENT_TYPE, kind)
            .body(Body::from(body))
            .map_err(|error| Trouble::Refused(error.to_string()))?;
        match tokio::time::timeout(self.deadline, self.send(request, kind == PATCH)).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::TimedOut),
        }
    }

    async fn send(&self, request: http::Request<Body>, is_tested: bool) -> Result<Vec<u8>, Trouble> {
        let failed = |why: String| Trouble::Failed { retry_after: None, why };
        let answer = self.client.send(request).await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status().as_u16();
        let retry_after =
            answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let body = answer.into_body().collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
        match status {
            200..300 => Ok(body.to_vec()),
            // A `test` of the patch failed, so something else is stored; unless a policy says no, with the same status.
            422 if is_tested && !String::from_utf8_lossy(&body).contains("ValidatingAdmissionPolicy") => {
                Err(Trouble::Conflict)
            }
            _ => Err(trouble(status, retry_after, &body)),
        }
    }
}

fn understood<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Trouble> {
    serde_json::from_slice(body).map_err(|error| Trouble::Failed {
        retry_after: None,
        why: format!("the API server's answer cannot be understood: {error}"),
    })
}

/// What a refusal means. The message of a quota is the only sign of it that there is.
fn trouble(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Trouble {
    let Refusal { reason, message } = serde_json::from_slice(body).unwrap_or_default();
    let message = if message.is_empty() { String::from_utf8_lossy(body).trim().to_owned() } else { message };
    match status {
        404 => Trouble::NotFound,
        409 if reason == "AlreadyExists" => Trouble::Exists,
        409 => Trouble::Conflict,
        403 if message.contains("exceeded quota") => Trouble::Quota(message),
        429 => Trouble::PushedBack { retry_after },
        503 => Trouble::Unavailable { retry_after },
        504 => Trouble::TimedOut,
        // Somebody's webhook, which may be asked for these objects alone.
        500 if message.contains("failed calling webhook") => Trouble::Obstructed(message),
        401 | 500.. => {
            Trouble::Failed { retry_after, why: format!("the API server answered {status}: {message}") }
        }
        _ => Trouble::Refused(format!("the API server answered {status}: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let status =
            |reason: &str, message: &str| format!("{{\"reason\":\"{reason}\",\"message\":\"{message}\"}}");
        let second = Some(Duration::from_secs(1));
        let quota = "pods \\\"x\\\" is forbidden: exceeded quota: q, requested: pods=1";
        let webhook = "Internal error occurred: failed calling webhook \\\"w\\\": connection refused";
        for (code, text, expected) in [
            (404, String::new(), Trouble::NotFound),
            (409, status("AlreadyExists", "x"), Trouble::Exists),
            (409, status("Conflict", "x"), Trouble::Conflict),
            (403, status("Forbidden", quota), Trouble::Quota(quota.replace('\\', ""))),
            (403, status("Forbidden", "no"), Trouble::Refused("the API server answered 403: no".to_owned())),
            (422, status("Invalid", "bad"), Trouble::Refused("the API server answered 422: bad".to_owned())),
            (429, "Too many requests".to_owned(), Trouble::PushedBack { retry_after: second }),
            (503, String::new(), Trouble::Unavailable { retry_after: second }),
            (500, status("InternalError", webhook), Trouble::Obstructed(webhook.replace('\\', ""))),
            (504, String::new(), Trouble::TimedOut),
        ] {
            assert_eq!(trouble(code, second, text.as_bytes()), expected, "{code}");
        }
        assert!(
            matches!(trouble(500, None, b"etcd"), Trouble::Failed { why, .. } if why.ends_with("500: etcd"))
        );
    }
}
