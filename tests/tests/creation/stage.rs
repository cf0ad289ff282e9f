//! What every scenario begins with, and how each has to end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_externals::pin::Stored;
use headstart_tests::actions_service::{ActionsService, Endpoint};
use headstart_tests::arc::either::{Either, EitherSet};
use headstart_tests::arc::scenario::Scenario;
use headstart_tests::arc::timeline::Milestone;
use headstart_tests::arc::{Asked, IsSetUp, RUNNER_SETS, Runs, Tuning, UnderTest, api, namespace};
use headstart_tests::bed::command::say;
use headstart_tests::bed::{ControlPlane, Minor, TestNamespace};
use headstart_tests::companion::{Companion, metric};
use headstart_tests::depth::is_full;
use headstart_tests::played::OURS;
use headstart_tests::process::Process;
use headstart_tests::wait::{until, within};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Longest wait for an end that comes by itself: at ARC's own pace, or, where a leader's call is carried out long after its
/// successor has looked, when names that were absent are looked for once more, five minutes later.
pub(crate) const PATIENCE: Duration = Duration::from_secs(400);

/// How long nothing may change for an end to be one: in full depth longer than ARC takes to come back to anything.
fn calm() -> Duration {
    Duration::from_secs(if is_full() { 6 } else { 1 })
}

/// A poll that ends empty makes the listener write again, without a generation: soon enough for whoever waits for that.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(6);

/// No such write comes.
pub(crate) const QUIET: Duration = Duration::from_secs(50);

/// Flags of a controller that is caught in the middle of a batch.
pub(crate) const SLOW: &[&str] = &["--runner-creation-concurrency=4"];

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
static TURN: Mutex<()> = Mutex::const_new(());

/// A test's turn on the one cluster of all tests, with an ARC, a service and a webhook of its own.
pub(crate) struct Stage {
    pub(crate) control_plane: &'static ControlPlane,
    pub(crate) client: Client,
    pub(crate) companion: Companion<'static>,
    pub(crate) service: Arc<ActionsService>,
    arc: Either<'static>,
    _manager: Box<dyn Runs>,
    _turn: MutexGuard<'static, ()>,
}

/// A scale set that is followed.
pub(crate) struct Watched<'s> {
    pub(crate) set: EitherSet<'static>,
    pub(crate) scenario: Scenario<'s>,
    pub(crate) namespace: TestNamespace<'static>,
    stage: &'s Stage,
}

async fn shared() -> ControlPlane {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    Either::install(&control_plane).await;
    Companion::apply(&control_plane);
    control_plane
}

/// Whether tests run that take long, or say little that others do not; it is said if not.
pub(crate) fn all_are_tried() -> bool {
    if !is_full() {
        say("skipped: only in full depth");
    }
    is_full()
}

/// Takes the Lease away, which a leader that was killed keeps for a while.
pub(crate) fn forget_leader(control_plane: &ControlPlane) {
    let lease = ["delete", "lease", "headstart-controller", "--ignore-not-found", "--namespace", OURS];
    control_plane.kubectl(&lease).unwrap();
}

impl Stage {
    /// One for a test that runs in full depth only.
    pub(crate) async fn in_full_depth() -> Option<Self> {
        if all_are_tried() { Some(Self::new().await) } else { None }
    }

    pub(crate) async fn new() -> Self {
        let turn = TURN.lock().await;
        let control_plane = SHARED.get_or_init(shared).await;
        forget_leader(control_plane);
        let companion = Companion::there(control_plane).await;
        let service = Arc::new(ActionsService::start().await);
        service.with(|service, _| service.eager = false);
        service.set_hold(QUIET);
        let arc = Either::there(control_plane, &service).await;
        let client = control_plane.client().await.unwrap();
        let manager = arc.manager(Tuning::Default);
        Self { control_plane, client, companion, service, arc, _manager: manager, _turn: turn }
    }

    /// A replica of the controller that leads.
    pub(crate) async fn leader(&self, identity: &str, flags: &[&str]) -> Process {
        let controller = self.companion.controller(identity, flags);
        controller.says("leading").await;
        controller
    }

    /// A scale set in a namespace of its own, for which nobody asks for anything yet.
    pub(crate) async fn plain(&self) -> Watched<'_> {
        let namespace = namespace(self.control_plane, "runners", &[]).await;
        let url = self.service.config_url();
        let name = format!("set-of-{}", namespace.name());
        let asked = Asked { namespace: namespace.name(), name: &name, url: &url, at_least: 0, at_most: 1000 };
        let set = self.arc.scale_set(&asked).await;
        let scenario = Scenario::follow(&self.service, &self.client, namespace.name(), &name).await;
        let is_idle = || async { (!scenario.timeline.generations().is_empty()).then_some(()) };
        until("the set is seen", is_idle).await;
        Watched { set, scenario, namespace, stage: self }
    }

    /// The same, enabled by the label of its namespace; the webhook knows it once `leader` is there.
    pub(crate) async fn enabled(&self) -> Watched<'_> {
        let watched = self.plain().await;
        self.companion.enable(watched.namespace.name());
        watched
    }

    /// A scale set for which so many runners are being made by the leader `one`, of which some are there: slowly enough to
    /// break something.
    pub(crate) async fn amid(&self, runners: usize, there: usize) -> Watched<'_> {
        let it = self.poised().await;
        it.scenario.ask(runners);
        it.scenario.is_amid(there).await;
        assert!(it.was_pinned());
        it
    }

    /// A scale set for which runners will be made so slowly by the leader `one`.
    pub(crate) async fn poised(&self) -> Watched<'_> {
        let it = self.enabled().await;
        self.companion.pins("one", 1).await;
        self.registrations_take(400);
        it
    }

    /// Registrations take that long.
    pub(crate) fn registrations_take(&self, milliseconds: u64) {
        let latency = Duration::from_millis(milliseconds);
        self.service.with(|service, _| service.faults.set_latency(Endpoint::GenerateJitConfig, latency));
    }

    /// How many scale-ups the webhook has left to the controller.
    pub(crate) fn pinned(&self) -> usize {
        self.companion.webhook.decided("pinned")
    }

    /// Ends a leader so that the next one need not wait for its Lease to run out.
    pub(crate) async fn retire(mut controller: Process) {
        controller.terminate();
        assert!(controller.ended().await.success());
    }
}

impl Watched<'_> {
    /// Waits for exactly so many runners, each with its Secret, Pod and registration, and for ARC to have its set back and
    /// all of them counted.
    pub(crate) async fn settles(&self, runners: usize) {
        self.comes_to_rest(runners, runners).await;
    }

    /// As [`Self::settles`], where so many were asked for and perhaps others are there.
    pub(crate) async fn comes_to_rest(&self, asked: usize, runners: usize) {
        let Self { scenario, .. } = self;
        scenario.settles(runners, PATIENCE).await;
        self.is_raw(asked).await;
        let is_counted = || async { (self.counted().await == runners).then_some(()) };
        if within(PATIENCE, is_counted).await.is_none() {
            panic!("ARC counts {} runners and not {runners}", self.counted().await);
        }
        let is_clean = || async {
            self.secrets_are_owned().await?;
            self.journals_are_settled()
        };
        let clean = within(PATIENCE, is_clean).await;
        assert!(clean.is_some(), "a Secret without its runner, or a name of a journal that is half there");
        let changed =
            within(calm(), || async { (scenario.timeline.live(Milestone::Runner) != runners).then_some(()) });
        assert_eq!(changed.await, None, "it goes on");
    }

    /// Waits until ARC has the set, with so many runners asked for.
    pub(crate) async fn is_raw(&self, runners: usize) {
        let (raw, timeline) = (i64::try_from(runners).unwrap(), &self.scenario.timeline);
        let is_raw = || async {
            let last = timeline.generations().pop()?;
            matches!(last, Stored::Raw { replicas, .. } if replicas == raw).then_some(())
        };
        if within(PATIENCE, is_raw).await.is_none() {
            panic!("ARC has not got {raw} runners back: {:?}", timeline.generations());
        }
    }

    /// Waits until at least so many runners are there and no more come; gives how many.
    pub(crate) async fn comes_to_at_least(&self, runners: usize) -> usize {
        let timeline = &self.scenario.timeline;
        let ever = || timeline.ever(Milestone::Runner);
        let rested = within(PATIENCE, || async {
            let before = ever();
            let grows = within(calm(), || async { (ever() != before).then_some(()) }).await.is_some();
            (!grows && timeline.live(Milestone::Runner) >= runners).then_some(())
        });
        assert!(rested.await.is_some(), "{} runners", timeline.live(Milestone::Runner));
        timeline.live(Milestone::Runner)
    }

    /// How many runners ARC has counted in its set.
    async fn counted(&self) -> usize {
        let sets = api(&self.stage.client, self.namespace.name(), RUNNER_SETS);
        let set = sets.get(self.set.runner_set()).await.unwrap();
        set.data["status"]["currentReplicas"].as_u64().unwrap_or(0).try_into().unwrap()
    }

    /// As [`Self::settles`], and never were there more, nor any other; and the last generation is the listener's own.
    pub(crate) async fn settles_exactly(&self, runners: usize) {
        self.settles(runners).await;
        self.scenario.was_exact(runners);
        let last = self.scenario.timeline.generations().pop();
        assert!(matches!(last, Some(Stored::Raw { patch_id: 1.., .. })), "{last:?}");
    }

    /// As [`Self::settles`], and nobody ever made any other runner. What was registered and nobody heard of, or a leader
    /// that died could store nowhere, may have been removed and registered anew: nobody is told twice how such a runner is
    /// started.
    pub(crate) async fn settles_without_others(&self, runners: usize) {
        self.settles(runners).await;
        self.scenario.made_no_other(runners);
    }

    /// As [`Self::settles`] after a batch that ended early, or calls that were carried out late: what was begun was unmade, but
    /// no EphemeralRunner was ever there beside those that are.
    pub(crate) async fn settles_after_a_part(&self, runners: usize) {
        self.settles(runners).await;
        assert_eq!(self.scenario.timeline.ever(Milestone::Runner), runners);
    }

    async fn secrets_are_owned(&self) -> Option<()> {
        let secrets: Api<Secret> = Api::namespaced(self.stage.client.clone(), self.namespace.name());
        let ours = secrets.list(&ListParams::default().labels(RUNNER_SET_LABEL)).await.ok()?;
        let owned = |secret: &Secret| secret.metadata.owner_references.iter().flatten().count() == 1;
        ours.iter().all(owned).then_some(())
    }

    /// Journals outlive their names by minutes where some of those came to nothing; none tells of anything half made.
    fn journals_are_settled(&self) -> Option<()> {
        let at = |milestone| self.scenario.timeline.names(milestone);
        let (runners, secrets) = (at(Milestone::Runner), at(Milestone::Secret));
        let is_settled = |name: &str| {
            let is_registered = self.stage.service.with(|service, _| service.agent(name).is_some());
            let there = [runners.contains(name), secrets.contains(name), is_registered];
            there == [true; 3] || there == [false; 3]
        };
        let names = self.journaled();
        names.iter().all(|name| is_settled(name)).then_some(())
    }

    /// The names in the journals of this set's namespace.
    pub(crate) fn journaled(&self) -> BTreeSet<String> {
        let journals = self.stage.companion.journals();
        let read = |journal: &Value| {
            let text = journal["data"]["journal.json"].as_str().unwrap();
            let journal: Value = serde_json::from_str(text).unwrap();
            (journal["namespace"] == self.namespace.name()).then_some(journal)
        };
        let names = |journal: Value| {
            let names = journal["runners"].as_array().unwrap().clone();
            names.into_iter().map(|name| name.as_str().unwrap().to_owned())
        };
        journals.iter().filter_map(read).flat_map(names).collect()
    }

    /// Waits until no journal of it is left.
    pub(crate) async fn has_no_journal(&self) {
        until("no journal is left", || async { self.journaled().is_empty().then_some(()) }).await;
    }

    /// Whether all of these runners are there.
    pub(crate) fn has(&self, names: &BTreeSet<String>) -> bool {
        self.scenario.timeline.names(Milestone::Runner).is_superset(names)
    }

    /// Whether a generation of it was ever stored pinned.
    pub(crate) fn was_pinned(&self) -> bool {
        let generations = self.scenario.timeline.generations();
        generations.iter().any(|stored| matches!(stored, Stored::Pinned(_)))
    }

    /// Waits until such an Event tells of its AutoscalingRunnerSet; gives what it says.
    pub(crate) async fn tells(&self, reason: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.stage.client.clone(), self.namespace.name());
        until(&format!("an Event {reason}"), || async {
            let all = events.list(&ListParams::default()).await.ok()?;
            let found = all.into_iter().find(|event| event.reason.as_deref() == Some(reason))?;
            let about = found.regarding.unwrap_or_default();
            assert_eq!(about.kind.as_deref(), Some("AutoscalingRunnerSet"));
            Some(found.note.unwrap_or_default())
        })
        .await
    }

    /// Everything idle goes; then the scale set itself, and nothing of it is left anywhere.
    pub(crate) async fn ends(self) {
        self.scenario.cancel_waiting();
        let Self { set, scenario, namespace, stage } = self;
        set.delete().await;
        scenario.settles(0, PATIENCE).await;
        let left =
            stage.service.with(|service, _| service.sets().filter(|set| set.id == scenario.id()).count());
        assert_eq!(left, 0, "the service still knows the scale set of {}", namespace.name());
    }
}

/// Waits until a series of a program has a value.
pub(crate) async fn counts(process: &Process, series: &str, value: f64) {
    let found = within(Duration::from_secs(20), || async {
        (metric(process, series).await.unwrap_or_default() == value).then_some(())
    });
    if found.await.is_none() {
        panic!("{series} is {:?} and not {value}", metric(process, series).await);
    }
}
