//! What an answer of GitHub means, so that every odd answer is a line of a table.

use std::time::{Duration, UNIX_EPOCH};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Refusal, ServiceError};

/// More of a message is not shown.
const MESSAGE: usize = 300;

/// Put before JSON by some of GitHub's servers.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A token for an installation of a GitHub App.
    InstallationToken,
    /// A token for registering runners.
    RegistrationToken,
    /// The address of the Actions service, and a token for it.
    RunnerRegistration,
    /// A runner.
    Register,
    /// The runner of a name.
    Find,
    /// That a runner goes.
    Remove,
}

impl Call {
    /// In words, after "refused".
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::InstallationToken => "a token for the GitHub App",
            Self::RegistrationToken => "a token for registering runners",
            Self::RunnerRegistration => "access to the Actions service",
            Self::Register => "to register a runner",
            Self::Find => "to look a runner up",
            Self::Remove => "to remove a runner",
        }
    }

    const fn advice(self, status: u16) -> &'static str {
        match (self, status) {
            (Self::InstallationToken, _) => {
                "check that the App is still installed and that github_app_installation_id is right"
            }
            (Self::RegistrationToken | Self::RunnerRegistration, _) => {
                "check githubConfigUrl, and that the credentials may manage its self-hosted runners"
            }
            (Self::Register, 404) => "check that the scale set still exists",
            _ => "the message and the ids are what GitHub's support asks for",
        }
    }
}

/// An answer.
#[derive(Clone, Default)]
pub(super) struct Received {
    /// Status code.
    pub(super) status: u16,
    /// Whether its type is `text/plain`.
    pub(super) is_text: bool,
    /// `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// `x-ratelimit-remaining` and `x-ratelimit-reset` of the REST API.
    pub(super) rate_limit: (Option<String>, Option<String>),
    /// `ActivityId`.
    pub(super) activity_id: Option<String>,
    /// `X-GitHub-Request-Id`.
    pub(super) request_id: Option<String>,
    /// The body.
    pub(super) body: Vec<u8>,
}

/// The body of a refusal, as far as it is understood.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Explained {
    type_name: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
}

impl Received {
    /// Whether the answer says yes.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads a body that says yes. Nothing of it gets into the error: it may hold a token.
    pub(super) fn parse<T: DeserializeOwned>(&self, call: Call) -> Result<T, ServiceError> {
        serde_json::from_slice(self.json()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let kind = match error.classify() {
                serde_json::error::Category::Data => "JSON, but not of the kind that is expected",
                _ => "no JSON",
            };
            let what = call.what();
            ServiceError::Answer(format!("asked {what}, it is {kind} (line {line}, column {column})"))
        })
    }

    /// Whether it is an error of the service that this word is in the name of.
    pub(super) fn is_error(&self, word: &str) -> bool {
        self.explained().type_name.is_some_and(|name| name.contains(word))
    }

    /// The error that an answer is which does not say yes. `secret` is where the credentials are, and `now` counts from
    /// 1970.
    pub(super) fn refusal(&self, call: Call, secret: &str, now: Duration) -> ServiceError {
        let Explained { type_name, message } = self.explained();
        let is = |word| type_name.as_deref().is_some_and(|name| name.contains(word));
        if is("AgentExistsException") {
            return ServiceError::RunnerExists;
        }
        if is("JobStillRunningException") {
            return ServiceError::JobStillRunning;
        }
        let retry_after = self.wait(now);
        match self.status {
            429 => return ServiceError::Throttled { retry_after },
            403 if self.is_limited() => return ServiceError::Throttled { retry_after },
            // A token for registering runners is not known everywhere in the moment in which it is given.
            401 | 403 if call == Call::RunnerRegistration => {
                return ServiceError::Unavailable { status: self.status, retry_after };
            }
            401 => return ServiceError::Unauthorized(secret.to_owned()),
            status @ (408 | 500..) => return ServiceError::Unavailable { status, retry_after },
            _ => {}
        }
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(self.json()).into_owned());
        ServiceError::Refused(Box::new(Refusal {
            what: call.what(),
            status: self.status,
            type_name: type_name.as_deref().map(shown),
            message: shown(&message),
            activity_id: self.activity_id.as_deref().map(shown),
            request_id: self.request_id.as_deref().map(shown),
            advice: call.advice(self.status),
        }))
    }

    fn json(&self) -> &[u8] {
        self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.body)
    }

    fn explained(&self) -> Explained {
        if self.is_text || self.is_success() {
            return Explained::default();
        }
        serde_json::from_slice(self.json()).unwrap_or_default()
    }

    /// The REST API throttles with 403 as well, and says so in headers.
    fn is_limited(&self) -> bool {
        self.retry_after.is_some() || self.rate_limit.0.as_deref() == Some("0")
    }

    fn wait(&self, now: Duration) -> Option<Duration> {
        let said = self.retry_after.as_deref().and_then(|text| wait(text, now));
        let reset = || {
            let (Some("0"), Some(reset)) = (self.rate_limit.0.as_deref(), &self.rate_limit.1) else {
                return None;
            };
            Some(Duration::from_secs(reset.trim().parse().ok()?).saturating_sub(now))
        };
        said.or_else(reset)
    }
}

/// Reads `Retry-After`: seconds, or a date.
fn wait(text: &str, now: Duration) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(now))
}

/// When a token ends, counted from 1970, by its own words: whoever it is for verifies it. `None` if it does not say.
pub(super) fn expiry(token: &SecretString) -> Option<Duration> {
    let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token.expose_secret()).ok()?;
    Duration::try_from_secs_f64(claims.exp?).ok()
}

/// On one line, and not for ever.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE).collect();
    let line = line.trim();
    if line.is_empty() { "no reason given".to_owned() } else { line.to_owned() }
}

/// A list as the service gives it.
#[derive(Deserialize)]
pub(super) struct List<T> {
    /// Its items.
    pub(super) value: Option<Vec<T>>,
}

/// A runner as the service gives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Runner {
    /// Its number.
    pub(super) id: i64,
    /// Its name.
    pub(super) name: String,
    /// The scale set that it is of; 0 or nothing if it is of none.
    pub(super) runner_scale_set_id: Option<i64>,
}

/// A runner that was registered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Registered {
    /// The runner; the other fields may be missing here.
    pub(super) runner: Option<Numbered>,
    /// What the runner is started with.
    #[serde(rename = "encodedJITConfig")]
    pub(super) jit_config: Option<String>,
}

/// Something with a number.
#[derive(Deserialize)]
pub(super) struct Numbered {
    /// The number.
    pub(super) id: i64,
}

/// The bodies of requests.
pub(super) fn runner_named(name: &str, work_folder: &str) -> Value {
    serde_json::json!({ "name": name, "workFolder": work_folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn answer(status: u16, body: &str) -> Received {
        Received { status, body: body.into(), ..Received::default() }
    }

    fn error(received: &Received, call: Call) -> ServiceError {
        received.refusal(call, "ns/secret", NOW)
    }

    fn typed(name: &str) -> String {
        format!(r#"{{"typeName":"GitHub.DistributedTask.{name}, GitHub","message":"no"}}"#)
    }

    #[test]
    fn kinds_follow_from_the_name_whatever_the_status() {
        for status in [400, 409, 500] {
            let exists = error(&answer(status, &typed("AgentExistsException")), Call::Register);
            assert_eq!(exists, ServiceError::RunnerExists, "{status}");
            let marked = format!("\u{feff}{}", typed("JobStillRunningException"));
            assert_eq!(
                error(&answer(status, &marked), Call::Remove),
                ServiceError::JobStillRunning,
                "{status}"
            );
        }
        let text = Received { is_text: true, ..answer(409, &typed("AgentExistsException")) };
        assert!(matches!(error(&text, Call::Register), ServiceError::Refused(_)), "text is no JSON");
        assert!(answer(404, &typed("AgentNotFoundException")).is_error("AgentNotFoundException"));
        assert!(!answer(404, &typed("Other")).is_error("AgentNotFoundException"));
        assert!(!answer(200, &typed("AgentNotFoundException")).is_error("AgentNotFoundException"));
    }

    #[test]
    fn kinds_follow_from_the_status() {
        let unavailable = |status| ServiceError::Unavailable { status, retry_after: None };
        let throttled = ServiceError::Throttled { retry_after: None };
        for (status, call, expected) in [
            (429, Call::Register, throttled.clone()),
            (429, Call::RegistrationToken, throttled),
            (401, Call::Remove, ServiceError::Unauthorized("ns/secret".to_owned())),
            (401, Call::RegistrationToken, ServiceError::Unauthorized("ns/secret".to_owned())),
            (401, Call::RunnerRegistration, unavailable(401)),
            (403, Call::RunnerRegistration, unavailable(403)),
            (408, Call::Find, unavailable(408)),
            (500, Call::Find, unavailable(500)),
            (503, Call::InstallationToken, unavailable(503)),
        ] {
            assert_eq!(error(&answer(status, "x"), call), expected, "{status} {call:?}");
        }
        for status in [302, 400, 403, 404, 409, 422] {
            let ServiceError::Refused(refusal) = error(&answer(status, "x"), Call::Register) else {
                panic!()
            };
            assert_eq!((refusal.status, refusal.message.as_str()), (status, "x"));
        }
    }

    #[test]
    fn waits_are_read_in_every_form() {
        let date = |seconds| {
            let at = UNIX_EPOCH + NOW + Duration::from_secs(seconds);
            httpdate::fmt_http_date(at)
        };
        let past = httpdate::fmt_http_date(UNIX_EPOCH);
        for (text, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            (date(90).as_str(), Some(90)),
            (past.as_str(), Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            for status in [429, 503] {
                let received = Received { retry_after: Some(text.to_owned()), ..answer(status, "") };
                let wait = error(&received, Call::Register).retry_after();
                assert_eq!(wait, expected.map(Duration::from_secs), "{status} {text}");
            }
        }
    }

    #[test]
    fn the_rest_api_throttles_with_403_too() {
        let limited = |remaining: &str, reset: &str| {
            let rate_limit = (Some(remaining.to_owned()), Some(reset.to_owned()));
            error(&Received { rate_limit, ..answer(403, "") }, Call::RegistrationToken)
        };
        let throttled = |seconds| ServiceError::Throttled { retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(limited("0", "1800000030"), throttled(30));
        assert_eq!(limited("0", "1700000000"), throttled(0));
        assert_eq!(limited("0", "x"), ServiceError::Throttled { retry_after: None });
        assert!(matches!(limited("10", "1800000030"), ServiceError::Refused(_)));
        let secondary = Received { retry_after: Some("60".to_owned()), ..answer(403, "") };
        assert_eq!(error(&secondary, Call::RegistrationToken), throttled(60));
    }

    #[test]
    fn a_refusal_says_what_why_and_what_to_do() {
        let received = Received {
            activity_id: Some("a1".to_owned()),
            request_id: Some("r1".to_owned()),
            ..answer(404, r#"{"typeName":"X","message":"gone\nfar"}"#)
        };
        assert_eq!(
            error(&received, Call::Register).to_string(),
            "GitHub refused to register a runner (404, X): gone far; check that the scale set still exists \
             [activity a1] [request r1]"
        );
        let long = error(&answer(400, &"x".repeat(5000)), Call::RegistrationToken).to_string();
        assert!(long.len() < 600 && long.contains("githubConfigUrl"), "{long}");
        assert!(error(&answer(400, ""), Call::Find).to_string().contains("no reason given"));
    }

    #[test]
    fn bodies_are_read_behind_a_mark_and_errors_show_nothing_of_them() {
        let list: List<Runner> = answer(200, "\u{feff}{\"count\":0}").parse(Call::Find).unwrap();
        assert!(list.value.is_none());
        for body in ["", "s3cret", r#"{"runner":"s3cret"}"#] {
            let error = answer(200, body).parse::<Registered>(Call::Register).err().unwrap();
            assert!(matches!(error, ServiceError::Answer(_)), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_token_says_when_it_ends() {
        let token = |claims: &str| {
            use base64::Engine as _;
            let part = |text| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
            expiry(&format!("{}.{}.x", part(r#"{"alg":"RS256"}"#), part(claims)).into())
        };
        assert_eq!(token(r#"{"exp":1800000000}"#), Some(NOW));
        assert_eq!(token(r#"{"exp":1800000000.5}"#), Some(NOW + Duration::from_millis(500)));
        for claims in ["{}", r#"{"exp":null}"#, r#"{"exp":"x"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#, "x"] {
            assert_eq!(token(claims), None, "{claims}");
        }
        assert_eq!(expiry(&"opaque".into()), None);
    }

    #[test]
    fn some_trouble_passes() {
        let unavailable = ServiceError::Unavailable { status: 502, retry_after: None };
        for (error, passes) in [
            (ServiceError::RunnerExists, false),
            (ServiceError::JobStillRunning, true),
            (ServiceError::Throttled { retry_after: None }, true),
            (unavailable, true),
            (ServiceError::TimedOut(NOW), true),
            (ServiceError::Unreachable { cause: String::new() }, true),
            (error(&answer(404, ""), Call::Find), false),
            (ServiceError::Unauthorized(String::new()), false),
            (ServiceError::Answer(String::new()), false),
        ] {
            assert_eq!(error.is_passing(), passes, "{error}");
        }
    }
}
