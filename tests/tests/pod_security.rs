//! Namespaces with Pod Security: no pod is ever given a hostPath where that is forbidden; it gets an image volume where the
//! API server supports those, and stays as it is elsewhere. With the shipped controller, which finds out what works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use headstart_externals::names::NAMESPACE_LABEL;
use headstart_externals::state::{MountKind, PublishedState};
use headstart_tests::admission::{Answer, again, create, create_all, namespace};
use headstart_tests::bed::command::say;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::cases::{self, Case};
use headstart_tests::installed::Installed;
use headstart_tests::stored::{Shown, assert_served, assert_untouched, is_decided};
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// The label by which a namespace says what is enforced.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What a namespace may enforce.
const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

/// How a namespace may opt in.
const KINDS: [&str; 3] = ["auto", "image", "hostpath"];

/// Creations while a label is changed, how many of them at once, and those after it was known, which must all follow it.
const DURING: usize = 80;
const AT_ONCE: usize = 8;
const AFTER: usize = 20;

struct Setup {
    installed: Installed,
    client: Client,
    cases: Vec<Case>,
    /// The cases as they are stored without Headstart.
    stock: Vec<Value>,
    has_image_volumes: bool,
}

impl Setup {
    async fn start(minor: Minor) -> Self {
        let control_plane = ControlPlane::start(minor).await.unwrap();
        let client = control_plane.client().await.unwrap();
        let served = cases::all().into_iter().filter(|case| case.decision.is_some());
        // The API server refuses this one anywhere: it names a volume that is not there.
        let whole = served.filter(|case| case.what != "hooks/v0.8.0/prepare-template-volumes-sidecar.json");
        let cases: Vec<Case> = whole.map(Case::hardened).collect();
        let namespace = namespace(&client, "stock", &[(ENFORCE, "restricted")], &cases).await;
        let answers = create_all(&client, &namespace, &cases).await;
        let stock = cases.iter().zip(answers).map(|(case, answer)| answer.stored(&case.what)).collect();
        let installed = Installed::start(control_plane).await;
        Self { installed, client, cases, stock, has_image_volumes: minor == Minor::Newest }
    }

    async fn namespace(&self, name: &str, kind: &str, level: &str) -> String {
        let labels = [(NAMESPACE_LABEL, kind), (ENFORCE, level)];
        namespace(&self.client, name, &labels, &self.cases).await
    }

    /// How pods are served in a namespace; `None` if they must stay as they are.
    fn expected(&self, kind: &str, level: &str) -> Option<Shown> {
        let image = self.has_image_volumes.then_some(Shown::Image);
        match (kind, level) {
            ("hostpath" | "auto", "privileged") => Some(Shown::HostPath),
            ("hostpath", _) => None,
            _ => image,
        }
    }

    /// The controller has found out what does not work in the namespace.
    async fn is_refused(&self, namespace: &str) {
        let refusal = |line: &Value| {
            line["message"] == "pods would be refused with this volume kind; they stay unchanged"
                && line["namespace"] == namespace
        };
        until(&format!("the controller has tried {namespace}"), || async {
            self.installed.controller.log().iter().any(refusal).then_some(())
        })
        .await;
        let allowed = |kind| self.installed.state().is_some_and(|state| state.allows(namespace, kind));
        assert!(!allowed(MountKind::HostPath) && !allowed(MountKind::Image), "{namespace}");
    }

    /// The controller has published what works in the namespace, and the webhook acts on it.
    async fn is_served(&self, namespace: &str, shown: Shown) {
        let kind = if shown == Shown::Image { MountKind::Image } else { MountKind::HostPath };
        let allows = |state: &PublishedState| state.allows(namespace, kind);
        until(&format!("{kind} is allowed in {namespace}"), || async {
            self.installed.state().filter(allows)
        })
        .await;
        let number = Cell::new(0);
        until(&format!("pods of {namespace} get the cache"), || async {
            number.set(number.get() + 1);
            let pod = create(&self.client, namespace, &again(&self.cases[0], number.get())).await;
            is_decided(&pod.stored(&self.cases[0].what)).then_some(())
        })
        .await;
    }

    /// Every case in a namespace that opted in like that.
    async fn every_case(&self, kind: &str, level: &str) {
        let (namespace, expected) =
            (self.namespace(&format!("{kind}-{level}"), kind, level).await, self.expected(kind, level));
        let asks_in_vain = expected.is_none() && kind != "hostpath";
        match expected {
            Some(shown) => self.is_served(&namespace, shown).await,
            None if asks_in_vain => self.is_refused(&namespace).await,
            None => {}
        }
        let answers = create_all(&self.client, &namespace, &self.cases).await;
        for ((case, stock), answer) in self.cases.iter().zip(&self.stock).zip(answers) {
            let stored = answer.stored(&format!("{} in {}", case.what, &namespace));
            match expected {
                Some(shown) => assert_served(case, shown, stock, &stored),
                None => assert_untouched(&case.what, stock, &stored),
            }
        }
        let decisions = self.installed.decisions(&namespace);
        if asks_in_vain {
            // What a program says arrives a moment later.
            until("every refusal is in the log", || async {
                let decisions = self.installed.decisions(&namespace);
                let refused = decisions.iter().filter(|decision| decision.ends_with("/kind-refused"));
                (refused.count() >= self.cases.len()).then_some(())
            })
            .await;
        } else if expected.is_none() {
            assert!(decisions.is_empty(), "the webhook is not even called: {decisions:?}");
        }
        let how = expected.map_or("as they are".to_owned(), |shown| format!("{shown:?}"));
        say(&format!("{kind} where {level} is enforced: {} pods, {how}", self.cases.len()));
    }

    /// A namespace begins to enforce `restricted` while pods are created in it.
    async fn label_change(&self, kind: &str) {
        let namespace = self.namespace(&format!("{kind}-turns-strict"), kind, "privileged").await;
        self.is_served(&namespace, Shown::HostPath).await;
        let create = |number: usize| {
            let (object, namespace) = (again(&self.cases[0], number), &namespace);
            async move { (Instant::now(), create(&self.client, namespace, &object).await) }
        };
        let change = async {
            let label = json!({ "metadata": { "labels": { ENFORCE: "restricted" } } });
            let namespaces: Api<Namespace> = Api::all(self.client.clone());
            namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
            Instant::now()
        };
        let during = stream::iter((0..DURING).map(|at| create(1000 + at))).buffered(AT_ONCE);
        let (changed, during) = futures::join!(change, during.collect::<Vec<_>>());
        let mut seen = Seen::default();
        for (begun, answer) in &during {
            seen.add(*begun > changed, answer);
        }
        // The API server's own cache of namespaces is a moment behind.
        let number = Cell::new(2000);
        until("the API server knows the new label", || async {
            number.set(number.get() + 1);
            let (_, answer) = create(number.get()).await;
            is_without(&answer).then_some(())
        })
        .await;
        for at in 0..AFTER {
            let (_, answer) = create(3000 + at).await;
            assert!(is_without(&answer), "served although the label was known: {answer:?}");
        }
        say(&format!("{kind}, {DURING} creations during the change: {seen:?}"));
    }
}

/// What came of creations while a label was changed.
#[derive(Debug, Default)]
struct Seen {
    host_paths: usize,
    host_paths_begun_after: usize,
    refused: usize,
    refused_begun_after: usize,
    without: usize,
}

impl Seen {
    fn add(&mut self, begun_after: bool, answer: &Answer) {
        match answer {
            Answer::Stored(pod) if has_host_path(pod) && begun_after => self.host_paths_begun_after += 1,
            Answer::Stored(pod) if has_host_path(pod) => self.host_paths += 1,
            Answer::Stored(_) => self.without += 1,
            // Between the two looks that the API server takes at the namespace: before its webhooks, and after.
            Answer::Refused(words) => {
                assert!(words.contains("violates PodSecurity"), "{words}");
                let counter = if begun_after { &mut self.refused_begun_after } else { &mut self.refused };
                *counter += 1;
            }
        }
    }
}

/// Whether a pod was created without a hostPath.
fn is_without(answer: &Answer) -> bool {
    matches!(answer, Answer::Stored(pod) if !has_host_path(pod))
}

fn has_host_path(pod: &Value) -> bool {
    pod["spec"]["volumes"].as_array().unwrap().iter().any(|volume| volume["hostPath"].is_object())
}

async fn pod_security_is_respected(minor: Minor) {
    let setup = Setup::start(minor).await;
    for level in LEVELS {
        for kind in KINDS {
            setup.every_case(kind, level).await;
        }
    }
    for kind in ["hostpath", "auto"] {
        setup.label_change(kind).await;
    }
}

#[tokio::test]
async fn where_image_volumes_are_dropped_silently_pods_stay_whole() {
    pod_security_is_respected(Minor::Oldest).await;
}

#[tokio::test]
async fn where_a_host_path_is_forbidden_pods_get_an_image_volume() {
    pod_security_is_respected(Minor::Newest).await;
}
