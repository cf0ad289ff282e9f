//! The objects of the model, as compact as the rules allow: each holds what a rule reads or writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Any text of an object.
pub type Text = Arc<str>;

/// The finalizer of a runner.
pub const RUNNER_FINALIZER: &str = "ephemeralrunner.actions.github.com/finalizer";
/// The finalizer of a runner that is registered.
pub const REGISTRATION_FINALIZER: &str = "ephemeralrunner.actions.github.com/runner-registration-finalizer";
/// The finalizer of a scale set.
pub const SCALE_SET_FINALIZER: &str = "autoscalingrunnerset.actions.github.com/finalizer";
/// The finalizer of a listener.
pub const LISTENER_FINALIZER: &str = "autoscalinglistener.actions.github.com/finalizer";

/// The kinds that exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// AutoscalingRunnerSet.
    ScaleSet,
    /// EphemeralRunnerSet.
    RunnerSet,
    /// EphemeralRunner.
    Runner,
    /// AutoscalingListener.
    Listener,
    /// Secret.
    Secret,
    /// Pod.
    Pod,
    /// ConfigMap.
    ConfigMap,
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Text,
    /// The name.
    pub name: Text,
}

/// A controller owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Text,
    /// Its UID.
    pub uid: Text,
}

/// What every object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name; a name that ends in `-` is completed on creation, as `generateName` is.
    pub key: Key,
    /// Given on creation.
    pub uid: Text,
    /// The resourceVersion.
    pub version: u64,
    /// When it was created.
    pub created: Duration,
    /// Whether it has a `deletionTimestamp`.
    pub deleting: bool,
    /// Finalizers.
    pub finalizers: Vec<Text>,
    /// The controller owner.
    pub owner: Option<Owner>,
    /// Labels.
    pub labels: BTreeMap<Text, Text>,
}

/// Phases of runners and sets, as far as rules ask for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// None yet.
    #[default]
    Empty,
    /// `Pending`.
    Pending,
    /// `Running`.
    Running,
    /// `Succeeded`.
    Succeeded,
    /// `Failed`.
    Failed,
    /// `Outdated`.
    Outdated,
}

/// AutoscalingRunnerSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleSet {
    /// Metadata.
    pub meta: Meta,
    /// `runner-scale-set-id`.
    pub scale_set_id: i64,
    /// Stands for the whole specification of runners; a change of it is an upgrade.
    pub template: Text,
    /// `minRunners`.
    pub min: i64,
    /// `maxRunners`.
    pub max: i64,
    /// `status.phase`.
    pub phase: Phase,
}

/// Status of an EphemeralRunnerSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetStatus {
    /// `currentReplicas`.
    pub current: i64,
    /// `pendingEphemeralRunners`.
    pub pending: i64,
    /// `runningEphemeralRunners`.
    pub running: i64,
    /// `failedEphemeralRunners`.
    pub failed: i64,
    /// `phase`.
    pub phase: Phase,
}

/// EphemeralRunnerSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSet {
    /// Metadata; the owner is its ScaleSet.
    pub meta: Meta,
    /// `spec.replicas`, absent as 0.
    pub replicas: i64,
    /// `spec.patchID`.
    pub patch_id: i64,
    /// Of its runners.
    pub scale_set_id: i64,
    /// The specification of its runners.
    pub template: Text,
    /// The template that the stored hash annotation is of.
    pub hash: Text,
    /// None until it was first written.
    pub status: Option<SetStatus>,
}

/// EphemeralRunner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Metadata; the owner is its RunnerSet.
    pub meta: Meta,
    /// `actions.github.com/patch-id`; none if absent or not a number.
    pub patch_id: Option<i64>,
    /// `spec.runnerScaleSetId`.
    pub scale_set_id: i64,
    /// Its specification.
    pub template: Text,
    /// Its status.
    pub status: RunnerStatus,
}

/// Status of an EphemeralRunner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunnerStatus {
    /// `phase`.
    pub phase: Phase,
    /// `ready`.
    pub ready: bool,
    /// `runnerId`; 0 if unset.
    pub runner_id: i64,
    /// `runnerName`.
    pub runner_name: Text,
    /// `failures`: pods by UID, and when.
    pub failures: BTreeMap<Text, Duration>,
    /// Whether `jobId` is not empty.
    pub has_job: bool,
}

/// AutoscalingListener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerObject {
    /// Metadata.
    pub meta: Meta,
    /// The AutoscalingRunnerSet.
    pub scale_set: Key,
    /// Name of the EphemeralRunnerSet that it patches.
    pub runner_set: Text,
}

/// Secret of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Metadata.
    pub meta: Meta,
    /// `runnerId`; none if it is not a number.
    pub runner_id: Option<i64>,
    /// `runnerName`.
    pub runner_name: Text,
}

/// State of the container named `runner`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Container {
    /// No status yet.
    #[default]
    Unknown,
    /// Waiting or running.
    Alive,
    /// Terminated with this code.
    Exited(i32),
}

/// Pod of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Metadata; the owner is its Runner.
    pub meta: Meta,
    /// `status.phase`.
    pub phase: Phase,
    /// The condition Ready.
    pub ready: bool,
    /// The container named `runner`.
    pub container: Container,
}

/// ConfigMap; no rule of ARC reads one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Metadata.
    pub meta: Meta,
    /// `data`.
    pub data: BTreeMap<Text, Text>,
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// AutoscalingRunnerSet.
    ScaleSet(ScaleSet),
    /// EphemeralRunnerSet.
    RunnerSet(RunnerSet),
    /// EphemeralRunner.
    Runner(Runner),
    /// AutoscalingListener.
    Listener(ListenerObject),
    /// Secret.
    Secret(Secret),
    /// Pod.
    Pod(Pod),
    /// ConfigMap.
    ConfigMap(ConfigMap),
}

impl Key {
    /// From its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Another name in the same namespace.
    pub fn beside(&self, name: &str) -> Self {
        Self { namespace: Arc::clone(&self.namespace), name: name.into() }
    }
}

impl Meta {
    /// Of an object that is not stored yet.
    pub fn new(key: Key) -> Self {
        Self {
            key,
            uid: "".into(),
            version: 0,
            created: Duration::ZERO,
            deleting: false,
            finalizers: vec![],
            owner: None,
            labels: BTreeMap::new(),
        }
    }

    /// With a controller owner.
    pub fn owned(self, kind: Kind, owner: &Meta) -> Self {
        let (name, uid) = (Arc::clone(&owner.key.name), Arc::clone(&owner.uid));
        Self { owner: Some(Owner { kind, name, uid }), ..self }
    }

    /// With these finalizers.
    pub fn finalized(self, finalizers: &[&str]) -> Self {
        Self { finalizers: finalizers.iter().map(|name| Text::from(*name)).collect(), ..self }
    }

    /// Whether it has this finalizer.
    pub fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|own| &**own == finalizer)
    }

    /// Its finalizers without one.
    pub fn without(&self, finalizer: &str) -> Vec<Text> {
        self.finalizers.iter().filter(|own| &***own != finalizer).cloned().collect()
    }

    /// Its finalizers and one more.
    pub fn with(&self, finalizer: &str) -> Vec<Text> {
        self.finalizers.iter().cloned().chain([Text::from(finalizer)]).collect()
    }

    /// The key of its owner, if that is of this kind.
    pub fn owner_of(&self, kind: Kind) -> Option<Key> {
        let owner = self.owner.as_ref().filter(|owner| owner.kind == kind)?;
        Some(Key { namespace: Arc::clone(&self.key.namespace), name: Arc::clone(&owner.name) })
    }
}

impl Phase {
    /// Whether a runner has come to its end.
    pub fn done(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Outdated)
    }

    /// As objects say it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Outdated => "Outdated",
        }
    }
}

macro_rules! each {
    ($self:expr, $object:ident => $value:expr) => {
        match $self {
            Object::ScaleSet($object) => $value,
            Object::RunnerSet($object) => $value,
            Object::Runner($object) => $value,
            Object::Listener($object) => $value,
            Object::Secret($object) => $value,
            Object::Pod($object) => $value,
            Object::ConfigMap($object) => $value,
        }
    };
}

impl Object {
    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        each!(self, object => &object.meta)
    }

    /// Its metadata, to be changed.
    pub fn meta_mut(&mut self) -> &mut Meta {
        each!(self, object => &mut object.meta)
    }

    /// Namespace and name.
    pub fn key(&self) -> &Key {
        &self.meta().key
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ScaleSet(_) => Kind::ScaleSet,
            Self::RunnerSet(_) => Kind::RunnerSet,
            Self::Runner(_) => Kind::Runner,
            Self::Listener(_) => Kind::Listener,
            Self::Secret(_) => Kind::Secret,
            Self::Pod(_) => Kind::Pod,
            Self::ConfigMap(_) => Kind::ConfigMap,
        }
    }
}

macro_rules! typed {
    ($($name:ident, $name_mut:ident, $variant:ident, $type:ty);+) => {
        impl Object {
            $(
                /// It, if it is of that kind.
                pub fn $name(&self) -> Option<&$type> {
                    if let Self::$variant(object) = self { Some(object) } else { None }
                }

                /// It, to be changed, if it is of that kind.
                pub fn $name_mut(&mut self) -> Option<&mut $type> {
                    if let Self::$variant(object) = self { Some(object) } else { None }
                }
            )+
        }
    };
}

typed! {
    scale_set, scale_set_mut, ScaleSet, ScaleSet;
    runner_set, runner_set_mut, RunnerSet, RunnerSet;
    runner, runner_mut, Runner, Runner;
    listener, listener_mut, Listener, ListenerObject;
    secret, secret_mut, Secret, Secret;
    pod, pod_mut, Pod, Pod;
    config_map, config_map_mut, ConfigMap, ConfigMap
}
