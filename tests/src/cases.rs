//! Every recorded body as a case for an API server: under a name of its own, with what Headstart should make of it told
//! from what the charts and hooks write, not by the rules of the webhook.

use headstart_externals::config::Config;
use headstart_externals::names::VERSION_LABEL;
use serde_json::{Value, json};

use crate::fixtures;

/// A runner image whose hooks read templates, so that its runners are paired.
const PAIRED_IMAGE: &str = "registry.example.com/runner:paired";

/// The names of the profiles.
pub const PROFILES: [&str; 2] = ["node16", "paired"];

/// The hook of the legacy generation.
const LEGACY_HOOK: &str = "/home/runner/k8s/index.js";

/// One object to create.
#[derive(Clone, Debug)]
pub struct Case {
    /// For messages; also makes the object's name.
    pub what: String,
    /// The object, without a namespace.
    pub object: Value,
    /// What Headstart decides where a hostPath is admitted; `None` if it leaves the object alone.
    pub decision: Option<&'static str>,
    /// The profile whose version the pod is given.
    pub profile: &'static str,
}

/// Two profiles: one for the images of the recorded pods, one whose runners are paired. Each can be shown in both ways.
pub fn configuration() -> String {
    let revision = |digit: &str| {
        let digest = digit.repeat(64);
        format!(
            "revisions: [{{revision: test, source: {{directory: {{path: /srv/externals}}}}, \
             volumeImage: 'registry.example.com/headstart/externals@sha256:{digest}'}}]"
        )
    };
    let images = ["latest", "2.330.0"].map(|tag| format!("ghcr.io/actions/actions-runner:{tag}")).join(", ");
    let images = format!("{images}, 'summerwind/actions-runner*:v2.304.0-*'");
    format!(
        "apiVersion: headstart.dev/v1
profiles:
  - name: node16
    preset: node16
    images: [{images}]
    {}
  - name: paired
    preset: node16
    images: ['{PAIRED_IMAGE}']
    hooks: {{legacy: [{LEGACY_HOOK}], readTemplates: true, ownTemplate: none}}
    {}
",
        revision("1"),
        revision("2"),
    )
}

/// The version of a profile and its image.
pub fn version(profile: &str) -> (String, String) {
    let config = Config::parse(&configuration()).unwrap();
    let (_, revision) = config.revisions().find(|(found, _)| found.name == profile).unwrap();
    (revision.version.to_string(), revision.volume_image.clone().unwrap())
}

/// All recorded bodies; legacy workflow pods also as the pods of a runner that was paired name their version; and a
/// runner that is paired.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for file in ["hooks", "arc", "older"].map(fixtures::list).concat() {
        let object = fixtures::read(&file);
        if is_legacy_workflow(&object) {
            let mut labelled = object.clone();
            labelled["metadata"]["labels"][VERSION_LABEL] = version("node16").0.into();
            cases.push(Case::new(&format!("{file} labelled"), labelled));
        }
        cases.push(Case::new(&file, object));
    }
    let mut paired = fixtures::read("arc/kubernetes.json");
    paired["spec"]["containers"][0]["image"] = PAIRED_IMAGE.into();
    let paired = Case::new("arc/kubernetes.json paired", paired);
    cases.push(Case { decision: Some("runner-legacy/paired"), profile: "paired", ..paired });
    cases
}

/// Accounts that recorded pods name; an API server wants them to exist.
pub fn accounts(cases: &[Case]) -> std::collections::BTreeSet<String> {
    let account = |case: &Case| case.object["spec"]["serviceAccountName"].as_str().map(str::to_owned);
    cases.iter().filter_map(account).collect()
}

impl Case {
    /// A case from an object, which gets a name of its own.
    pub fn new(what: &str, mut object: Value) -> Self {
        let word =
            |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
        let name: String = what.replace(".json", "").chars().map(word).collect();
        object["metadata"].as_object_mut().unwrap().remove("generateName");
        object["metadata"]["name"] = name.into();
        let decision = decision(&object);
        Self { what: what.to_owned(), object, decision, profile: "node16" }
    }

    /// The same pod as the strictest Pod Security admits it. Nothing that Headstart looks at is changed.
    pub fn hardened(mut self) -> Self {
        let spec = self.object["spec"].as_object_mut().unwrap();
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                harden(container);
            }
        }
        for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            if volume["hostPath"].is_object() {
                *volume = json!({ "name": volume["name"], "emptyDir": {} });
            }
        }
        self
    }
}

fn harden(container: &mut Value) {
    let context = &mut container["securityContext"];
    context["allowPrivilegeEscalation"] = false.into();
    context["privileged"] = false.into();
    context["capabilities"] = json!({ "drop": ["ALL"] });
    context["runAsNonRoot"] = true.into();
    if context["runAsUser"] == 0 {
        context["runAsUser"] = 1001.into();
    }
    context["seccompProfile"] = json!({ "type": "RuntimeDefault" });
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        port.as_object_mut().unwrap().remove("hostPort");
    }
}

/// What becomes of an object, told from what its authors write.
fn decision(object: &Value) -> Option<&'static str> {
    let (labels, spec) = (&object["metadata"]["labels"], &object["spec"]);
    let text = spec.to_string();
    if labels["actions-ephemeral-runner"] == "True" {
        if text.contains("dind-externals") {
            return Some("runner-dind/mounted");
        }
        return text.contains(LEGACY_HOOK).then_some("runner-legacy/lean");
    }
    if labels["actions-runner"].is_string() {
        let docker =
            spec["containers"].as_array().unwrap().iter().any(|container| container["name"] == "docker");
        return (!docker).then_some("runner-older/lean");
    }
    if !labels["runner-pod"].is_string() {
        return None;
    }
    if text.contains("mv /home/runner/externals/*") {
        return Some("workflow-current/mounted");
    }
    (is_legacy_workflow(object) && labels[VERSION_LABEL].is_string()).then_some("workflow-legacy/mounted")
}

fn is_legacy_workflow(object: &Value) -> bool {
    let copied = |mount: &Value| mount["mountPath"] == "/__e" && mount["subPath"] == "externals";
    let containers = object["spec"]["containers"].as_array().into_iter().flatten();
    let mut mounts =
        containers.flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten());
    object["metadata"]["labels"]["runner-pod"].is_string() && mounts.any(copied)
}
