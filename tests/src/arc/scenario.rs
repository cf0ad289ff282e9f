//! What happens to a scale set, from its first job to its end, on whatever ARC is under test.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::objects::{RUNNERS, api};
use super::timeline::{Milestone, Timeline, replicas};
use crate::actions_service::{ActionsService, JobState};
use crate::wait::until;

/// How long GitHub holds a poll that finds no message.
const LONG: Duration = Duration::from_secs(50);

/// The same for those who cannot wait.
const SHORT: Duration = Duration::from_secs(1);

/// A scale set as GitHub and its runners see it.
pub struct Scenario<'s> {
    /// What happened in its namespace.
    pub timeline: Timeline,
    service: &'s ActionsService,
    client: Client,
    namespace: String,
    set: i64,
}

/// How long after the listener's patch a burst was how far.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The last runner at each milestone.
    pub last: Vec<(Milestone, Duration)>,
    /// The first pod.
    pub first_pod: Duration,
    /// The pod in the middle.
    pub median_pod: Duration,
    /// The most runners that were there at once.
    pub most: usize,
}

/// What tables show of a burst.
pub const COLUMNS: [Milestone; 5] =
    [Milestone::Runner, Milestone::Secret, Milestone::Pod, Milestone::Running, Milestone::Reported];

impl<'s> Scenario<'s> {
    /// Follows a scale set that is set up, in a namespace of its own, once its listener waits for messages: jobs that come
    /// before its first patch are asked for with number 0, which shields ARC from nothing.
    pub async fn follow(service: &'s ActionsService, client: &Client, namespace: &str, name: &str) -> Self {
        let id = service.with(|service, _| {
            // Who is to have a job is said by the test.
            service.eager = false;
            service.sets().find(|set| set.name == name).map(|set| set.id)
        });
        let (timeline, set) = (Timeline::follow(client, namespace), id.unwrap());
        until("the listener waits for messages", || async {
            service.with(|service, _| service.is_polled(set)).then_some(())
        })
        .await;
        Self { timeline, service, client: client.clone(), namespace: namespace.to_owned(), set }
    }

    /// So many jobs come at once; waits until as many runners as there are jobs run.
    pub async fn burst(&self, jobs: usize, patience: Duration) -> Figures {
        let before = Instant::now();
        // A poll that ends empty makes the listener ask anew, which is no part of a burst.
        self.service.set_hold(LONG);
        let runners = self.ask(jobs);
        self.timeline.reaches(Milestone::Running, runners, patience).await;
        // ARC's own word comes later, at the pace of its client.
        self.timeline.reaches(Milestone::Reported, runners, patience).await;
        self.figures(u32::try_from(runners).unwrap(), before)
    }

    /// So many jobs come at once; gives how many runners there are to be.
    pub fn ask(&self, jobs: usize) -> usize {
        self.service.with(|service, now| service.assign(self.set, jobs, now)).unwrap();
        self.service.with(|service, _| service.assigned(self.set))
    }

    /// Waits until at least so many runners are there: a batch is under way.
    pub async fn is_amid(&self, runners: usize) {
        until(&format!("{runners} of the runners"), || async {
            (self.timeline.live(Milestone::Runner) >= runners).then_some(())
        })
        .await;
    }

    /// Its id at the service.
    pub fn id(&self) -> i64 {
        self.set
    }

    /// So many of the jobs that wait are cancelled.
    pub fn cancel(&self, jobs: usize) {
        self.service.with(|service, now| {
            let waiting = service.jobs(self.set).filter(|job| job.state == JobState::Assigned);
            let waiting: Vec<i64> = waiting.take(jobs).map(|job| job.id).collect();
            assert_eq!(waiting.len(), jobs, "jobs that wait");
            service.complete(&waiting, now);
        });
    }

    /// Waits for exactly so many EphemeralRunners, whatever else there is.
    pub async fn settles_runners(&self, runners: usize, patience: Duration) {
        self.timeline.reaches(Milestone::Runner, runners, patience).await;
    }

    fn figures(&self, runners: u32, before: Instant) -> Figures {
        let begun = self.timeline.asked(runners).filter(|at| *at >= before).unwrap();
        let times = |milestone| self.timeline.times(milestone, begun);
        let pods = times(Milestone::Pod);
        Figures {
            last: COLUMNS.iter().map(|it| (*it, times(*it).last().copied().unwrap())).collect(),
            first_pod: pods[0],
            median_pod: pods[pods.len() / 2],
            most: self.timeline.most(Milestone::Runner),
        }
    }

    /// So many runners connect and are given a job each; waits until their objects say so. Gives their names.
    pub async fn begin(&self, jobs: usize) -> BTreeSet<String> {
        let names: BTreeSet<String> =
            self.timeline.names(Milestone::Running).into_iter().take(jobs).collect();
        self.service.with(|service, now| {
            for name in &names {
                assert!(service.online(name, now), "{name} is not registered");
            }
            assert_eq!(service.start_waiting(self.set, now), names.len(), "jobs for those that are online");
        });
        let runners = api(&self.client, &self.namespace, RUNNERS);
        until("all runners show their jobs", || async {
            let all = runners.list(&Default::default()).await.unwrap();
            let have = |name: &String| {
                let runner = all.iter().find(|runner| runner.metadata.name.as_ref() == Some(name));
                runner.is_some_and(|runner| runner.data["status"]["jobId"].is_string())
            };
            names.iter().all(have).then_some(())
        })
        .await;
        names
    }

    /// The jobs of these runners are done: GitHub forgets the runners, the listener hears of it, and their programs end
    /// well. Were they to end first, ARC might take them for lost and make others, also without us.
    pub async fn finish(&self, names: &BTreeSet<String>) {
        self.service.with(|service, now| {
            let jobs: Vec<i64> = names.iter().filter_map(|name| service.job_of(name)).collect();
            assert_eq!(jobs.len(), names.len(), "a runner without a job");
            service.complete(&jobs, now);
        });
        self.listener_asks_for(self.service.with(|service, _| service.assigned(self.set))).await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let ended = json!({ "name": "runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0 } } });
        let ended =
            Patch::Strategic(json!({ "status": { "phase": "Succeeded", "containerStatuses": [ended] } }));
        let how = PatchParams::default();
        try_join_all(names.iter().map(|name| pods.patch_status(name, &how, &ended))).await.unwrap();
    }

    async fn listener_asks_for(&self, runners: usize) {
        let runners = u32::try_from(runners).unwrap();
        until("the listener asks for fewer runners", || async {
            let asked = replicas(self.timeline.generations().pop()?);
            (asked == i64::from(runners)).then_some(())
        })
        .await;
    }

    /// All jobs that no runner has yet are cancelled, and the listener's polls are short from now on: the first that ends
    /// empty makes ARC take away whoever is idle.
    pub fn cancel_waiting(&self) {
        self.service.set_hold(SHORT);
        let waiting = |job: &&crate::actions_service::Job| job.state == JobState::Assigned;
        self.cancel(self.service.with(|service, _| service.jobs(self.set).filter(waiting).count()));
    }

    /// Waits until so many runners are left, and exactly their Secrets, Pods and registrations.
    pub async fn settles(&self, runners: usize, patience: Duration) {
        for milestone in [Milestone::Runner, Milestone::Secret, Milestone::Pod] {
            self.timeline.reaches(milestone, runners, patience).await;
        }
        until("the registrations of those that are left", || async {
            (self.registrations() == runners).then_some(())
        })
        .await;
    }

    /// How many runners of this scale set are registered.
    pub fn registrations(&self) -> usize {
        self.service.with(|service, _| service.agents().filter(|agent| agent.set == self.set).count())
    }

    /// Panics unless so many runners were made in all, each registered once, and never more at once.
    pub fn was_exact(&self, runners: usize) {
        self.made_no_other(runners);
        assert_eq!(self.registered_again(), Vec::<String>::new());
    }

    /// Panics unless so many runners were made in all. A name may have been registered anew after it was removed.
    pub fn made_no_other(&self, runners: usize) {
        for milestone in [Milestone::Runner, Milestone::Secret, Milestone::Pod] {
            assert_eq!(self.timeline.ever(milestone), runners, "{milestone:?}");
        }
        assert_eq!(self.timeline.most(Milestone::Runner), runners);
    }

    /// Names of any set that were registered more than once.
    pub fn registered_again(&self) -> Vec<String> {
        self.service.with(|service, _| service.registered_again().into_iter().map(str::to_owned).collect())
    }
}

impl Figures {
    /// Seconds at the columns of a table.
    pub fn row(&self) -> String {
        let last = self.last.iter().map(|(_, at)| format!("{:9.1}", at.as_secs_f64()));
        let pods = [self.first_pod, self.median_pod].map(|at| format!("{:9.1}", at.as_secs_f64()));
        last.chain(pods).collect()
    }
}

/// The head of a table of [`Figures::row`]s.
pub fn head() -> String {
    let last = COLUMNS.iter().map(|it| format!("{:>9}", format!("{it:?}").to_lowercase()));
    last.chain(["1st pod", "mid pod"].map(|it| format!("{it:>9}"))).collect()
}
