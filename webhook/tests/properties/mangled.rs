//! Recorded pods with some values replaced, removed or doubled.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Every recorded pod.
pub(crate) fn fixtures() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut pods = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "json") {
                let value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
                pods.push(match value["kind"].as_str() {
                    Some("AdmissionReview") => value["request"]["object"].clone(),
                    Some("Job") => value["spec"]["template"].clone(),
                    _ => value,
                });
            }
        }
    }
    assert!(pods.len() > 100);
    pods
}

/// Pointers to all values in a document.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| pointers(value, format!("{at}/{}", escaped(key)), all))
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| pointers(value, format!("{at}/{i}"), all))
        }
        _ => {}
    }
}

/// A value that may take the place of any other.
fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!([{}])),
        Just(json!("")),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(vec![
            "/__e",
            "/__e/",
            "/",
            "externals",
            "work",
            "fs-init",
            "runner",
            "True",
            "headstart-externals",
            "/home/runner/_work",
            "/_work",
            "_work",
            "../_work",
            "/home/runner/externals",
            "/home/runner",
            "mv /home/runner/externals/* /mnt/externals",
            "windows",
            "worker-1",
            "None",
            "HostToContainer",
            "/__e/x",
        ])
        .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ]
}

/// A recorded pod with some values replaced, removed or doubled.
pub(crate) fn mangled() -> impl Strategy<Value = Value> {
    let mutations = prop::collection::vec((any::<Index>(), junk(), 0..3u8), 0..6);
    (select(fixtures()), mutations).prop_map(|(mut pod, mutations)| {
        for (at, junk, how) in mutations {
            let mut all = Vec::new();
            pointers(&pod, String::new(), &mut all);
            let pointer = at.get(&all).clone();
            match how {
                0 => *pod.pointer_mut(&pointer).unwrap() = junk,
                1 => remove(&mut pod, &pointer),
                _ => double(&mut pod, &pointer),
            }
        }
        pod
    })
}

fn parent<'a>(pod: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (parent, key) = pointer.rsplit_once('/')?;
    Some((pod.pointer_mut(parent)?, key.replace("~1", "/").replace("~0", "~")))
}

fn remove(pod: &mut Value, pointer: &str) {
    match parent(pod, pointer) {
        Some((Value::Object(map), key)) => drop(map.remove(&key)),
        Some((Value::Array(list), key)) => drop(list.remove(key.parse::<usize>().unwrap())),
        _ => {}
    }
}

fn double(pod: &mut Value, pointer: &str) {
    if let Some((Value::Array(list), key)) = parent(pod, pointer) {
        list.push(list[key.parse::<usize>().unwrap()].clone());
    }
}
