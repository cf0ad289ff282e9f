//! What the played world keeps: the objects of the API server and the registrations of the service, and the rules that no
//! call may break.

use std::collections::{BTreeMap, BTreeSet};

use headstart_externals::pin::{Generation, Stored};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::core::ObjectMeta;
use secrecy::SecretString;
use serde_json::json;

use crate::creation::call::{Answer, Call, FoundSecret, Order, Trouble};
use crate::creation::journal::Journal;
use crate::creation::objects::{Runner, RunnerSet, SetStatus};
use crate::creation::view::{PATCH_ID, RunnerView, SetView};

/// A stored EphemeralRunnerSet.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) uid: String,
    pub(super) stored: Stored,
    pub(super) generation: i64,
    pub(super) counted: usize,
    pub(super) is_deleting: bool,
    pub(super) is_outdated: bool,
    pub(super) is_attended: bool,
    pub(super) is_enabled: bool,
    /// Counts how often something raw was stored.
    pub(super) epoch: u32,
    /// Most runners that were asked for since.
    pub(super) most: usize,
    /// Whether more of them than ours may come in this epoch.
    pub(super) is_excused: bool,
}

impl Set {
    pub(super) fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            stored: Stored::Raw { replicas: 0, patch_id: 0 },
            generation: 1,
            counted: 0,
            is_deleting: false,
            is_outdated: false,
            is_attended: true,
            is_enabled: true,
            epoch: 0,
            most: 0,
            is_excused: false,
        }
    }

    /// As decisions see it, by the shipped code.
    pub(super) fn view(&self) -> SetView {
        let (replicas, patch_id) = match self.stored {
            Stored::Raw { replicas, patch_id } => (replicas, patch_id),
            Stored::Pinned(generation) => (0, generation.pinned()),
        };
        let phase = if self.is_outdated { "Outdated" } else { "Running" };
        let metadata = metadata(&self.uid, &self.uid, ("AutoscalingRunnerSet", "a"), self.is_deleting);
        let set = RunnerSet {
            metadata: ObjectMeta { generation: Some(self.generation), ..metadata },
            spec: json!({ "replicas": replicas, "patchID": patch_id }),
            status: SetStatus {
                current_replicas: i64::try_from(self.counted).unwrap(),
                phase: phase.to_owned(),
            },
        };
        set.view().unwrap()
    }

    pub(super) fn store(&mut self, stored: Stored) {
        if self.stored == stored {
            return;
        }
        self.generation += 1;
        self.stored = stored;
        match stored {
            Stored::Raw { .. } => {
                self.epoch += 1;
                (self.most, self.is_excused) = (0, false);
            }
            Stored::Pinned(generation) => self.most = self.most.max(count(generation)),
        }
    }
}

/// What a watch shows of an object beside its spec and status; the UID of an owner is its name.
fn metadata(name: &str, uid: &str, (kind, owner): (&str, &str), is_deleting: bool) -> ObjectMeta {
    let owner = OwnerReference {
        kind: kind.to_owned(),
        name: owner.to_owned(),
        uid: owner.to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("n".to_owned()),
        uid: Some(uid.to_owned()),
        deletion_timestamp: is_deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn count(generation: Generation) -> usize {
    usize::try_from(generation.replicas).unwrap()
}

/// A stored EphemeralRunner.
#[derive(Clone, Debug)]
pub(super) struct Er {
    pub(super) uid: String,
    pub(super) set: String,
    pub(super) stamp: i64,
    pub(super) is_deleting: bool,
    pub(super) runner_id: Option<i64>,
}

impl Er {
    /// As decisions see it, by the shipped code.
    pub(super) fn view(&self, name: &str) -> RunnerView {
        let mut metadata = metadata(name, &self.uid, ("EphemeralRunnerSet", &self.set), self.is_deleting);
        metadata.annotations = Some([(PATCH_ID.to_owned(), self.stamp.to_string())].into());
        Runner { metadata, ..Runner::default() }.view().unwrap()
    }
}

/// Which quotas are exhausted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quotas {
    pub(super) secrets: usize,
    pub(super) runners: usize,
    pub(super) pods: usize,
}

/// All that is stored.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) sets: BTreeMap<String, Set>,
    pub(super) ers: BTreeMap<String, Er>,
    pub(super) secrets: BTreeMap<String, i64>,
    pub(super) agents: BTreeMap<String, i64>,
    pub(super) pods: BTreeSet<String>,
    pub(super) journals: BTreeMap<String, Journal>,
    pub(super) quotas: Quotas,
    last: i64,
    /// The first rule that was broken.
    pub(super) broken: Option<String>,
    /// Objects that changed since they were last asked for: sets and runners.
    pub(super) changed: Vec<(bool, String)>,
}

impl Store {
    pub(super) fn number(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    pub(super) fn break_rule(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(super) fn view(&self, name: &str) -> Option<RunnerView> {
        self.ers.get(name).map(|er| er.view(name))
    }

    pub(super) fn live(&self, set: &str) -> usize {
        self.ers.values().filter(|er| er.set == set && !er.is_deleting).count()
    }

    pub(super) fn create(&mut self, name: &str, set: &str, stamp: i64, runner_id: Option<i64>) -> String {
        let uid = format!("uid-{}", self.number());
        let er = Er { uid: uid.clone(), set: set.to_owned(), stamp, is_deleting: false, runner_id };
        self.ers.insert(name.to_owned(), er);
        self.changed.push((false, name.to_owned()));
        uid
    }

    /// Carries a call out. `epoch` is that of the set when the call was ordered.
    pub(super) fn carry_out(&mut self, order: &Order, epoch: u32) -> Answer {
        let (name, set) = (order.task.runner.as_str(), order.place.uid.as_str());
        match &order.task.call {
            Call::CreateJournal(journal) => {
                let old = self.journals.insert(journal.name.clone(), journal.clone());
                old.map_or(Answer::Done, |_| Answer::Trouble(Trouble::Exists))
            }
            Call::DeleteJournal(journal) => done(self.journals.remove(journal).is_some()),
            Call::Register => self.register(name),
            Call::FindAgent => Answer::Agent(self.agents.get(name).copied()),
            Call::RemoveAgent(id) => self.remove_agent(name, *id),
            Call::CreateSecret { runner_id, .. } => self.create_secret(name, *runner_id),
            Call::GetSecret => {
                let found = self.secrets.get(name).map(|id| FoundSecret { runner_id: Some(*id) });
                Answer::Secret(found)
            }
            Call::DeleteSecret => {
                if self.ers.get(name).is_some_and(|er| !er.is_deleting) {
                    self.break_rule(format!("the Secret of {name} is deleted while its runner exists"));
                }
                done(self.secrets.remove(name).is_some())
            }
            Call::CreateRunner { stamp } => self.create_runner(name, set, *stamp, epoch),
            Call::GetRunner => Answer::Runner(self.ers.get(name).map(|er| er.uid.clone())),
            Call::SetStatus { runner_id } => match self.ers.get_mut(name) {
                Some(er) => {
                    er.runner_id = Some(*runner_id);
                    Answer::Done
                }
                None => Answer::Trouble(Trouble::NotFound),
            },
            Call::CreatePod { .. } if self.pods.contains(name) => Answer::Trouble(Trouble::Exists),
            Call::CreatePod { .. } if self.pods.len() >= self.quotas.pods => quota(),
            Call::CreatePod { .. } => {
                if self.ers.contains_key(name) {
                    self.pods.insert(name.to_owned());
                }
                Answer::Done
            }
            Call::OwnSecret { .. } => done(self.secrets.contains_key(name)),
            Call::HandBack(generation) => self.hand_back(set, *generation),
        }
    }

    fn register(&mut self, name: &str) -> Answer {
        if self.agents.contains_key(name) {
            return Answer::Trouble(Trouble::Exists);
        }
        if !self.journals.values().any(|journal| journal.runners.iter().any(|known| known == name)) {
            self.break_rule(format!("{name} is registered without a journal"));
        }
        let runner_id = self.number();
        self.agents.insert(name.to_owned(), runner_id);
        Answer::Registered { runner_id, jit_config: SecretString::from("jit") }
    }

    fn remove_agent(&mut self, name: &str, id: i64) -> Answer {
        if self.ers.get(name).is_some_and(|er| !er.is_deleting && er.runner_id == Some(id)) {
            self.break_rule(format!("the registration of {name} is removed while its runner exists"));
        }
        if self.agents.get(name) == Some(&id) {
            self.agents.remove(name);
        }
        Answer::Done
    }

    fn create_secret(&mut self, name: &str, runner_id: i64) -> Answer {
        if self.secrets.contains_key(name) {
            return Answer::Trouble(Trouble::Exists);
        }
        if self.secrets.len() >= self.quotas.secrets {
            return quota();
        }
        self.secrets.insert(name.to_owned(), runner_id);
        Answer::Done
    }

    fn create_runner(&mut self, name: &str, set: &str, stamp: i64, epoch: u32) -> Answer {
        if self.ers.contains_key(name) {
            return Answer::Trouble(Trouble::Exists);
        }
        if self.ers.len() >= self.quotas.runners {
            return quota();
        }
        if self.secrets.get(name).is_none_or(|id| self.agents.get(name) != Some(id)) {
            self.break_rule(format!("{name} is created without a Secret, or one without a registration"));
        }
        let uid = self.create(name, set, stamp, None);
        let live = self.live(set);
        let Some(kept) = self.sets.get_mut(set) else { return Answer::Created(uid) };
        if let Stored::Pinned(_) = kept.stored {
            // What was ordered before something raw was stored may come on top.
            kept.is_excused |= kept.epoch != epoch;
            if live > kept.most && !kept.is_excused {
                let most = kept.most;
                self.break_rule(format!("{name} is one too many: {live} of {most}"));
            }
        }
        Answer::Created(uid)
    }

    fn hand_back(&mut self, set: &str, generation: Generation) -> Answer {
        match self.sets.get_mut(set) {
            Some(kept) if kept.stored == Stored::Pinned(generation) => {
                let (replicas, patch_id) = (generation.replicas.into(), generation.patch_id.into());
                kept.store(Stored::Raw { replicas, patch_id });
                self.changed.push((true, set.to_owned()));
                Answer::Returned { generation: kept.generation }
            }
            Some(_) => Answer::Trouble(Trouble::Conflict),
            None => Answer::Trouble(Trouble::NotFound),
        }
    }
}

fn done(is_there: bool) -> Answer {
    if is_there { Answer::Done } else { Answer::Trouble(Trouble::NotFound) }
}

fn quota() -> Answer {
    Answer::Trouble(Trouble::Quota("exceeded quota: q".to_owned()))
}
