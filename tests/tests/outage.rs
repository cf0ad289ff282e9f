//! The webhook killed, silent or talking nonsense: a real API server goes on without it, in time, and pods are stored as
//! without Headstart; when it is back, they get the cache again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use headstart_externals::names::NAMESPACE_LABEL;
use headstart_tests::admission::{Answer, again, create, failed_open, namespace};
use headstart_tests::bed::command::say;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::cases::{self, Case};
use headstart_tests::deploy;
use headstart_tests::front::{self, Front, Manner};
use headstart_tests::host_webhook::HostWebhook;
use headstart_tests::stored::{Shown, assert_served, assert_untouched, is_decided};
use headstart_tests::wait::until;
use kube::Client;
use serde_json::Value;

/// What a creation may take beside the wait for the webhook, on a busy machine.
const MARGIN: Duration = Duration::from_secs(3);

/// Creations while the webhook is being killed, and how many of them at once.
const BURST: usize = 60;
const AT_ONCE: usize = 6;

/// Two shapes are enough: none of this depends on what is in a pod.
const FILES: [&str; 2] = ["arc/kubernetes.json", "hooks/v0.8.1/prepare-plain.json"];

/// A cluster with a namespace that asks for the cache, and one that does not.
struct Setup {
    control_plane: ControlPlane,
    client: Client,
    cases: Vec<Case>,
    /// The cases as they are stored without Headstart, under any name.
    stock: Vec<Value>,
    bound: Duration,
    number: Cell<usize>,
}

impl Setup {
    async fn start(minor: Minor) -> Self {
        let control_plane = ControlPlane::start(minor).await.unwrap();
        let client = control_plane.client().await.unwrap();
        let cases: Vec<Case> =
            cases::all().into_iter().filter(|case| FILES.contains(&case.what.as_str())).collect();
        assert_eq!(cases.len(), FILES.len());
        let namespace = namespace(&client, "stock", &[], &cases).await;
        let mut stock = Vec::new();
        for case in &cases {
            stock.push(create(&client, &namespace, &case.object).await.stored(&case.what));
        }
        let bound = timeout(&control_plane) + MARGIN;
        Self { control_plane, client, cases, stock, bound, number: Cell::new(0) }
    }

    /// A namespace that asks for the cache.
    async fn namespace(&self) -> String {
        namespace(&self.client, "served", &[(NAMESPACE_LABEL, "hostpath")], &self.cases).await
    }

    /// Creates a pod of a case and gives it under the name of its stock twin.
    async fn create(&self, namespace: &str, case: &Case) -> Value {
        self.number.set(self.number.get() + 1);
        let object = again(case, self.number.get());
        let begun = Instant::now();
        let answer = create(&self.client, namespace, &object).await;
        let elapsed = begun.elapsed();
        assert!(elapsed < self.bound, "{} took {elapsed:?}, more than {:?}", case.what, self.bound);
        let mut stored = answer.stored(&case.what);
        stored["metadata"]["name"] = case.object["metadata"]["name"].clone();
        stored
    }

    /// Both pods get the cache; after a change that is not in force at once, a moment later.
    async fn are_served(&self, namespace: &str) {
        until("pods get the cache", || async {
            is_decided(&self.create(namespace, &self.cases[0]).await).then_some(())
        })
        .await;
        for (case, stock) in self.cases.iter().zip(&self.stock) {
            assert_served(case, Shown::HostPath, stock, &self.create(namespace, case).await);
        }
    }

    /// Both pods are created in time, as without Headstart, and the API server says that it went on alone.
    async fn are_unchanged(&self, namespace: &str, what: &str) {
        let (before, begun) = (failed_open(&self.client).await, Instant::now());
        for (case, stock) in self.cases.iter().zip(&self.stock) {
            assert_untouched(&case.what, stock, &self.create(namespace, case).await);
        }
        let each = begun.elapsed() / u32::try_from(self.cases.len()).unwrap();
        let failed = failed_open(&self.client).await - before;
        assert_eq!(failed, self.cases.len() as u64, "the API server failed open for each pod: {what}");
        say(&format!("{what}: {:.1} s per pod, fail_open_count up by {failed}", each.as_secs_f64()));
    }
}

/// How long the shipped configuration lets the API server wait.
fn timeout(control_plane: &ControlPlane) -> Duration {
    let objects = deploy::objects(control_plane);
    let ours = objects.iter().filter(|object| object["kind"] == "MutatingWebhookConfiguration");
    let webhooks = ours.flat_map(|object| object["webhooks"].as_array().unwrap());
    let longest = webhooks.map(|webhook| webhook["timeoutSeconds"].as_u64().unwrap()).max().unwrap();
    assert!(longest <= 3, "{longest} s are too long for every pod of an outage");
    Duration::from_secs(longest)
}

/// Kills the webhook while pods are being created: each is stored whole, with the cache or as without Headstart.
async fn kill_during_a_burst(setup: &Setup, namespace: &str, webhook: &mut HostWebhook) {
    let creations = (0..BURST).map(|number| async move {
        let at = number % setup.cases.len();
        (at, setup.create(namespace, &setup.cases[at]).await)
    });
    let mut creations = stream::iter(creations).buffer_unordered(AT_ONCE);
    let (mut served, mut untouched) = (0, 0);
    while let Some((at, stored)) = creations.next().await {
        let (case, stock) = (&setup.cases[at], &setup.stock[at]);
        if is_decided(&stored) {
            assert_served(case, Shown::HostPath, stock, &stored);
            served += 1;
        } else {
            assert_untouched(&case.what, stock, &stored);
            untouched += 1;
        }
        if served + untouched == BURST / 3 {
            webhook.process.kill();
        }
    }
    assert!(served >= BURST / 3 && untouched > 0, "{served} served, {untouched} unchanged");
    say(&format!("killed during {BURST} creations: {served} served, {untouched} unchanged"));
}

async fn killed_and_back(minor: Minor) {
    let setup = Setup::start(minor).await;
    let mut webhook = HostWebhook::start(&cases::configuration()).await;
    webhook.register(&setup.control_plane, &webhook.url());
    let namespace = setup.namespace().await;
    setup.are_served(&namespace).await;
    kill_during_a_burst(&setup, &namespace, &mut webhook).await;
    setup.are_unchanged(&namespace, "killed").await;
    webhook.start_again().await;
    setup.are_served(&namespace).await;
}

#[tokio::test]
async fn the_oldest_api_server_goes_on_without_a_killed_webhook_and_returns_to_it() {
    killed_and_back(Minor::Oldest).await;
}

#[tokio::test]
async fn the_newest_api_server_goes_on_without_a_killed_webhook_and_returns_to_it() {
    killed_and_back(Minor::Newest).await;
}

#[tokio::test]
async fn a_webhook_that_misbehaves_holds_up_no_pod_and_changes_none() {
    let setup = Setup::start(Minor::Newest).await;
    let webhook = HostWebhook::start(&cases::configuration()).await;
    let front = Front::start(&webhook.tls(), &webhook.url()).await;
    webhook.register(&setup.control_plane, &front.url());
    let namespace = setup.namespace().await;
    setup.are_served(&namespace).await;
    for (what, manner) in [
        ("silent", Manner::Silent),
        ("silent after the handshake", Manner::SilentAfterHandshake),
        ("no TLS", Manner::Babbling),
        ("random bytes", Manner::Answering(front::noise)),
        ("an error", Manner::Answering(front::error)),
        ("a web page", Manner::Answering(front::page)),
        ("the answer to another request", Manner::Answering(front::of_another)),
        ("an answer that is cut off", Manner::Answering(front::cut_off)),
        ("an answer that ends within its patch", Manner::Answering(front::half_a_patch)),
        ("an answer with half of a patch in it", Manner::Answering(front::torn_patch)),
        ("dead during the request", Manner::Answering(front::dead)),
    ] {
        front.behave(manner);
        setup.are_unchanged(&namespace, what).await;
        front.behave(Manner::Answering(front::as_it_is));
        setup.are_served(&namespace).await;
    }
    // What failing open does not cover: a patch that can be read but not applied. This is why the webhook records a patch
    // while it makes the edits, and why properties hold it against another implementation.
    front.behave(Manner::Answering(front::misplaced_patch));
    let answer = create(&setup.client, &namespace, &setup.cases[0].object).await;
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
}
