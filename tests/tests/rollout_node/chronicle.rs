//! What was published while a test ran, in order, and that it was right at every time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headstart_externals::names::VERSION_LABEL;
use headstart_externals::state::{Phase, PublishedState};
use headstart_externals::version::VersionName;
use headstart_tests::bed::headstart;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinHandle;
use tokio::time::interval;

/// How often the state is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How much later than a webhook it may see what is published, on a busy machine.
const BEHIND: Duration = Duration::from_secs(2);

/// Everything that was published since it began.
pub(crate) struct Chronicle {
    written: Arc<Mutex<Written>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Written {
    states: Vec<(Instant, PublishedState)>,
    wrong: Vec<String>,
}

impl Chronicle {
    /// Begins with what is published now.
    pub(crate) fn begin(client: &Client) -> Self {
        let written = Arc::<Mutex<Written>>::default();
        let task = tokio::spawn(follow(client.clone(), written.clone()));
        Self { written, task }
    }

    /// The phases that a version went through; `None` where it was not published.
    pub(crate) fn life(&self, version: &VersionName) -> Vec<Option<Phase>> {
        let states = self.states();
        let mut life: Vec<_> = states.iter().map(|(_, state)| phase_of(state, version)).collect();
        life.dedup();
        life
    }

    /// All states with the time when they were seen.
    pub(crate) fn states(&self) -> Vec<(Instant, PublishedState)> {
        self.written.lock().unwrap().states.clone()
    }

    /// Whether new pods could rightly be given a version at some time between the two.
    pub(crate) fn was_offered(&self, version: &str, from: Instant, to: Instant) -> bool {
        let states = self.states();
        let ends = states.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
        let mut lives = states
            .iter()
            .zip(ends)
            .filter(|((begun, _), end)| *begun <= to + BEHIND && end.is_none_or(|end| end >= from));
        lives.any(|((_, state), _)| {
            let offered = |known: &&_| is_offered(known, version);
            state.versions.iter().any(|known| offered(&known))
        })
    }

    /// Fails if anything was published that must not be.
    pub(crate) fn was_right(&self) {
        let wrong = std::mem::take(&mut self.written.lock().unwrap().wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

impl Drop for Chronicle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_offered(known: &headstart_externals::state::PublishedVersion, version: &str) -> bool {
    known.name.as_str() == version && known.phase == Phase::Offered
}

fn phase_of(state: &PublishedState, version: &VersionName) -> Option<Phase> {
    state.versions.iter().find(|known| known.name == *version).map(|known| known.phase)
}

async fn follow(client: Client, written: Arc<Mutex<Written>>) {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        let Ok(state) = headstart::published(&client).await else { continue };
        let at = Instant::now();
        let before = written.lock().unwrap().states.last().map(|(_, before)| before.clone());
        if before.as_ref() == Some(&state) {
            continue;
        }
        let mut wrong = Vec::new();
        if let Some(before) = before.filter(|before| before.generation >= state.generation) {
            wrong.push(format!("generation {} after {}", state.generation, before.generation));
        }
        wrong.extend(retired_in_use(&client, &state).await);
        let mut written = written.lock().unwrap();
        written.states.push((at, state));
        written.wrong.extend(wrong);
    }
}

/// Unfinished pods that carry a version that was published as retired.
async fn retired_in_use(client: &Client, state: &PublishedState) -> Vec<String> {
    let pods: Api<Pod> = Api::all(client.clone());
    let retired = state.versions.iter().filter(|version| version.phase == Phase::Retired);
    let mut found = Vec::new();
    for version in retired {
        let unfinished = ListParams::default()
            .labels(&format!("{VERSION_LABEL}={}", version.name))
            .fields("status.phase!=Succeeded,status.phase!=Failed");
        let carrying = pods.list(&unfinished).await.map(|pods| pods.items).unwrap_or_default();
        found.extend(carrying.iter().map(|pod| {
            format!(
                "{} was retired by generation {} although {} carries it",
                version.name,
                state.generation,
                pod.name_any()
            )
        }));
    }
    found
}
