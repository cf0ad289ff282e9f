//! What a request asks of the service: told from its method and path alone.

/// One operation of the service, or of the GitHub API in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A token for an installation of a GitHub App.
    AccessToken,
    /// A registration token.
    RegistrationToken,
    /// The registration token against the service's URL and an admin token.
    Registration,
    /// A scale set by name.
    FindScaleSet,
    /// A scale set by id.
    GetScaleSet,
    /// A new scale set.
    CreateScaleSet,
    /// A change of a scale set.
    UpdateScaleSet,
    /// The end of a scale set.
    DeleteScaleSet,
    /// A runner group by name.
    FindGroup,
    /// The registration of one runner: its just-in-time configuration.
    GenerateJitConfig,
    /// A runner by id.
    GetRunner,
    /// A runner by name.
    FindRunner,
    /// The end of a registration.
    RemoveRunner,
    /// A message session.
    OpenSession,
    /// A new queue token for a session.
    RefreshSession,
    /// The end of a session.
    CloseSession,
    /// Jobs that a listener takes.
    AcquireJobs,
    /// The long poll.
    GetMessage,
    /// The acknowledgement of a message.
    DeleteMessage,
    /// What nobody should ask.
    Unknown,
}

/// Which operation it is, with the id of the scale set and the last id of the path where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The operation.
    pub endpoint: Endpoint,
    /// Id of the scale set, or of the runner; 0 if there is none.
    pub id: i64,
    /// The last part of paths below a scale set: a session or a message.
    pub tail: &'a str,
}

impl<'a> Target<'a> {
    /// Reads a path; whatever stands in front of `/_apis` is a tenant's own.
    pub fn of(method: &str, path: &'a str) -> Self {
        let plain = |endpoint| Self { endpoint, id: 0, tail: "" };
        match path.split_once("/_apis/") {
            Some((_, rest)) => Self::service(method, rest).unwrap_or(plain(Endpoint::Unknown)),
            None => plain(front(method, path)),
        }
    }

    fn service(method: &str, rest: &'a str) -> Option<Self> {
        let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let with = |endpoint, id: &str, tail| Some(Self { endpoint, id: id.parse().ok()?, tail });
        let plain = |endpoint| Some(Self { endpoint, id: 0, tail: "" });
        match (method, parts.as_slice()) {
            ("GET", ["runtime", "runnergroups"]) => plain(Endpoint::FindGroup),
            ("GET", ["runtime", "runnerscalesets"]) => plain(Endpoint::FindScaleSet),
            ("POST", ["runtime", "runnerscalesets"]) => plain(Endpoint::CreateScaleSet),
            ("GET", ["runtime", "runnerscalesets", id]) => with(Endpoint::GetScaleSet, id, ""),
            ("PATCH", ["runtime", "runnerscalesets", id]) => with(Endpoint::UpdateScaleSet, id, ""),
            ("DELETE", ["runtime", "runnerscalesets", id]) => with(Endpoint::DeleteScaleSet, id, ""),
            ("POST", ["runtime", "runnerscalesets", id, what]) => {
                let endpoint = match *what {
                    "generatejitconfig" => Endpoint::GenerateJitConfig,
                    "acquirejobs" => Endpoint::AcquireJobs,
                    "sessions" => Endpoint::OpenSession,
                    _ => return None,
                };
                with(endpoint, id, "")
            }
            ("PATCH", ["runtime", "runnerscalesets", id, "sessions", session]) => {
                with(Endpoint::RefreshSession, id, session)
            }
            ("DELETE", ["runtime", "runnerscalesets", id, "sessions", session]) => {
                with(Endpoint::CloseSession, id, session)
            }
            ("GET", ["distributedtask", "pools", "0", "agents"]) => plain(Endpoint::FindRunner),
            ("GET", ["distributedtask", "pools", "0", "agents", id]) => with(Endpoint::GetRunner, id, ""),
            ("DELETE", ["distributedtask", "pools", "0", "agents", id]) => {
                with(Endpoint::RemoveRunner, id, "")
            }
            ("GET", ["queue", id]) => with(Endpoint::GetMessage, id, ""),
            ("DELETE", ["queue", id, message]) => with(Endpoint::DeleteMessage, id, message),
            _ => None,
        }
    }
}

/// The GitHub API, in the style of either github.com or an enterprise server.
fn front(method: &str, path: &str) -> Endpoint {
    let path = path.strip_prefix("/api/v3").unwrap_or(path);
    match method {
        "POST" if path.starts_with("/app/installations/") && path.ends_with("/access_tokens") => {
            Endpoint::AccessToken
        }
        "POST" if path.ends_with("/actions/runners/registration-token") => Endpoint::RegistrationToken,
        "POST" if path == "/actions/runner-registration" => Endpoint::Registration,
        _ => Endpoint::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_with_anything_in_front() {
        let of = |method, path| Target::of(method, path);
        let jit = of("POST", "/tenant/1/_apis/runtime/runnerscalesets/7/generatejitconfig");
        assert_eq!((jit.endpoint, jit.id), (Endpoint::GenerateJitConfig, 7));
        let closed = of("DELETE", "/_apis/runtime/runnerscalesets/7/sessions/abc");
        assert_eq!((closed.endpoint, closed.id, closed.tail), (Endpoint::CloseSession, 7, "abc"));
        assert_eq!(of("GET", "/x/_apis/runtime/runnergroups/").endpoint, Endpoint::FindGroup);
        for path in [
            "/api/v3/orgs/o/actions/runners/registration-token",
            "/repos/o/r/actions/runners/registration-token",
        ] {
            assert_eq!(of("POST", path).endpoint, Endpoint::RegistrationToken);
        }
        assert_eq!(of("POST", "/api/v3/actions/runner-registration").endpoint, Endpoint::Registration);
        for (method, path) in [("GET", "/_apis/runtime/runnerscalesets/x"), ("PUT", "/"), ("POST", "/_apis/")]
        {
            assert_eq!(of(method, path).endpoint, Endpoint::Unknown, "{path}");
        }
    }
}
