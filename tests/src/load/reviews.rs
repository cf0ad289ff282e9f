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
    question("bystander", &of_api_server(fixtures::read(BYSTANDER), 0), NOT_ARC)
}

/// The same with so many environment variables that it is large.
pub fn large_bystander() -> Question {
    question("bystander", &of_api_server(fixtures::read(BYSTANDER), LARGE), NOT_ARC)
}

/// A runner with two side containers, which is rewritten.
pub fn rewritten() -> Question {
    question("rewritten, 3 containers", &of_api_server(three_containers(), 0), PATCHED)
}

/// The same with so many environment variables that it is large.
pub fn large_rewritten() -> Question {
    question("rewritten, 3 containers", &of_api_server(three_containers(), LARGE), PATCHED)
}

const BYSTANDER: &str = "admission/bystander.json";
const NOT_ARC: &str = r#""decision":"not-arc""#;
const PATCHED: &str = r#""patchType":"JSONPatch""#;
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

/// A recorded review as it comes from an API server: the object says who set which of its fields. It has about so
/// many bytes, of variables in its last container, or a few more.
fn of_api_server(mut review: Value, bytes: usize) -> Value {
    let object = &mut review["request"]["object"];
    let with_fields = |mut object: Value| {
        let fields = managed(&json!({ "metadata": object["metadata"], "spec": object["spec"] }));
        object["metadata"]["managedFields"] = json!([{
            "apiVersion": "v1", "manager": "controller", "operation": "Update", "time": "2026-11-21T10:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        }]);
        object
    };
    let variable = |number: usize| {
        let value = format!("https://service-{number:04}.example.com/path?with=parameters");
        json!({ "name": format!("SERVICE_{number:04}"), "value": value })
    };
    let add = |mut object: Value, count: usize| {
        let last = object["spec"]["containers"].as_array_mut().unwrap().last_mut().unwrap();
        let mut variables = last["env"].as_array().cloned().unwrap_or_default();
        variables.extend((0..count).map(variable));
        last["env"] = Value::Array(variables);
        with_fields(object)
    };
    let size = |count| add(object.clone(), count).to_string().len();
    let missing = bytes.saturating_sub(size(0));
    let count = missing / (size(2) - size(1));
    *object = add(object.clone(), count);
    review
}

/// The fields of a value in the way of server-side apply: what has a name goes by it.
fn managed(value: &Value) -> Value {
    let fields: Vec<(String, Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(key, value)| (format!("f:{key}"), managed(value))).collect()
        }
        Value::Array(items) if items.iter().all(|item| item["name"].is_string()) => {
            let own = |item: &Value| (format!("k:{}", json!({ "name": item["name"] })), managed(item));
            items.iter().map(own).chain([(".".to_owned(), json!({}))]).collect()
        }
        _ => Vec::new(),
    };
    Value::Object(fields.into_iter().collect())
}
