//! The token in the agent's pod, in the hands of whoever breaks in there: good for the Lease of its own node only.

use std::path::Path;

use headstart_externals::names::{REPORT_LABEL, REPORT_NODE};
use headstart_tests::bed::Cluster;
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::headstart::NAMESPACE;
use headstart_tests::identity::kubeconfig_with;
use headstart_tests::node_cache::NodeCache;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::turn;

#[tokio::test]
async fn an_agents_token_writes_the_report_of_its_own_node_and_nothing_else() {
    let Some(turn) = turn().await else { return };
    let (cache, folder) = (NodeCache::of(&turn), tempfile::tempdir().unwrap());
    let pod = cache.agent().await.uid().unwrap();
    let volumes = format!("/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~projected");
    let token = turn.cluster.bed().run_inside(&["sh", "-c", &format!("cat {volumes}/*/token")]).unwrap();
    let identity = kubeconfig_with(turn.cluster, token.trim(), &folder.path().join("thief.kubeconfig"));
    let thief =
        Thief { cluster: turn.cluster, identity: identity.display().to_string(), folder: folder.path() };

    let own = ["get", "lease", NODE, "--output=json"];
    let own: Value = serde_json::from_str(&thief.tries(&own).unwrap()).unwrap();
    thief.writes("replace", &own).unwrap();
    thief.tries(&["get", "configmap", "headstart-state"]).unwrap();

    let unlabelled = |mut lease: Value| {
        lease["metadata"]["labels"] = json!({});
        lease
    };
    thief.is_refused("an unlabelled Lease", thief.writes("replace", &unlabelled(own)));
    let other = lease("other", NAMESPACE);
    thief.is_refused("a new Lease", thief.writes("create", &other));
    turn.cluster.apply(&other.to_string()).unwrap();
    thief.is_refused("another node's Lease", thief.writes("replace", &other));
    turn.cluster.kubectl(&["delete", "lease", "other", "--namespace", NAMESPACE]).unwrap();
    let leader = cache.get(&["lease", "headstart-controller", "--namespace", NAMESPACE]).unwrap();
    thief.is_refused("the leader's Lease", thief.writes("replace", &leader));
    thief.is_refused("the kubelet's Lease", thief.writes("replace", &lease(NODE, "kube-node-lease")));
    let state = cache.get(&["configmap", "headstart-state", "--namespace", NAMESPACE]).unwrap();
    thief.is_refused("what is published", thief.writes("replace", &state));
    for forbidden in EVERYTHING_ELSE {
        let words: Vec<&str> = forbidden.split(' ').collect();
        thief.is_refused(forbidden, thief.tries(&words));
    }
}

/// What else it might be good for; in our namespace where no other is named.
const EVERYTHING_ELSE: [&str; 16] = [
    "label node node1 x=y",
    "patch node node1 --subresource=status --patch={}",
    "taint node node1 x=y:NoSchedule",
    "get node node1",
    "get pods",
    "get pods --all-namespaces",
    "run x --image=x",
    "delete pod x",
    "get secrets",
    "get secret headstart-webhook-tls",
    "get secret headstart-ca",
    "create configmap x",
    "get configmap headstart-config",
    "delete lease node1",
    "create token headstart-controller",
    "get mutatingwebhookconfigurations",
];

fn lease(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": name, "namespace": namespace, "labels": { REPORT_LABEL: REPORT_NODE } },
    })
}

/// Somebody with an agent's token.
struct Thief<'t> {
    cluster: &'t Cluster,
    identity: String,
    folder: &'t Path,
}

impl Thief<'_> {
    fn tries(&self, words: &[&str]) -> anyhow::Result<String> {
        let own = ["--kubeconfig", &self.identity];
        let place = if words.contains(&"--filename") { &[][..] } else { &["--namespace", NAMESPACE] };
        self.cluster.kubectl(&[words, place, &own].concat())
    }

    fn writes(&self, verb: &str, object: &Value) -> anyhow::Result<String> {
        let file = self.folder.join("object.json");
        std::fs::write(&file, object.to_string()).unwrap();
        self.tries(&[verb, "--filename", &file.display().to_string()])
    }

    fn is_refused(&self, what: &str, tried: anyhow::Result<String>) {
        let said = match tried {
            Ok(said) => panic!("{what} is not refused: {said}"),
            Err(refused) => refused.to_string(),
        };
        assert!(said.contains("orbidden") || said.contains("denied request: an agent may"), "{what}: {said}");
    }
}
