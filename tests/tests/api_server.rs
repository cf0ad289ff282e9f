//! Every recorded pod against real API servers, the oldest and the newest: stored with the cache and otherwise as without
//! Headstart, also where another webhook appends containers before or after; or refused with the same words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use headstart_externals::names::{DECISION_ANNOTATION, NAMESPACE_LABEL, TEMPLATE_ANNOTATION};
use headstart_tests::admission::{Answer, again, create, create_all, namespace};
use headstart_tests::appender::Appender;
use headstart_tests::bed::command::say;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::cases::{self, Case};
use headstart_tests::fixtures;
use headstart_tests::host_webhook::HostWebhook;
use headstart_tests::stored::{Shown, assert_mounted, assert_served, assert_untouched, is_decided};
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

/// Pods that name a volume which is not there: the API server refuses them with or without us.
const BROKEN: [&str; 2] =
    ["hooks/v0.8.0/prepare-template-volumes-sidecar.json", "hooks/v0.8.0/step-template.json"];

/// Names of configurations, by which the API server calls the appender before Headstart's webhook or after it.
const FIRST: &str = "aa.appender.test";
const LAST: &str = "zz.appender.test";

/// What is decided over the recorded pods, and how many of them there are at least.
const DECISIONS: [(&str, usize); 6] = [
    ("runner-dind/mounted", 6),
    ("runner-older/lean", 3),
    ("runner-legacy/lean", 2),
    ("runner-legacy/paired", 1),
    ("workflow-current/mounted", 25),
    ("workflow-legacy/mounted", 25),
];

/// A cluster whose API server calls the webhook and the appender.
struct Setup {
    _control_plane: ControlPlane,
    client: Client,
    webhook: HostWebhook,
    cases: Vec<Case>,
    _appender: Appender,
}

/// The cases as one namespace got them.
struct Stored {
    namespace: String,
    answers: Vec<Answer>,
}

impl Setup {
    async fn start(minor: Minor) -> Self {
        let control_plane = ControlPlane::start(minor).await.unwrap();
        let client = control_plane.client().await.unwrap();
        let (webhook, appender) =
            (HostWebhook::start(&cases::configuration()).await, Appender::start().await);
        webhook.register(&control_plane, &webhook.url());
        for name in [FIRST, LAST] {
            control_plane.apply(&appender.configuration(name).to_string()).unwrap();
        }
        Self { _control_plane: control_plane, client, webhook, cases: cases::all(), _appender: appender }
    }

    /// Creates all cases in a namespace of its own, with Headstart if it is wanted there, and with the appender.
    async fn create(&self, name: &str, headstart: bool, appender: Option<&str>) -> Stored {
        let opted_in = headstart.then_some((NAMESPACE_LABEL, "hostpath"));
        let labels: Vec<_> = opted_in.into_iter().chain(appender.map(Appender::label)).collect();
        let namespace = namespace(&self.client, name, &labels, &self.cases).await;
        self.in_force(&namespace, headstart, appender.is_some()).await;
        let answers = create_all(&self.client, &namespace, &self.cases).await;
        Stored { namespace, answers }
    }

    /// API servers take over new configurations and namespaces a moment later.
    async fn in_force(&self, namespace: &str, headstart: bool, appender: bool) {
        let case = self.cases.iter().find(|case| case.decision.is_some()).unwrap();
        let number = std::cell::Cell::new(0);
        until("the webhooks are called", || async {
            number.set(number.get() + 1);
            let pod = create(&self.client, namespace, &again(case, number.get())).await.stored(&case.what);
            let appended = pod["spec"]["containers"].to_string().contains("appended-");
            (is_decided(&pod) == headstart && appended == appender).then_some(())
        })
        .await;
    }

    /// The workflow pod that the hook makes for a runner that was paired: merged with the runner's template.
    fn job_of_paired(&self, served: &Stored) -> Case {
        let at = self.cases.iter().position(|case| case.profile == "paired").unwrap();
        let runner = served.answers[at].clone().stored("a paired runner");
        let template = runner["metadata"]["annotations"][TEMPLATE_ANNOTATION].as_str().unwrap();
        let template: Value = serde_json::from_str(template).unwrap();
        let mut pod = fixtures::read("hooks/v0.7.0/prepare-plain.json");
        let labels = template["metadata"]["labels"].as_object().unwrap().clone();
        pod["metadata"]["labels"].as_object_mut().unwrap().extend(labels);
        for list in ["/spec/volumes", "/spec/containers/0/volumeMounts"] {
            let more = template.pointer(list).unwrap().as_array().unwrap().clone();
            pod.pointer_mut(list).unwrap().as_array_mut().unwrap().extend(more);
        }
        let what = format!("the workflow pod of a paired runner in {}", served.namespace);
        Case { profile: "paired", ..Case::new(&what, pod) }
    }

    /// Holds what was stored with Headstart against what was stored without.
    async fn compare(&self, stock: &Stored, served: &Stored, left_alone: &[&str]) {
        let mut decisions: BTreeMap<&str, usize> = BTreeMap::new();
        for (case, answers) in self.cases.iter().zip(stock.answers.iter().zip(&served.answers)) {
            match answers {
                (Answer::Refused(stock), Answer::Refused(ours)) => {
                    assert!(BROKEN.contains(&case.what.as_str()), "{}: {stock}", case.what);
                    assert_eq!(stock, ours, "{}", case.what);
                }
                (Answer::Stored(stock), Answer::Stored(ours)) => {
                    assert!(!BROKEN.contains(&case.what.as_str()), "{} should be refused", case.what);
                    let wanted = case.decision.filter(|decision| !left_alone.contains(decision));
                    let Some(decision) = wanted else {
                        assert_untouched(&case.what, stock, ours);
                        continue;
                    };
                    assert_served(case, Shown::HostPath, stock, ours);
                    *decisions.entry(decision).or_default() += 1;
                }
                (stock, ours) => panic!("{}: {stock:?} without Headstart, {ours:?} with it", case.what),
            }
        }
        for (decision, least) in DECISIONS.into_iter().filter(|(decision, _)| !left_alone.contains(decision))
        {
            assert!(
                decisions.get(decision).is_some_and(|found| *found >= least),
                "{decision}: {decisions:?}"
            );
        }
        let job = self.job_of_paired(served);
        let [stock, ours] =
            [stock, served].map(|stored| create(&self.client, &stored.namespace, &job.object));
        let (stock, ours) = (stock.await.stored(&job.what), ours.await.stored(&job.what));
        assert_mounted(&job, Shown::HostPath, &stock, &ours);
    }
}

/// The pods that the Job controller makes of recorded Jobs come without a mark, and stay as they are.
async fn pods_of_jobs_are_unchanged(client: &Client, served: &Stored, jobs: usize) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &served.namespace);
    let of_jobs = ListParams::default().labels("batch.kubernetes.io/job-name");
    let pods = until("every Job has its pod", || async {
        let pods = pods.list(&of_jobs).await.unwrap().items;
        (pods.len() == jobs).then_some(pods)
    })
    .await;
    for pod in pods {
        assert!(!pod.annotations().contains_key(DECISION_ANNOTATION), "{}", pod.name_any());
    }
}

async fn every_recorded_pod_is_stored_as_it_should_be(minor: Minor) {
    let setup = Setup::start(minor).await;
    let stock = setup.create("stock", false, None).await;
    let served = setup.create("served", true, None).await;
    setup.compare(&stock, &served, &[]).await;
    let jobs = setup.cases.iter().filter(|case| case.object["kind"] == "Job").count();
    assert!(jobs > 5, "{jobs}");
    pods_of_jobs_are_unchanged(&setup.client, &served, jobs).await;

    let stock = setup.create("appended", false, Some(LAST)).await;
    let before = setup.create("appended-before", true, Some(FIRST)).await;
    // What shares the runner's folder may be a Docker daemon.
    setup.compare(&stock, &before, &["runner-older/lean"]).await;
    let again = setup.webhook.decided("/completed");
    let after = setup.create("appended-after", true, Some(LAST)).await;
    setup.compare(&stock, &after, &[]).await;
    let again = setup.webhook.decided("/completed") - again;
    let stored = |answer: &Answer| matches!(answer, Answer::Stored(pod) if is_decided(pod));
    let served = after.answers.iter().filter(|answer| stored(answer)).count();
    assert!(again >= served, "called again for {again} of {served} pods that were changed after us");
    let all = setup.cases.len();
    say(&format!("{minor:?}: {all} cases three times, {served} of them served; called again for {again}"));
}

#[tokio::test]
async fn the_oldest_api_server_stores_every_recorded_pod_as_it_should_be() {
    every_recorded_pod_is_stored_as_it_should_be(Minor::Oldest).await;
}

#[tokio::test]
async fn the_newest_api_server_stores_every_recorded_pod_as_it_should_be() {
    every_recorded_pod_is_stored_as_it_should_be(Minor::Newest).await;
}
