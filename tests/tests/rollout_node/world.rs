//! A test's turn on the cluster, with a profile of its own whose revisions come and go.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

use headstart_externals::config::Config;
use headstart_externals::state::{Phase, PublishedState};
use headstart_externals::version::VersionName;
use headstart_tests::archive::{Tar, sha256};
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::command::say;
use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::{Turn, headstart};
use headstart_tests::deploy;
use headstart_tests::jobs;
use headstart_tests::origin::{Answer, Origin};
use headstart_tests::played::{self, OURS};
use headstart_tests::played_agents::PlayedAgents;
use headstart_tests::pods::Pods;
use headstart_tests::stand_in::stand_in;
use headstart_tests::tree::NODE16;
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{configuration, played_nodes};

/// Nobody waits long: of what takes minutes in a real cluster, a second.
const SOON: [(&str, u32); 2] = [("graceSeconds", 1), ("keepSeconds", 1)];

/// Who reads the configuration all the time.
const READERS: &str = "app.kubernetes.io/name in (headstart-controller, headstart-cachesync)";

/// Where the hooks mount externals.
pub(crate) const NODE_PROGRAM: &str = "/__e/node16/bin/node";

const WORKFLOW: &str = "hooks/v0.8.1/prepare-plain.json";

/// The turn.
pub(crate) struct World {
    pub(crate) turn: Turn<'static>,
    /// Of the played nodes.
    pub(crate) agents: PlayedAgents,
    /// The profile.
    pub(crate) name: &'static str,
    source: Sources,
    touched: Cell<usize>,
    begun: Instant,
}

/// Where revisions come from.
enum Sources {
    /// Each from the runner image, with real Node.js, by a stage of its own.
    Stages,
    /// Archives whose stand-in for Node.js tells its revision.
    Archives { origin: Origin, digests: BTreeMap<String, String> },
}

/// What a configuration says beside the revisions.
#[derive(Default)]
pub(crate) struct More<'m> {
    /// The revision to offer, if not the last one.
    pub(crate) offer: Option<&'m str>,
    /// Of the rollout, beside what is always set.
    pub(crate) rollout: Value,
    /// Startup taints.
    pub(crate) taints: &'m [&'m str],
}

impl World {
    /// The next turn, with revisions that are staged from the runner image.
    pub(crate) async fn staged(name: &'static str) -> Option<Self> {
        Some(Self::new(super::turn().await?, name, Sources::Stages))
    }

    /// The next turn, with these archives as revisions.
    pub(crate) async fn archived(name: &'static str, revisions: &[&str]) -> Option<Self> {
        let turn = super::turn().await?;
        let archive = |revision: &str| {
            let program = stand_in(&format!("{name} {revision}"));
            let tar = NODE16.iter().fold(Tar::default(), |tar, entry| {
                tar.file(&format!("externals/{entry}/bin/node"), &program, 0o755).file(
                    &format!("externals/{entry}/LICENSE"),
                    b"licence\n",
                    0o644,
                )
            });
            tar.packed("gz")
        };
        let archives: BTreeMap<String, Vec<u8>> =
            revisions.iter().map(|revision| ((*revision).to_owned(), archive(revision))).collect();
        let digests =
            archives.iter().map(|(revision, archive)| (revision.clone(), sha256(archive))).collect();
        let origin = Origin::serve_at(&turn.cluster.host_address(), move |_, asked| {
            let revision = asked.line.rsplit_once('/').and_then(|(_, name)| name.strip_suffix(".tar.gz"));
            let archive = revision.and_then(|revision| archives.get(revision));
            archive.map_or_else(|| Answer::status("404 Not Found"), |archive| Answer::whole(archive))
        })
        .await;
        Some(Self::new(turn, name, Sources::Archives { origin, digests }))
    }

    fn new(turn: Turn<'static>, name: &'static str, source: Sources) -> Self {
        let agents = PlayedAgents::start(&turn.client, played_nodes());
        Self { turn, agents, name, source, touched: Cell::new(0), begun: Instant::now() }
    }

    /// The name under which this test has the runner image.
    pub(crate) fn image(&self) -> String {
        format!("bed.test/runner:{}", self.name)
    }

    fn source(&self, revision: &str) -> Value {
        match &self.source {
            Sources::Stages => json!({ "runnerImage": { "image": self.image() } }),
            Sources::Archives { origin, digests } => {
                let url = format!("{}/{revision}.tar.gz", origin.url);
                let download = json!({ "url": url, "sha256": digests[revision] });
                json!({ "archive": { "path": "externals", "amd64": download, "arm64": download } })
            }
        }
    }

    fn config(&self, revisions: &[&str], more: &More<'_>) -> Value {
        let revisions: Vec<Value> = revisions
            .iter()
            .map(|revision| json!({ "revision": revision, "source": self.source(revision) }))
            .collect();
        let mut profile = json!({
            "name": self.name, "preset": "node16", "images": [self.image()], "revisions": revisions,
        });
        if let Some(offer) = more.offer {
            profile["offer"] = offer.into();
        }
        let mut config = configuration();
        config["profiles"].as_array_mut().unwrap().push(profile);
        config["rollout"] = SOON.iter().map(|(key, seconds)| ((*key).to_owned(), json!(seconds))).collect();
        for (key, value) in more.rollout.as_object().into_iter().flatten() {
            config["rollout"][key] = value.clone();
        }
        config["startupTaints"] = json!(more.taints);
        config
    }

    /// Applies a configuration with these revisions, and waits until whoever is there has it on disk.
    pub(crate) async fn configure(&self, revisions: &[&str], more: More<'_>) {
        let config = self.config(revisions, &more);
        let items = deploy::reconfigured(self.turn.cluster, &config);
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        self.turn.cluster.apply(&list.to_string()).unwrap();
        let pods: Api<Pod> = Api::namespaced(self.turn.client.clone(), OURS);
        let here = ListParams::default().labels(READERS).fields(&format!("spec.nodeName={NODE}"));
        for pod in pods.list(&here).await.unwrap() {
            self.reads(&pods, &pod, &config.to_string()).await;
        }
    }

    /// The kubelet looks at a pod's ConfigMaps at once when the pod changes, and else within a minute.
    async fn reads(&self, pods: &Api<Pod>, pod: &Pod, text: &str) {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap());
        let file = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~configmap/config/config.yaml");
        until(&format!("{name} has the configuration"), || async {
            let is_gone =
                pods.get_opt(&name).await.ok()?.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
            if is_gone || self.turn.cluster.bed().run_inside(&["cat", &file]).ok()? == text {
                return Some(());
            }
            self.touched.set(self.touched.get() + 1);
            let note = format!("bed.test/touched={}", self.touched.get());
            let words = ["annotate", "pod", &name, "--namespace", OURS, "--overwrite", &note];
            let _ = self.turn.cluster.kubectl(&words);
            None
        })
        .await;
    }

    /// The version of a revision.
    pub(crate) fn version(&self, revision: &str) -> VersionName {
        let config = self.config(&[revision], &More::default()).to_string();
        Config::parse(&config).unwrap().revisions().last().unwrap().1.version.clone()
    }

    /// What is published.
    pub(crate) async fn state(&self) -> Option<PublishedState> {
        headstart::published(&self.turn.client).await.ok()
    }

    /// Waits until exactly these revisions of the profile are published, in these phases.
    pub(crate) async fn phases(&self, expected: &[(&str, Phase)]) {
        let mut expected: Vec<(VersionName, Phase)> =
            expected.iter().map(|(revision, phase)| (self.version(revision), *phase)).collect();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        until(&format!("published is {expected:?}"), || async {
            (self.own(&self.state().await?) == expected).then_some(())
        })
        .await;
    }

    /// The profile's versions in a state, by name.
    pub(crate) fn own(&self, state: &PublishedState) -> Vec<(VersionName, Phase)> {
        let own = state.versions.iter().filter(|version| version.name.profile() == self.name);
        let mut own: Vec<_> = own.map(|version| (version.name.clone(), version.phase)).collect();
        own.sort_by(|one, other| one.0.cmp(&other.0));
        own
    }

    /// Waits for an Event of the rollout that says that.
    pub(crate) async fn told(&self, reason: &str, what: &str) {
        until(&format!("the Event {reason}: {what}"), || async {
            let events = played::events(self.turn.cluster, OURS, "headstart-config", reason);
            events.iter().any(|message| message.contains(what)).then_some(())
        })
        .await;
    }

    /// A workflow pod of current hooks, in this test's image.
    pub(crate) fn workflow(&self, name: &str, namespace: &str) -> Value {
        let mut pod = self.fit(&jobs::workflow(WORKFLOW, namespace));
        pod["metadata"]["name"] = name.into();
        pod
    }

    /// The same pod with the runner image by this test's name.
    pub(crate) fn fit(&self, pod: &Value) -> Value {
        let text = pod.to_string().replace(TestImage::Runner.name(), &self.image());
        serde_json::from_str(&text).unwrap()
    }

    /// What is on the real node's disk of the profile.
    pub(crate) fn on_disk(&self) -> Vec<String> {
        let list =
            self.turn.cluster.bed().run_inside(&["ls", "/var/lib/headstart/versions"]).unwrap_or_default();
        let own = |name: &&str| name.rsplit_once('-').is_some_and(|(profile, _)| profile == self.name);
        list.lines().filter(own).map(str::to_owned).collect()
    }

    /// A node as it is.
    pub(crate) async fn node(&self, name: &str) -> Value {
        let nodes: Api<Node> = Api::all(self.turn.client.clone());
        serde_json::to_value(nodes.get(name).await.unwrap()).unwrap()
    }

    /// What a pod's Node.js says, whose stand-in tells its revision.
    pub(crate) fn says(&self, pods: &Pods<'_>, pod: &str, revision: &str) {
        let expected = format!("{} {revision}\n", self.name);
        assert_eq!(pods.exec(pod, NODE_PROGRAM), expected, "{pod} runs Node.js of another version");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        say(&format!("{}: {:.1?}", self.name, self.begun.elapsed()));
    }
}

/// The same pod, on that node.
pub(crate) fn on_node(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeSelector"]["kubernetes.io/hostname"] = node.into();
    pod
}

/// The same pod, on any played node.
pub(crate) fn on_played(mut pod: Value) -> Value {
    pod["spec"]["nodeSelector"][headstart_tests::kwok::PLAYED] = "".into();
    pod["spec"]["tolerations"] = json!([{ "key": headstart_tests::kwok::PLAYED, "operator": "Exists" }]);
    pod
}

/// The same pod, on a node with that label.
pub(crate) fn on_labelled(mut pod: Value, label: &str) -> Value {
    pod["spec"]["nodeSelector"][label] = "".into();
    pod
}
