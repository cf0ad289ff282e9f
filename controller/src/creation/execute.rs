//! Makes the calls that the engine asks for, and puts what came of them into its words.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::names::RUNNER_SET_LABEL;
use serde_json::{Value, json};

use super::borrow::Place;
use super::call::{Answer, Call, FoundSecret, Order, Trouble};
use super::journal::{Journal, KEY};
use super::kubernetes::{Kubernetes, MERGE, PATCH};
use super::template::{self, Template};
use crate::actions::{Service, ServiceError};

/// Longest time for a hand-back: to try once more is better than to wait.
const HAND_BACK: Duration = Duration::from_secs(5);

/// What the calls for one set are made with.
#[derive(Clone)]
pub(super) struct Tools {
    /// What its runners have in common; why there is nothing where there is nothing.
    pub(super) template: Result<Arc<Template>, String>,
    /// Its Actions service, likewise.
    pub(super) service: Result<Service, String>,
}

/// Makes calls.
#[derive(Clone)]
pub(super) struct Executor {
    kubernetes: Kubernetes,
    /// Headstart's own namespace, where journals lie.
    namespace: String,
}

impl Executor {
    /// Calls through `kubernetes`; journals lie in `namespace`.
    pub(super) fn new(kubernetes: Kubernetes, namespace: &str) -> Self {
        Self { kubernetes, namespace: namespace.to_owned() }
    }

    /// Makes one call.
    pub(super) async fn run(&self, order: &Order, tools: &Tools) -> Answer {
        let Order { place, task, .. } = order;
        let answer = match &task.call {
            Call::CreateJournal(journal) => self.create_journal(journal).await,
            Call::DeleteJournal(name) => self.delete(&self.journal(name)).await,
            Call::Register | Call::FindAgent | Call::RemoveAgent(_) => {
                ask(&task.call, &task.runner, tools).await
            }
            call => self.object(call, &task.runner, place, tools).await,
        };
        answer.unwrap_or_else(Answer::Trouble)
    }

    async fn object(&self, call: &Call, name: &str, place: &Place, tools: &Tools) -> Result<Answer, Trouble> {
        let template = || tools.template.clone().map_err(Trouble::Refused);
        let Place { namespace, .. } = place;
        let core = format!("/api/v1/namespaces/{namespace}");
        let group = format!("/apis/{}/namespaces/{namespace}", template::API_VERSION);
        let (secret, runner) = (format!("{core}/secrets/{name}"), format!("{group}/ephemeralrunners/{name}"));
        let api = &self.kubernetes;
        match call {
            Call::CreateSecret { runner_id, jit_config } => {
                let body = template()?.secret(name, *runner_id, jit_config);
                api.create(&format!("{core}/secrets"), &body).await.map(|_| Answer::Done)
            }
            Call::GetSecret => Ok(Answer::Secret(api.get(&secret).await?.map(|found| found_secret(&found)))),
            Call::DeleteSecret => self.delete(&secret).await,
            Call::CreateRunner { stamp } => {
                let body = template()?.runner(name, *stamp);
                let made = api.create(&format!("{group}/ephemeralrunners"), &body).await?;
                Ok(Answer::Created(made.metadata.uid))
            }
            Call::GetRunner => {
                let found = api.get_metadata(&runner).await?;
                Ok(Answer::Runner(found.map(|found| found.metadata.uid)))
            }
            Call::SetStatus { runner_id } => {
                let patch = template::status(name, *runner_id);
                api.patch(&format!("{runner}/status"), MERGE, &patch).await.map(|_| Answer::Done)
            }
            Call::CreatePod { owner, stamp } => {
                let body = template()?.pod(name, owner, *stamp);
                api.create(&format!("{core}/pods"), &body).await.map(|_| Answer::Done)
            }
            Call::OwnSecret { owner } => {
                api.patch(&secret, MERGE, &template::owned(name, owner)).await.map(|_| Answer::Done)
            }
            Call::HandBack(generation) => {
                let path = format!("{group}/ephemeralrunnersets/{}", place.name);
                let patch = template::handed_back(*generation);
                let written = api.within(HAND_BACK).patch(&path, PATCH, &patch).await?;
                Ok(Answer::Returned { generation: written.metadata.generation })
            }
            _ => Err(Trouble::Refused(format!(
                "{} is no call about an object; please report this",
                call.code()
            ))),
        }
    }

    async fn create_journal(&self, journal: &Journal) -> Result<Answer, Trouble> {
        let text = journal.text().map_err(|error| Trouble::Refused(error.to_string()))?;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "immutable": true,
            "metadata": {
                "name": journal.name, "namespace": self.namespace, "labels": { RUNNER_SET_LABEL: journal.set },
            },
            "data": { KEY: text },
        });
        let path = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        self.kubernetes.create(&path, &object).await.map(|_| Answer::Done)
    }

    async fn delete(&self, path: &str) -> Result<Answer, Trouble> {
        self.kubernetes.delete(path).await.map(|()| Answer::Done)
    }

    fn journal(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace)
    }
}

/// A Secret is complete only with all that ARC and the runner read of it.
fn found_secret(secret: &Value) -> FoundSecret {
    let is_complete = ["jitToken", "runnerName"]
        .iter()
        .all(|key| decoded(secret, key).is_some_and(|text| !text.is_empty()));
    FoundSecret { runner_id: runner_id(secret).filter(|_| is_complete) }
}

/// The registration that a runner's Secret belongs to, if it names one.
pub(super) fn runner_id(secret: &Value) -> Option<i64> {
    String::from_utf8(decoded(secret, "runnerId")?).ok()?.parse().ok()
}

/// The runner that a Secret was made for, if it names one.
pub(super) fn runner_name(secret: &Value) -> Option<String> {
    String::from_utf8(decoded(secret, "runnerName")?).ok()
}

fn decoded(secret: &Value, key: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(secret["data"][key].as_str()?).ok()
}

async fn ask(call: &Call, name: &str, tools: &Tools) -> Result<Answer, Trouble> {
    let service = tools.service.as_ref().map_err(|why| Trouble::Refused(why.clone()))?;
    let answer = match call {
        Call::Register => {
            let template = tools.template.as_ref().map_err(|why| Trouble::Refused(why.clone()))?;
            let registration = service.register(template.scale_set, name, &template.work_folder).await;
            registration
                .map(|made| Answer::Registered { runner_id: made.runner_id, jit_config: made.jit_config })
        }
        Call::FindAgent => service.find(name).await.map(|found| Answer::Agent(found.map(|agent| agent.id))),
        Call::RemoveAgent(id) => service.remove(*id).await.map(|()| Answer::Done),
        _ => {
            return Err(Trouble::Refused(format!(
                "{} is no call of the Actions service; please report this",
                call.code()
            )));
        }
    };
    answer.map_err(|error| in_our_words(&error))
}

fn in_our_words(error: &ServiceError) -> Trouble {
    let retry_after = error.retry_after();
    match error {
        ServiceError::RunnerExists => Trouble::Exists,
        ServiceError::JobStillRunning => Trouble::Obstructed(error.to_string()),
        ServiceError::Throttled { .. } => Trouble::PushedBack { retry_after },
        ServiceError::Unavailable { status: 503, .. } => Trouble::Unavailable { retry_after },
        ServiceError::TimedOut(_) => Trouble::TimedOut,
        ServiceError::Refused(_) | ServiceError::Unauthorized(_) => Trouble::Refused(error.to_string()),
        ServiceError::Unavailable { .. } | ServiceError::Unreachable { .. } | ServiceError::Answer(_) => {
            Trouble::Failed { retry_after, why: error.to_string() }
        }
    }
}
