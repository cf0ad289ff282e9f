//! The route: every review that can be read is allowed, with a patch or without, counted by reason.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::pin::Generation;
use headstart_runtime::lag::Lag;
use headstart_runtime::shutdown::Shutdown;
use headstart_webhook::metrics::Metrics;
use headstart_webhook::published::Published;
use headstart_webhook::runner_sets::known::Sign;
use headstart_webhook::runner_sets::reason::PinReason;
use headstart_webhook::runner_sets::sources::RunnerSets;
use headstart_webhook::server::{RequestLimits, Webhook, routes};
use kube::Client;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{LEADER, published, review};

/// A webhook in this process.
pub(crate) struct Served {
    client: Client,
    registry: Registry,
}

/// Everything that pinning needs is known and fresh.
pub(crate) fn known() -> RunnerSets {
    let sets = RunnerSets::watched();
    sets.read_list(Some(published()));
    for renewal in ["1", "2"] {
        let sign = Sign { holder: LEADER.to_owned(), renewal: renewal.to_owned() };
        sets.read_lease(Some(&sign), Instant::now());
    }
    sets
}

impl Served {
    pub(crate) fn new(runner_sets: RunnerSets) -> Self {
        Self::within(runner_sets, RequestLimits { deadline: Duration::from_secs(60), in_flight: 8 })
    }

    fn within(runner_sets: RunnerSets, limits: RequestLimits) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let webhook =
            Webhook { published: Published::default(), runner_sets, metrics, limits, lag: Lag::default() };
        Self { client: Client::new(routes(webhook, Shutdown::new()), "default"), registry }
    }

    /// The answer to a review.
    pub(crate) async fn post(&self, body: Vec<u8>) -> Result<Value, kube::Error> {
        let request = axum::http::Request::post("/mutate/runnersets").body(body).unwrap();
        Ok(serde_json::from_str(&self.client.request_text(request).await?).unwrap())
    }

    /// The reason, and the object that the review leads to. Whatever it is, it is allowed.
    pub(crate) async fn admit(&self, review: &Value) -> (String, Value) {
        let answer = self.post(review.to_string().into_bytes()).await.unwrap();
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&review["request"]["uid"], &json!(true)));
        assert_eq!(response["patch"].is_string(), response["patchType"] == "JSONPatch", "both or neither");
        assert!(response["warnings"].is_null(), "{response}");
        let mut object = review["request"]["object"].clone();
        if let Some(patch) = response["patch"].as_str() {
            let patch: json_patch::Patch =
                serde_json::from_slice(&BASE64_STANDARD.decode(patch).unwrap()).unwrap();
            json_patch::patch(&mut object, &patch).expect("every patch applies");
        }
        (response["auditAnnotations"]["decision"].as_str().unwrap().to_owned(), object)
    }

    fn counted(&self) -> String {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let counters = text.lines().filter(|line| {
            line.starts_with("headstart_webhook_runner_set_decisions_total{") && !line.ends_with(" 0")
        });
        counters.collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test]
async fn a_scale_up_is_pinned_and_counted() {
    let served = Served::new(known());
    let review = review();
    let (reason, object) = served.admit(&review).await;
    assert_eq!(reason, "pinned");
    let mut expected = review["request"]["object"].clone();
    expected["spec"]["replicas"] = 0.into();
    expected["spec"]["patchID"] = Generation { replicas: 5, patch_id: 7 }.pinned().into();
    assert_eq!(object, expected, "nothing but these two fields");
    let counter = "headstart_webhook_runner_set_decisions_total{decision=\"pinned\",reason=\"pinned\"} 1";
    assert_eq!(served.counted(), counter);
}

#[tokio::test]
async fn no_runners_are_asked_for_by_an_absent_field() {
    let served = Served::new(known());
    let mut review = review();
    review["request"]["oldObject"]["spec"] =
        json!({ "replicas": 0, "patchID": Generation { replicas: 9, patch_id: 6 }.pinned() });
    for absent in [Some(json!(null)), None] {
        let spec = review["request"]["object"]["spec"].as_object_mut().unwrap();
        match absent {
            Some(null) => drop(spec.insert("replicas".to_owned(), null)),
            None => drop(spec.remove("replicas")),
        }
        let (reason, object) = served.admit(&review).await;
        assert_eq!(reason, "re-pinned");
        assert_eq!(object["spec"]["patchID"], Generation { replicas: 0, patch_id: 7 }.pinned());
        assert_eq!(object["spec"]["replicas"], 0);
    }
}

#[tokio::test]
async fn where_nobody_would_create_runners_nothing_is_pinned() {
    let unchanged = review()["request"]["object"].clone();
    for reason in [PinReason::NoController, PinReason::SwitchedOff] {
        let served = Served::new(RunnerSets::unused(reason));
        assert_eq!(served.admit(&review()).await, (reason.code().to_owned(), unchanged.clone()));
    }
    let served = Served::new(RunnerSets::watched());
    assert_eq!(served.admit(&review()).await, ("list-unknown".to_owned(), unchanged));
}

#[tokio::test]
async fn under_pressure_scale_ups_are_left_to_arc() {
    let limits = [
        RequestLimits { deadline: Duration::from_secs(60), in_flight: 0 },
        RequestLimits { deadline: Duration::ZERO, in_flight: 8 },
    ];
    for (limits, cause) in limits.into_iter().zip(["in-flight", "deadline"]) {
        let served = Served::within(known(), limits);
        let unchanged = review()["request"]["object"].clone();
        assert_eq!(served.admit(&review()).await, ("overloaded".to_owned(), unchanged));
        let text = prometheus::TextEncoder::new().encode_to_string(&served.registry.gather()).unwrap();
        let shed = format!("headstart_webhook_shed_total{{cause=\"{cause}\"}} 1");
        assert!(text.contains(&shed), "{text}");
        assert!(served.counted().contains("reason=\"overloaded\"} 1"), "{}", served.counted());
    }
}

#[tokio::test]
async fn other_requests_are_allowed_as_they_are_and_others_get_an_error() {
    let served = Served::new(known());
    let mut create = review();
    create["request"]["operation"] = "CREATE".into();
    create["request"]["oldObject"] = json!(null);
    assert_eq!(served.admit(&create).await.0, "not-a-runner-set");
    for body in [&b"<html>"[..], b"{}", b"\xff", b""] {
        let Err(kube::Error::Api(status)) = served.post(body.to_vec()).await else {
            panic!("{body:?} was answered")
        };
        assert_eq!(status.code, 400, "{status:?}");
    }
    let Err(kube::Error::Api(status)) = served.post(vec![b' '; 5 << 20]).await else {
        panic!("a body that is too large was read")
    };
    assert_eq!(status.code, 413);
}
