//! The client of GitHub's Actions service against a small one in this process: what it says, and what it makes of answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fake;
mod reach;
mod sources;
mod tokens;

use std::time::Duration;

use futures::future::join_all;
use headstart_controller::actions::{Agent, ServiceError};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use fake::{Answer, Fake, inputs, service};

#[tokio::test]
async fn a_runner_is_registered_after_a_token_was_exchanged_twice() {
    let (fake, url) = Fake::start().await;
    let registration = service(&inputs(&url)).register(3, "runner-a", "/work").await.unwrap();
    assert_eq!(registration.runner_id, 7);
    assert_eq!(registration.jit_config.expose_secret(), "s3cret-config");
    let calls = fake.calls();
    let lines: Vec<&str> = calls.iter().map(|call| call.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /api/v3/repos/o/r/actions/runners/registration-token",
            "POST /api/v3/actions/runner-registration",
            "POST /tenant/1/_apis/runtime/runnerscalesets/3/generatejitconfig?api-version=6.0-preview",
        ]
    );
    let authorization = |at: usize| calls[at].header("authorization");
    assert_eq!(authorization(0), "Bearer s3cret-pat");
    assert_eq!(authorization(1), "RemoteAuth s3cret-registration");
    let body = |at: usize| serde_json::from_str::<Value>(&calls[at].body).unwrap();
    assert_eq!(body(1), json!({ "url": format!("{url}/o/r"), "runner_event": "register" }));
    assert_eq!(body(2), json!({ "name": "runner-a", "workFolder": "/work" }));
    assert_eq!(calls[0].header("content-length"), "0");
    assert_eq!(calls[2].header("content-type"), "application/json");
    let agent: Value = serde_json::from_str(calls[2].header("user-agent")).unwrap();
    assert_eq!(agent["system"], "headstart-controller");
    assert_eq!((&agent["kind"], &agent["scale_set_id"]), (&json!("scaleset"), &json!(3)));
}

/// The fake answers none of these calls before all of them are there.
#[tokio::test]
async fn calls_are_made_side_by_side_and_share_a_token() {
    const CALLS: usize = 24;
    let (fake, url) = Fake::start().await;
    fake.answers_together("generatejitconfig", CALLS);
    let service = service(&inputs(&url));
    let names: Vec<String> = (0..CALLS).map(|number| format!("runner-{number}")).collect();
    let outcomes = join_all(names.iter().map(|name| service.register(3, name, ""))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(fake.count("/registration-token"), 1);
    assert_eq!(fake.count("/runner-registration"), 1);
    assert_eq!(fake.count("generatejitconfig"), CALLS);
}

#[tokio::test]
async fn a_runner_is_looked_up_by_its_name() {
    let (fake, url) = Fake::start().await;
    let service = service(&inputs(&url));
    assert_eq!(service.find("a&b").await, Ok(None));
    let line = fake.calls().pop().unwrap().line;
    let expected =
        "GET /tenant/1/_apis/distributedtask/pools/0/agents?agentName=a%26b&api-version=6.0-preview";
    assert_eq!(line, expected);
    let agent = |scale_set| Agent { id: 5, name: "a".to_owned(), scale_set };
    for (body, expected) in [
        (json!({ "count": 1, "value": [{ "id": 5, "name": "a", "runnerScaleSetId": 3 }] }), Some(agent(3))),
        (json!({ "count": 1, "value": [{ "id": 5, "name": "a" }] }), Some(agent(0))),
        (json!({ "count": 0, "value": null }), None),
        (json!({ "count": 0 }), None),
    ] {
        fake.answers_once("agents", Answer::new(200, &body.to_string()));
        assert_eq!(service.find("a").await, Ok(expected), "{body}");
    }
    let other = json!({ "id": 5, "name": "b" });
    for value in [json!([other]), json!([other, other]), json!([{ "id": 5, "name": "a" }, other]), json!(5)] {
        fake.answers_once("agents", Answer::new(200, &json!({ "value": value }).to_string()));
        assert!(matches!(service.find("a").await, Err(ServiceError::Answer(_))), "{value}");
    }
}

#[tokio::test]
async fn a_runner_that_is_not_there_is_removed() {
    let (fake, url) = Fake::start().await;
    let service = service(&inputs(&url));
    assert_eq!(service.remove(9).await, Ok(()));
    let line = fake.calls().pop().unwrap().line;
    assert_eq!(line, "DELETE /tenant/1/_apis/distributedtask/pools/0/agents/9?api-version=6.0-preview");
    let error = |name: &str| json!({ "typeName": format!("X.{name}, X"), "message": "no" }).to_string();
    fake.answers_once("agents/9", Answer::new(404, &error("AgentNotFoundException")));
    assert_eq!(service.remove(9).await, Ok(()));
    fake.answers_once("agents/9", Answer::new(400, &error("JobStillRunningException")));
    assert_eq!(service.remove(9).await, Err(ServiceError::JobStillRunning));
    fake.answers_once("agents/9", Answer::new(404, "nothing here").with("content-type", "text/plain"));
    assert!(matches!(service.remove(9).await, Err(ServiceError::Refused(_))));
}

#[tokio::test]
async fn every_answer_has_its_error_and_none_is_tried_again() {
    let (fake, url) = Fake::start().await;
    let service = service(&inputs(&url));
    service.prepare().await.unwrap();
    let exists = "\u{feff}{\"typeName\":\"GitHub.AgentExistsException\",\"message\":\"s\"}";
    let after = |seconds| Some(Duration::from_secs(seconds));
    let throttled = |retry_after| ServiceError::Throttled { retry_after };
    let unavailable = |status, retry_after| ServiceError::Unavailable { status, retry_after };
    for (answer, expected) in [
        (Answer::new(409, exists), ServiceError::RunnerExists),
        (Answer::new(429, "").with("retry-after", "7"), throttled(after(7))),
        (Answer::new(429, ""), throttled(None)),
        (Answer::new(503, "<html>").with("retry-after", "2"), unavailable(503, after(2))),
        (Answer::new(500, ""), unavailable(500, None)),
    ] {
        fake.calls();
        fake.answers_once("generatejitconfig", answer);
        assert_eq!(service.register(3, "a", "").await.unwrap_err(), expected);
        assert_eq!(fake.calls().len(), 1, "{expected}");
    }
    for body in ["", "{}", "[]", r#"{"runner":null,"encodedJITConfig":"s3cret"}"#, r#"{"runner":{"id":1}}"#] {
        fake.answers_once("generatejitconfig", Answer::new(200, body));
        let error = service.register(3, "a", "").await.unwrap_err();
        assert!(matches!(error, ServiceError::Answer(_)), "{body}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    fake.answers_once("generatejitconfig", Answer::new(200, &" ".repeat(2 << 20)));
    let error = service.register(3, "a", "").await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    let refused = Answer::new(400, r#"{"typeName":"T","message":"bad\nname"}"#);
    fake.answers_once(
        "generatejitconfig",
        refused.with("ActivityId", "a1").with("X-GitHub-Request-Id", "r1"),
    );
    let error = service.register(3, "a", "").await.unwrap_err().to_string();
    for words in ["to register a runner", "400", "(400, T)", "bad name", "activity a1", "request r1"] {
        assert!(error.contains(words), "{error}");
    }
}
