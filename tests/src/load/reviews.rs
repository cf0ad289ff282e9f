//! Reviews as the API server sends them, of known sizes.

use serde_json::{Value, json};

use crate::fixtures;
use crate::load::client::Request;

const PATH: &str = "/mutate/pods/hostpath";

/// What is asked, with its name in tables.
pub struct Question {
    /// Its name.
    pub name: String,
    /// The request itself.
    pub request: Request,
}

/// The cheapest question that there is, on the same port: what an answer costs without a review.
pub fn floor() -> Question {
    Question { name: "GET /livez".to_owned(), request: Request::get("/livez", "ok") }
}

/// A pod that is none of ARC's.
pub fn bystander() -> Question {
    question("bystander", &fixtures::read("admission/bystander.json"), r#""decision":"not-arc""#)
}

/// The same with so many environment variables that it is large.
pub fn large_bystander() -> Question {
    let review = padded(fixtures::read("admission/bystander.json"), LARGE);
    question("bystander", &review, r#""decision":"not-arc""#)
}

/// A runner with two side containers, which is rewritten.
pub fn rewritten() -> Question {
    question("rewritten, 3 containers", &padded(three_containers(), 8 << 10), r#""patchType":"JSONPatch""#)
}

/// The same with so many environment variables that it is large.
pub fn large_rewritten() -> Question {
    question("rewritten, 3 containers", &padded(three_containers(), LARGE), r#""patchType":"JSONPatch""#)
}

const LARGE: usize = 126 << 10;

fn question(name: &str, review: &Value, expected: &'static str) -> Question {
    let body = review.to_string();
    let name = format!("{name}, {:.1} KiB", body.len() as f64 / 1024.0);
    Question { name, request: Request::post(PATH, &body, expected) }
}

fn three_containers() -> Value {
    let mut review = fixtures::read("admission/runner-kubernetes.json");
    let containers = review["request"]["object"]["spec"]["containers"].as_array_mut().unwrap();
    for name in ["log-shipper", "metrics"] {
        containers.push(json!({
            "name": name,
            "image": format!("registry.example.com/tools/{name}:2.4.1"),
            "env": [{ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
            "resources": { "limits": { "memory": "64Mi" }, "requests": { "cpu": "10m", "memory": "32Mi" } },
            "volumeMounts": [{ "name": "work", "mountPath": "/home/runner/_work", "readOnly": true }],
        }));
    }
    review
}

/// Adds variables to the last container until the review has about so many bytes.
fn padded(mut review: Value, bytes: usize) -> Value {
    let missing = bytes.saturating_sub(review.to_string().len());
    let variable = |number: usize| {
        let value = format!("https://service-{number:04}.example.com/path?with=parameters");
        json!({ "name": format!("SERVICE_{number:04}"), "value": value })
    };
    let count = missing / (variable(0).to_string().len() + 1);
    let containers = review["request"]["object"]["spec"]["containers"].as_array_mut().unwrap();
    let last = containers.last_mut().unwrap();
    if last["env"].is_null() {
        last["env"] = json!([]);
    }
    last["env"].as_array_mut().unwrap().extend((0..count).map(variable));
    review
}
