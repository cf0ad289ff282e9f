//! What comes in: journals, configuration, and what watches bring, which reaches the engine once a namespace is known whole.

use std::time::Duration;

use headstart_externals::config::Level;
use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_runtime::cluster::{CallError, within};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::Term;
use crate::creation::journal::{self, Journal};
use crate::creation::objects::{Runner, RunnerSet};
use crate::creation::tell;
use crate::creation::view::RunnerView;
use crate::creation::watch::{Kind, Seen};

const CALL: Duration = Duration::from_secs(10);

impl Term {
    /// All journals that there are.
    pub(super) fn journals(&self) -> impl Future<Output = Result<Vec<ConfigMap>, CallError>> + Send + use<> {
        let api: Api<ConfigMap> = Api::namespaced(self.means.client.clone(), &self.means.namespace);
        async move {
            let all = ListParams::default().labels(RUNNER_SET_LABEL);
            within(CALL, api.list(&all)).await.map(|list| list.items)
        }
    }

    /// Takes over what earlier leaders began.
    pub(super) fn inherit(&mut self, journals: Vec<ConfigMap>) {
        for map in journals {
            let name = map.name_any();
            let text = map.data.as_ref().and_then(|data| data.get(journal::KEY));
            match Journal::parse(&name, text.map_or("", String::as_str)) {
                Ok(journal) => {
                    if let Some(journal) = self.places.inherit(journal) {
                        self.engine.inherit(journal, self.now(), Timestamp::now().as_millisecond());
                    }
                }
                Err(problem) => tracing::warn!(
                    journal = name,
                    problem,
                    "a journal cannot be read and is left alone; if no other release of the controller runs, delete it"
                ),
            }
        }
    }

    /// Journals were read once more; where they could not be, that is done again.
    pub(super) fn listed(&mut self, journals: Result<Vec<ConfigMap>, CallError>) {
        match journals {
            Ok(journals) => self.inherit(journals),
            Err(error) => {
                tracing::debug!(%error, "failed to look for journals that were written late; trying again");
                self.journals_due = Some(self.now() + CALL);
            }
        }
    }

    pub(super) fn configure(&mut self) {
        let config = self.means.config.borrow_and_update().clone();
        self.judged = None;
        let with_pods = config.runner_creation.level == Level::Pods;
        if with_pods != self.engine.makes_pods() {
            // It takes other rights.
            self.inquiries.clear();
            self.places.namespaces.values_mut().for_each(|place| place.missing = None);
        }
        self.engine.configure(with_pods);
        self.places.configure(&config.runner_creation.namespaces);
    }

    /// Takes note of something that was seen.
    pub(super) fn take(&mut self, seen: Seen) {
        let now = self.now();
        match seen {
            Seen::Namespace(metadata) => {
                let before = self.places.labelled((*metadata).clone());
                tell::unknown_wish("namespace", before.as_ref(), &metadata);
                self.judged = None;
            }
            Seen::Owner(owner) => {
                let metadata = owner.metadata.clone();
                let before = self.census.owner(*owner).map(|before| before.metadata);
                tell::unknown_wish("AutoscalingRunnerSet", before.as_ref(), &metadata);
                self.judged = None;
            }
            Seen::Listener(listener) => {
                self.census.listener(*listener);
                self.judged = None;
            }
            Seen::Set(set) => {
                let (Some(view), Some(uid)) = (set.view(), set.uid()) else { return };
                self.toolbox.take(&uid, &set);
                if self.places.is_live(&view.namespace) {
                    self.engine.set(view, now);
                }
                if self.sets.insert(uid, *set).is_none() {
                    self.judged = None;
                }
            }
            Seen::Runner(runner) => {
                let namespace = runner.namespace().unwrap_or_default();
                match self.places.namespaces.get_mut(&namespace) {
                    Some(place) if !place.is_live => {
                        place.runners.insert(runner.uid().unwrap_or_default(), *runner);
                    }
                    _ => runner.view().into_iter().for_each(|view| self.observe(view, now)),
                }
            }
            Seen::Gone(kind, uid) => self.gone(kind, &uid),
            Seen::Listed(..) => {}
        }
    }

    fn observe(&mut self, view: RunnerView, now: Duration) {
        self.runners.insert(view.uid.clone(), (view.set.clone(), view.name.clone()));
        self.engine.runner(view, now);
    }

    fn gone(&mut self, kind: Kind, uid: &str) {
        if kind != Kind::Runner {
            self.judged = None;
        }
        match kind {
            Kind::Namespace => self.places.unlabelled(uid),
            Kind::Owner | Kind::Listener => self.census.gone(uid),
            Kind::Set => {
                self.sets.remove(uid);
                self.refused.remove(uid);
                self.engine.set_gone(uid);
            }
            Kind::Runner => {
                for place in self.places.namespaces.values_mut() {
                    place.runners.remove(uid);
                }
                if let Some((set, name)) = self.runners.remove(uid) {
                    self.engine.runner_gone(&set, &name);
                }
            }
        }
    }

    /// Gives the engine what is in namespaces of which everything is known now.
    pub(super) fn ripen(&mut self, now: Duration) {
        let names: Vec<String> = self.places.namespaces.keys().cloned().collect();
        for name in names {
            let is_gone = self.places.namespaces.get(&name).is_some_and(|place| place.is_gone);
            if self.places.is_live(&name) || !(is_gone || self.watches.is_listed(&name)) {
                continue;
            }
            let is_prepared = self.toolbox.sets_of(&name).all(|uid| self.toolbox.is_read(uid));
            if !self.places.ripens(&name, is_prepared, now) {
                continue;
            }
            self.judged = None;
            let Some(place) = self.places.namespaces.get_mut(&name) else { continue };
            let (runners, journals) =
                (std::mem::take(&mut place.runners), std::mem::take(&mut place.journals));
            let sets = self.sets.values().filter_map(RunnerSet::view).filter(|view| view.namespace == name);
            sets.for_each(|view| self.engine.set(view, now));
            // Before the journals: of what is there already, ARC makes what is missing.
            for view in runners.values().filter_map(Runner::view) {
                self.observe(view, now);
            }
            let unix_ms = Timestamp::now().as_millisecond();
            journals.into_iter().for_each(|journal| self.engine.inherit(journal, now, unix_ms));
        }
    }
}
