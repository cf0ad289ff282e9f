//! What runners of each set are made with: the template of their objects and the Actions service, kept as new as the set and
//! its credentials.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_runtime::trouble::Trouble;
use kube::Client;
use serde_json::Value;

use crate::actions::spec::Spec;
use crate::actions::{Service, Services, source};
use crate::creation::borrow::Place;
use crate::creation::execute::Tools;
use crate::creation::objects::RunnerSet;
use crate::creation::template::Template;

/// How often credentials, proxies and authorities are read again.
const RENEW: Duration = Duration::from_secs(60);

/// How soon they are read again after a failure; it doubles with each further one, up to [`MOST_PATIENT`]: GitHub locks out
/// whoever comes again and again with bad credentials, and ARC comes with the same.
const RETRY: Duration = Duration::from_secs(10);

const MOST_PATIENT: Duration = Duration::from_secs(600);

const UNREAD: &str = "how the Actions service is reached was not read yet";

/// One set's tools.
#[derive(Debug)]
struct Kit {
    namespace: String,
    name: String,
    /// Name of the AutoscalingRunnerSet.
    owner: String,
    /// What the template was made from.
    made_from: Value,
    template: Result<Arc<Template>, String>,
    spec: Result<Spec, String>,
    service: Option<Result<Service, String>>,
    due: Duration,
    failures: u32,
    is_reading: bool,
    /// Why it could not be read again, while what is known goes on to be used.
    trouble: Trouble,
}

impl Kit {
    fn works(&mut self, service: Service, now: Duration) {
        if matches!(self.service, Some(Err(_))) {
            let (namespace, set) = (&self.namespace, &self.name);
            tracing::info!(namespace, set, "the Actions service of this set can be used again");
        }
        (self.service, self.due, self.failures) = (Some(Ok(service)), now + RENEW, 0);
        self.trouble.is_over();
    }

    /// What worked goes on to be used where the failure passes.
    fn fails(&mut self, Failure { why, is_passing }: Failure, now: Duration) {
        self.due = now + (RETRY * 2_u32.pow(self.failures.min(6))).min(MOST_PATIENT);
        self.failures += 1;
        let (namespace, set) = (&self.namespace, &self.name);
        let before = match &self.service {
            Some(Ok(_)) if is_passing => {
                if self.trouble.is_news(&why) {
                    tracing::warn!(
                        namespace,
                        set,
                        why,
                        "failed to read anew how the Actions service of this set is reached; what is known is used on"
                    );
                }
                return;
            }
            Some(Err(before)) => Some(before),
            _ => None,
        };
        if before != Some(&why) {
            tracing::warn!(namespace, set, why, "the runners of this set are left to ARC");
        }
        self.service = Some(Err(why));
    }
}

/// The tools of all sets, by UID.
pub(super) struct Toolbox {
    client: Client,
    services: Arc<Services>,
    kits: HashMap<String, Kit>,
}

/// What was read for a set.
pub(super) struct Reading {
    pub(super) set: String,
    spec: Spec,
    service: Result<Service, Failure>,
}

/// Why a service cannot be used.
struct Failure {
    why: String,
    /// Whether it may work again without anybody doing something: then what is known goes on to be used.
    is_passing: bool,
}

impl Toolbox {
    pub(super) fn new(client: Client, services: Arc<Services>) -> Self {
        Self { client, services, kits: HashMap::new() }
    }

    /// A set is stored like this.
    pub(super) fn take(&mut self, uid: &str, set: &RunnerSet) {
        let mut object = set.object();
        // What changes with every generation is no part of a runner.
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("replicas");
            spec.remove("patchID");
        }
        let metadata = &object["metadata"];
        let made_from = serde_json::json!({
            "metadata": {
                "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
                "labels": metadata["labels"], "annotations": metadata["annotations"],
            },
            "spec": object["spec"],
        });
        if self.kits.get(uid).is_some_and(|kit| kit.made_from == made_from) {
            return;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = Spec::read(&made_from["spec"]["ephemeralRunnerSpec"]).map_err(|error| error.to_string());
        let template = Template::of(&made_from).map(Arc::new).map_err(|error| error.to_string());
        let kept = self.kits.remove(uid).filter(|kit| kit.spec == spec);
        let (service, due) = kept.map_or((None, Duration::ZERO), |kit| (kit.service, kit.due));
        let kit = Kit {
            namespace: text(&made_from["metadata"]["namespace"]),
            name: text(&made_from["metadata"]["name"]),
            owner: set.view().map(|view| view.owner).unwrap_or_default(),
            made_from,
            template,
            spec,
            service,
            due,
            failures: 0,
            is_reading: false,
            trouble: Trouble::default(),
        };
        self.kits.insert(uid.to_owned(), kit);
    }

    /// Only sets that count are kept; one that is gone counts until nothing of it is left to be ended.
    pub(super) fn retain(&mut self, counts: impl Fn(&str) -> bool) {
        self.kits.retain(|uid, _| counts(uid));
    }

    /// The tools of a set.
    pub(super) fn get(&self, uid: &str) -> Tools {
        let Some(kit) = self.kits.get(uid) else {
            let gone = "the runner set is gone";
            return Tools { template: Err(gone.to_owned()), service: Err(gone.to_owned()) };
        };
        let service = match (&kit.spec, &kit.service) {
            (Err(why), _) => Err(why.clone()),
            (Ok(_), Some(service)) => service.clone(),
            (Ok(_), None) => Err(UNREAD.to_owned()),
        };
        Tools { template: kit.template.clone(), service }
    }

    /// Whether a set was looked at, with whatever outcome.
    pub(super) fn is_read(&self, uid: &str) -> bool {
        self.kits.get(uid).is_some_and(|kit| kit.spec.is_err() || kit.service.is_some())
    }

    /// A word for how a set's service is reached and as whom; sets with the same one share a gate. Of two teams at the same
    /// host one may be throttled or locked out.
    pub(super) fn upstream(&self, uid: &str) -> String {
        let kit = self.kits.get(uid);
        let known = kit.and_then(|kit| Some((kit, kit.spec.as_ref().ok()?)));
        known.map_or_else(String::new, |(kit, spec)| {
            let url = spec.url.split_once("://").map_or(spec.url.as_str(), |(_, rest)| rest);
            format!("{url} as {}/{}", kit.namespace, spec.secret)
        })
    }

    /// The tools for what is left of a set: its own, or of another set of the same AutoscalingRunnerSet.
    pub(super) fn of(&self, place: &Place) -> Tools {
        let is_sister = |kit: &Kit| kit.namespace == place.namespace && kit.owner == place.owner;
        let sister = || self.kits.iter().find(|(_, kit)| is_sister(kit)).map(|(uid, _)| uid.as_str());
        let uid = if self.kits.contains_key(&place.uid) { Some(place.uid.as_str()) } else { sister() };
        self.get(uid.unwrap_or(&place.uid))
    }

    /// The tools of a set, or else of any set of that namespace, which most likely has the same service.
    pub(super) fn near(&self, namespace: &str, uid: &str) -> Option<Tools> {
        let neighbour = || self.kits.iter().find(|(_, kit)| kit.namespace == namespace);
        let neighbour = || neighbour().map(|(uid, _)| uid.as_str());
        let uid = if self.kits.contains_key(uid) { Some(uid) } else { neighbour() };
        Some(self.get(uid?))
    }

    /// What has to be read now.
    pub(super) fn due(&mut self, now: Duration) -> Vec<impl Future<Output = Reading> + Send + 'static> {
        let due =
            self.kits.iter_mut().filter(|(_, kit)| kit.spec.is_ok() && !kit.is_reading && now >= kit.due);
        let mut reads = Vec::new();
        for (uid, kit) in due {
            kit.is_reading = true;
            let Ok(spec) = kit.spec.clone() else { continue };
            let (set, namespace) = (uid.clone(), kit.namespace.clone());
            reads.push(read(self.client.clone(), self.services.clone(), set, namespace, spec));
        }
        reads
    }

    /// Something was read.
    pub(super) fn took(&mut self, reading: Reading, now: Duration) {
        // A set that was changed in the meantime is read anew.
        let is_of = |kit: &&mut Kit| kit.spec.as_ref().ok() == Some(&reading.spec);
        let Some(kit) = self.kits.get_mut(&reading.set).filter(is_of) else { return };
        kit.is_reading = false;
        match reading.service {
            Ok(service) => kit.works(service, now),
            Err(failure) => kit.fails(failure, now),
        }
    }

    /// When something has to be read again.
    pub(super) fn wake(&self) -> Option<Duration> {
        self.kits.values().filter(|kit| kit.spec.is_ok() && !kit.is_reading).map(|kit| kit.due).min()
    }

    /// The sets of a namespace.
    pub(super) fn sets_of(&self, namespace: &str) -> impl Iterator<Item = &String> {
        self.kits.iter().filter(move |(_, kit)| kit.namespace == namespace).map(|(uid, _)| uid)
    }
}

async fn read(
    client: Client,
    services: Arc<Services>,
    set: String,
    namespace: String,
    spec: Spec,
) -> Reading {
    let service = async {
        let inputs = source::read(&client, &namespace, &spec)
            .await
            .map_err(|error| Failure { why: error.to_string(), is_passing: error.is_passing() })?;
        let service = services.service(&inputs, Instant::now());
        let service = service.map_err(|error| Failure { why: error.to_string(), is_passing: false })?;
        // So that the first burst need not wait for a token, and bad credentials are known before one.
        let prepared = service.prepare().await;
        prepared.map_err(|error| Failure { why: error.to_string(), is_passing: error.is_passing() })?;
        Ok(service)
    };
    let service = service.await;
    Reading { set, spec, service }
}
