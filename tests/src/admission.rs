//! Objects given to a real API server and read back as it stored them.

use std::collections::BTreeMap;

use axum::http::Request;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cases::{Case, accounts};
use crate::wait::until;

/// Creations at once: enough to keep two processors busy.
const AT_ONCE: usize = 8;

/// What an API server made of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Created; as it is stored.
    Stored(Value),
    /// Refused, with its words.
    Refused(String),
}

impl Answer {
    /// The stored object.
    pub fn stored(self, what: &str) -> Value {
        match self {
            Self::Stored(object) => object,
            Self::Refused(words) => panic!("{what} was refused: {words}"),
        }
    }
}

/// Creates an object strictly (a field that the server does not know is an error) and reads it back.
pub async fn create(client: &Client, namespace: &str, object: &Value) -> Answer {
    let place = match object["kind"].as_str().unwrap() {
        "Job" => format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
        _ => format!("/api/v1/namespaces/{namespace}/pods"),
    };
    let mut object = object.clone();
    object["metadata"]["namespace"] = namespace.into();
    let request = Request::post(format!("{place}?fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes());
    match client.request::<Value>(request.unwrap()).await {
        Ok(created) => {
            let name = created["metadata"]["name"].as_str().unwrap();
            let request = Request::get(format!("{place}/{name}")).body(vec![]).unwrap();
            Answer::Stored(client.request(request).await.unwrap())
        }
        Err(kube::Error::Api(status)) => Answer::Refused(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// Creates every case, some at once, and gives the answers in the same order.
pub async fn create_all(client: &Client, namespace: &str, cases: &[Case]) -> Vec<Answer> {
    let answers = cases.iter().map(|case| create(client, namespace, &case.object));
    stream::iter(answers).buffered(AT_ONCE).collect().await
}

/// The same pod once more, under a name that nobody has.
pub fn again(case: &Case, number: usize) -> Value {
    let mut object = case.object.clone();
    object["metadata"]["name"] = format!("{}-{number}", object["metadata"]["name"].as_str().unwrap()).into();
    object
}

/// Makes a namespace for the cases, in a cluster that goes with its test: its own account is there, and those that the
/// cases name.
pub async fn namespace(client: &Client, name: &str, labels: &[(&str, &str)], cases: &[Case]) -> String {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    let namespace = json!({ "metadata": { "name": name, "labels": labels } });
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(namespace).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    for name in accounts(cases) {
        let account = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        api.create(&PostParams::default(), &account).await.unwrap();
    }
    until("the namespace's own account is there", || async { api.get("default").await.ok() }).await;
    name.to_owned()
}

/// How often the API server went on without an answer of a webhook.
pub async fn failed_open(client: &Client) -> u64 {
    let request = Request::get("/metrics").body(vec![]).unwrap();
    let metrics = client.request_text(request).await.unwrap();
    let counters =
        metrics.lines().filter(|line| line.starts_with("apiserver_admission_webhook_fail_open_count{"));
    counters.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}
