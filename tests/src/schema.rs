//! The published schema of the agent's status, held against what agents really answer.

use serde_json::Value;

use crate::programs::repository;

/// Panics unless `status` is what `docs/status-v1.schema.json` says.
pub fn assert_status(status: &Value) {
    let text = std::fs::read_to_string(repository().join("docs/status-v1.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
    let problems: Vec<String> =
        schema.iter_errors(status).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:#?} in {status:#}");
}
