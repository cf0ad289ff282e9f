//! What runners of each set are made with: the template of their objects and the Actions service, kept as new as the set and
//! its credentials.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use serde_json::Value;
use url::Url;

use crate::actions::spec::Spec;
use crate::actions::{Service, Services, source};
use crate::creation::execute::Tools;
use crate::creation::objects::RunnerSet;
use crate::creation::template::Template;

/// How often credentials, proxies and authorities are read again.
const RENEW: Duration = Duration::from_secs(60);

/// How often they are read again while they cannot be used.
const RETRY: Duration = Duration::from_secs(10);

const UNREAD: &str = "how the Actions service is reached was not read yet";

/// One set's tools.
#[derive(Debug)]
struct Kit {
    namespace: String,
    name: String,
    /// What the template was made from.
    made_from: Value,
    template: Result<Arc<Template>, String>,
    spec: Result<Spec, String>,
    service: Option<Result<Service, String>>,
    due: Duration,
    is_reading: bool,
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
    service: Result<Service, String>,
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
        let (namespace, name) =
            (text(&made_from["metadata"]["namespace"]), text(&made_from["metadata"]["name"]));
        let kit = Kit { namespace, name, made_from, template, spec, service, due, is_reading: false };
        self.kits.insert(uid.to_owned(), kit);
    }

    /// A set is gone.
    pub(super) fn gone(&mut self, uid: &str) {
        self.kits.remove(uid);
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

    /// The host of a set's service; sets that share it share a gate.
    pub(super) fn host(&self, uid: &str) -> String {
        let url = self.kits.get(uid).and_then(|kit| kit.spec.as_ref().ok()).map(|spec| spec.url.clone());
        let host = url.and_then(|url| Url::parse(&url).ok()?.host_str().map(str::to_owned));
        host.unwrap_or_default()
    }

    /// Any tools of that namespace: a set that is gone shared them, most likely.
    pub(super) fn of_namespace(&self, namespace: &str) -> Option<Tools> {
        let uid = self.kits.iter().find(|(_, kit)| kit.namespace == namespace).map(|(uid, _)| uid.clone())?;
        Some(self.get(&uid))
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
        kit.due = now + if reading.service.is_ok() { RENEW } else { RETRY };
        let before = kit.service.as_ref().and_then(|service| service.as_ref().err());
        let Kit { namespace, name, .. } = &kit;
        match &reading.service {
            Err(why) if before != Some(why) => {
                tracing::warn!(namespace, set = name, why, "the runners of this set are left to ARC");
            }
            Ok(_) if before.is_some() => {
                tracing::info!(namespace, set = name, "the Actions service of this set can be used again");
            }
            _ => {}
        }
        kit.service = Some(reading.service);
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
        let inputs = source::read(&client, &namespace, &spec).await.map_err(|error| error.to_string())?;
        let service = services.service(&inputs, Instant::now()).map_err(|error| error.to_string())?;
        // So that the first burst need not wait for a token, and bad credentials are known before one.
        service.prepare().await.map_err(|error| error.to_string())?;
        Ok(service)
    };
    let service = service.await;
    Reading { set, spec, service }
}
