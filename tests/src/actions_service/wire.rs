//! Requests and answers as the service's state sees them: method, path, query and JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// What stands in `Authorization`.
    pub authorization: String,
    /// What stands in `User-Agent`.
    pub user_agent: String,
    /// `null` if there is none.
    pub body: Value,
}

/// What the service says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A status and perhaps JSON.
    Now(u16, Option<Value>),
    /// Nothing yet: a poll that is held until there is a message.
    Hold(Poll),
}

/// A long poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The scale set.
    pub set: i64,
    /// The session.
    pub session: String,
    /// The last message that the listener has seen.
    pub after: i64,
}

impl Request {
    /// The token, if the scheme fits.
    pub fn token(&self, scheme: &str) -> Option<&str> {
        self.authorization.strip_prefix(scheme)?.strip_prefix(' ').filter(|token| !token.is_empty())
    }

    /// A field of the query, empty if absent.
    pub fn asks(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

impl Reply {
    /// With a body.
    pub fn with(status: u16, body: Value) -> Self {
        Self::Now(status, Some(body))
    }

    /// Without one.
    pub fn bare(status: u16) -> Self {
        Self::Now(status, None)
    }

    /// An error as clients match it.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        let type_name = format!("GitHub.DistributedTask.WebApi.{kind}, GitHub.DistributedTask.WebApi");
        Self::with(status, json!({"typeName": type_name, "message": message}))
    }
}

/// A time in RFC 3339, in UTC.
pub fn time(unix: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(unix).unwrap()).unwrap().to_string()
}
