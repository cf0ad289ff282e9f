//! Hook templates, merged into a body as the hooks do it from 0.4.0 on.

use serde_json::Value;

/// The name by which a template means the job's container.
const JOB: &str = "$job";

/// Adds a template to a workflow pod.
pub fn merge(mut pod: Value, template: &Value) -> Value {
    merge_metadata(&mut pod["metadata"], &template["metadata"]);
    merge_spec(&mut pod["spec"], &template["spec"]);
    pod
}

/// Adds a template to the Job of a container step: metadata counts for both, the Job and its pod.
pub fn merge_step(mut job: Value, template: &Value) -> Value {
    merge_metadata(&mut job["metadata"], &template["metadata"]);
    job["spec"]["template"] = merge(job["spec"]["template"].take(), template);
    job
}

fn merge_metadata(metadata: &mut Value, more: &Value) {
    for kind in ["labels", "annotations"] {
        for (key, value) in fields(&more[kind]) {
            metadata[kind][key] = value.clone();
        }
    }
}

/// What means containers of the hook goes into these, other containers and volumes are added, all else is replaced.
fn merge_spec(spec: &mut Value, more: &Value) {
    for (key, value) in fields(more) {
        match key.as_str() {
            "containers" => merge_containers(&mut spec["containers"], value),
            "volumes" => append(&mut spec["volumes"], value),
            _ => spec[key] = value.clone(),
        }
    }
}

fn merge_containers(containers: &mut Value, more: &Value) {
    for container in more.as_array().unwrap() {
        let name = container["name"].as_str().unwrap();
        if name == JOB {
            merge_container(&mut containers[0], container);
        } else if !name.starts_with('$') {
            containers.as_array_mut().unwrap().push(container.clone());
        }
    }
}

fn merge_container(container: &mut Value, more: &Value) {
    for (key, value) in fields(more) {
        match key.as_str() {
            "name" | "image" => {}
            "env" | "volumeMounts" | "ports" => append(&mut container[key], value),
            _ => container[key] = value.clone(),
        }
    }
}

fn append(list: &mut Value, more: &Value) {
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut().unwrap().extend(more.as_array().unwrap().iter().cloned());
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    #[test]
    fn a_body_becomes_what_the_hook_made_of_it() {
        // `hooks/templates/preseed.yaml`, of which the recorded body was made.
        let template = json!({ "spec": {
            "volumes": [{ "name": "node-cache", "hostPath": { "path": "/var/lib/node-cache/current", "type": "Directory" } }],
            "containers": [{ "name": "$job", "volumeMounts": [
                { "name": "node-cache", "mountPath": "/opt/node-cache", "readOnly": true }
            ] }],
        } });
        let merged = merge(fixtures::read("hooks/v0.7.0/prepare-plain.json"), &template);
        assert_eq!(merged, fixtures::read("hooks/v0.7.0/prepare-template-preseed.json"));
    }

    #[test]
    fn a_step_becomes_what_the_hook_made_of_it() {
        // `hooks/templates/volumes-sidecar.yaml`, but for the claims.
        let recorded = fixtures::read("hooks/v0.7.0/step-template.json");
        let spec = &recorded["spec"]["template"]["spec"];
        let job = &spec["containers"][0];
        let mounts = job["volumeMounts"].as_array().unwrap();
        let template = json!({
            "metadata": { "labels": { "team": "build" }, "annotations": { "sidecar.istio.io/inject": "false" } },
            "spec": {
                "serviceAccountName": "workflow-sa",
                "volumes": spec["volumes"].as_array().unwrap()[1..],
                "containers": [
                    { "name": "$job", "resources": job["resources"], "volumeMounts": mounts[5..] },
                    spec["containers"][1],
                ],
            },
        });
        let mut merged = merge_step(fixtures::read("hooks/v0.7.0/step-plain.json"), &template);
        // What differs between the two recorded steps anyway.
        merged["metadata"]["name"] = recorded["metadata"]["name"].clone();
        let container = &mut merged["spec"]["template"]["spec"]["containers"][0];
        container.as_object_mut().unwrap().remove("args");
        container["envFrom"] = job["envFrom"].clone();
        assert_eq!(merged, recorded);
    }
}
