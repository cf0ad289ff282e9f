//! What a runner set names is read from the API server, which is a table here.

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_controller::actions::source::{SourceError, read};
use headstart_controller::actions::spec::Spec;
use kube::Client;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

fn spec() -> Spec {
    let spec = json!({
        "githubConfigUrl": "https://github.com/o", "githubConfigSecret": "github",
        "proxy": {
            "http": { "url": "http://proxy:1", "credentialSecretRef": "login" },
            "https": { "url": "http://proxy:2" },
        },
        "githubServerTLS": { "certificateFrom": { "configMapKeyRef": { "name": "ca", "key": "ca.crt" } } },
    });
    Spec::read(&spec).unwrap()
}

fn secret(data: &[(&str, &str)]) -> Value {
    let encoded = data.iter().map(|(key, text)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(text))));
    json!({ "apiVersion": "v1", "kind": "Secret", "data": Value::Object(encoded.collect()) })
}

/// All that is there.
fn objects() -> Vec<(&'static str, Value)> {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "ca.crt": "PEM" } });
    vec![
        ("secrets/github", secret(&[("github_token", "s3cret")])),
        ("secrets/login", secret(&[("username", "me"), ("password", "s3cret")])),
        ("configmaps/ca", map),
    ]
}

fn client(objects: Vec<(&'static str, Value)>) -> Client {
    let answer = move |uri: Uri| async move { answer(&objects, uri.path()) };
    Client::new(Router::new().fallback(answer), "default")
}

fn answer(objects: &[(&'static str, Value)], path: &str) -> Response {
    let Some(name) = path.strip_prefix("/api/v1/namespaces/ns/") else { panic!("{path}") };
    match objects.iter().find(|(known, _)| *known == name) {
        Some((_, Value::Null)) => status(StatusCode::FORBIDDEN, "Forbidden"),
        Some((_, object)) => Json(object.clone()).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no",
        "reason": reason, "code": code.as_u16() });
    (code, Json(status)).into_response()
}

#[tokio::test]
async fn everything_that_a_set_names_is_read() {
    let inputs = read(&client(objects()), "ns", &spec()).await.unwrap();
    let login = inputs.http_login.as_ref().unwrap();
    assert_eq!((login.username.as_str(), login.password.expose_secret()), ("me", "s3cret"));
    assert!(inputs.https_login.is_none());
    assert_eq!(inputs.authority.as_deref(), Some("PEM"));
    assert_eq!(inputs.secret(), "ns/github");
    assert!(!format!("{inputs:?}").contains("s3cret"));
    assert!(inputs == read(&client(objects()), "ns", &spec()).await.unwrap());
    let mut rotated = objects();
    rotated[0].1 = secret(&[("github_token", "another")]);
    assert!(inputs != read(&client(rotated), "ns", &spec()).await.unwrap());
}

#[tokio::test]
async fn what_is_not_there_is_named_with_the_field_that_names_it() {
    for (name, words) in [
        ("secrets/github", "Secret ns/github is not there; create it, or correct `githubConfigSecret`"),
        (
            "secrets/login",
            "Secret ns/login is not there; create it, or correct `proxy.http.credentialSecretRef`",
        ),
        ("configmaps/ca", "ConfigMap ns/ca is not there; create it, or correct `githubServerTLS"),
    ] {
        let mut objects = objects();
        objects.retain(|(other, _)| *other != name);
        let error = read(&client(objects), "ns", &spec()).await.unwrap_err();
        assert!(matches!(error, SourceError::Missing { .. }) && error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn what_lacks_a_key_or_must_not_be_read_is_named_too() {
    let empty = json!({ "apiVersion": "v1", "kind": "ConfigMap" });
    for (name, object, words) in [
        ("secrets/github", secret(&[]), "Secret ns/github cannot be used: it has neither github_token"),
        (
            "secrets/login",
            secret(&[("username", "me")]),
            "Secret ns/login has no text under the key password",
        ),
        ("configmaps/ca", empty, "ConfigMap ns/ca has no text under the key ca.crt"),
        ("secrets/github", Value::Null, "failed to read Secret ns/github"),
    ] {
        let mut objects = objects();
        objects.retain(|(other, _)| *other != name);
        objects.push((name, object));
        let error = read(&client(objects), "ns", &spec()).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
