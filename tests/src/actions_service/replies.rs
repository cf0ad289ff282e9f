//! What the service answers to each request; what it changes by that.

use std::time::Duration;

use serde_json::{Value, json};

use super::endpoint::{Endpoint, Target};
use super::jobs::Message;
use super::state::{Agent, Refusal, ScaleSet, Service};
use super::tokens::Scope;
use super::wire::{Poll, Reply, Request, time};

impl Service {
    /// Does what is asked for and answers.
    pub fn handle(&mut self, request: &Request, now: Duration) -> Reply {
        let target = Target::of(&request.method, &request.path);
        match target.endpoint {
            Endpoint::AccessToken | Endpoint::RegistrationToken | Endpoint::Registration => {
                self.authenticate(target.endpoint, request, now)
            }
            Endpoint::GetMessage | Endpoint::DeleteMessage | Endpoint::AcquireJobs => {
                if !self.tokens.good(request.token("Bearer"), Scope::Queue, now) {
                    return unauthorized();
                }
                self.queue(target, request, now)
            }
            Endpoint::Unknown => Reply::error(404, "UnknownRequestException", "no such operation"),
            _ => {
                if !self.tokens.good(request.token("Bearer"), Scope::Admin, now) {
                    return unauthorized();
                }
                self.manage(target, request, now)
            }
        }
    }

    fn authenticate(&mut self, endpoint: Endpoint, request: &Request, now: Duration) -> Reply {
        let expires = |service: &Self| time(service.tokens.unix(now) + 3600);
        match endpoint {
            Endpoint::Registration => {
                if !self.tokens.good(request.token("RemoteAuth"), Scope::Registration, now) {
                    return unauthorized();
                }
                let token = self.tokens.issue(Scope::Admin, now);
                Reply::with(200, json!({"url": format!("{}/tenant/1/", self.base), "token": token}))
            }
            // Whether the credentials are right is not the matter here, only that there are any.
            _ if request.token("Bearer").is_none() => unauthorized(),
            Endpoint::AccessToken => {
                let token = self.tokens.issue(Scope::Installation, now);
                Reply::with(201, json!({"token": token, "expires_at": expires(self)}))
            }
            _ => {
                let token = self.tokens.issue(Scope::Registration, now);
                Reply::with(201, json!({"token": token, "expires_at": expires(self)}))
            }
        }
    }

    fn queue(&mut self, target: Target<'_>, request: &Request, now: Duration) -> Reply {
        let set = target.id;
        if target.endpoint == Endpoint::AcquireJobs {
            let ids: Vec<i64> = serde_json::from_value(request.body.clone()).unwrap_or_default();
            return Reply::with(200, list(self.acquire(set, &ids, now)));
        }
        let session = request.asks("sessionId");
        if self.session(set, session).is_none() {
            return unauthorized();
        }
        if target.endpoint == Endpoint::DeleteMessage {
            self.delete_message(set, target.tail.parse().unwrap_or(0));
            return Reply::bare(204);
        }
        let after = request.asks("lastMessageId").parse().unwrap_or(0);
        match self.message(set, after) {
            Some(message) => Reply::with(200, describe_message(message)),
            None => Reply::Hold(Poll { set, session: session.to_owned(), after }),
        }
    }

    /// The answer to a poll that was held: a message if there is one by now, or the end of the session.
    pub fn held(&self, poll: &Poll) -> Option<Reply> {
        if self.session(poll.set, &poll.session).is_none() {
            return Some(unauthorized());
        }
        let message = self.message(poll.set, poll.after)?;
        Some(Reply::with(200, describe_message(message)))
    }

    fn manage(&mut self, target: Target<'_>, request: &Request, now: Duration) -> Reply {
        match target.endpoint {
            Endpoint::FindScaleSet
            | Endpoint::GetScaleSet
            | Endpoint::CreateScaleSet
            | Endpoint::UpdateScaleSet
            | Endpoint::DeleteScaleSet
            | Endpoint::FindGroup => self.scale_sets(target, request),
            Endpoint::OpenSession | Endpoint::RefreshSession | Endpoint::CloseSession => {
                self.sessions(target, request, now)
            }
            _ => self.runners(target, request, now),
        }
    }

    fn scale_sets(&mut self, target: Target<'_>, request: &Request) -> Reply {
        let name = request.asks("name");
        let group = request.asks("runnerGroupId").parse().unwrap_or(1);
        match target.endpoint {
            Endpoint::FindScaleSet => {
                let found = self.sets().find(|set| set.group == group && set.name.eq_ignore_ascii_case(name));
                let found = found.map(|set| set.id).and_then(|id| self.describe_set(id));
                Reply::with(200, list(found.into_iter().collect::<Vec<Value>>()))
            }
            Endpoint::FindGroup => {
                let name = request.asks("groupName");
                let found = self.groups.iter().filter(|(_, group)| group.eq_ignore_ascii_case(name));
                let found: Vec<Value> = found
                    .map(|(id, name)| json!({"id": id, "name": name, "size": 0, "isDefaultGroup": *id == 1}))
                    .collect();
                Reply::with(200, list(found))
            }
            Endpoint::CreateScaleSet => {
                let name = request.body["name"].as_str().unwrap_or_default().to_owned();
                let id = self.add_set(&name, 1);
                self.change_set(id, &request.body)
            }
            Endpoint::UpdateScaleSet => self.change_set(target.id, &request.body),
            Endpoint::DeleteScaleSet => {
                self.delete_set(target.id);
                Reply::bare(204)
            }
            _ => match self.describe_set(target.id) {
                Some(set) => Reply::with(200, set),
                None => not_found(),
            },
        }
    }

    /// Writes what is given and answers with the whole.
    fn change_set(&mut self, id: i64, given: &Value) -> Reply {
        let Some(set) = self.sets.get_mut(&id) else { return not_found() };
        if let Some(name) = given["name"].as_str().filter(|name| !name.is_empty()) {
            set.name = name.to_owned();
        }
        if let Some(group) = given["runnerGroupId"].as_i64().filter(|group| *group > 0) {
            set.group = group;
        }
        if given["labels"].as_array().is_some_and(|labels| !labels.is_empty()) {
            set.labels = given["labels"].clone();
        }
        if given["RunnerSetting"].as_object().is_some_and(|setting| !setting.is_empty()) {
            set.setting = given["RunnerSetting"].clone();
        }
        Reply::Now(200, self.describe_set(id))
    }

    fn sessions(&mut self, target: Target<'_>, request: &Request, now: Duration) -> Reply {
        let set = target.id;
        match target.endpoint {
            Endpoint::OpenSession => {
                let owner = request.body["ownerName"].as_str().unwrap_or_default();
                match self.open_session(set, owner, now) {
                    Ok(id) => Reply::Now(200, self.describe_session(set, &id, now)),
                    Err(Refusal::SessionTaken) => {
                        let message = "the scale set already has an active session";
                        Reply::error(409, "RunnerScaleSetSessionConflictException", message)
                    }
                    Err(_) => not_found(),
                }
            }
            Endpoint::RefreshSession => match self.describe_session(set, target.tail, now) {
                Some(session) => Reply::with(200, session),
                None => not_found(),
            },
            _ => {
                self.close_session(set, target.tail);
                Reply::bare(204)
            }
        }
    }

    fn runners(&mut self, target: Target<'_>, request: &Request, now: Duration) -> Reply {
        match target.endpoint {
            Endpoint::GenerateJitConfig => {
                let name = request.body["name"].as_str().unwrap_or_default();
                match self.register(target.id, name, now) {
                    Ok(agent) => {
                        let config = Self::encoded_config(&agent);
                        Reply::with(200, json!({"runner": describe(&agent), "encodedJITConfig": config}))
                    }
                    Err(Refusal::AgentExists) => {
                        let message = format!("a runner with the name {name} already exists");
                        Reply::error(409, "TaskAgentExistsException", &message)
                    }
                    Err(_) => not_found(),
                }
            }
            Endpoint::FindRunner => {
                let found = self.agent(request.asks("agentName")).map(describe);
                Reply::with(200, list(found.into_iter().collect::<Vec<Value>>()))
            }
            Endpoint::GetRunner => match self.agent_by_id(target.id) {
                Some(agent) => Reply::with(200, describe(agent)),
                None => Reply::error(404, "TaskAgentNotFoundException", "there is no such runner"),
            },
            _ => match self.remove(target.id) {
                Ok(()) => Reply::bare(204),
                Err(_) => Reply::error(400, "JobStillRunningException", "the runner has a job"),
            },
        }
    }

    /// A scale set as clients get it.
    pub(super) fn describe_set(&self, id: i64) -> Option<Value> {
        let ScaleSet { id, name, group, labels, setting } = self.sets.get(&id)?;
        Some(json!({
            "id": id, "name": name, "runnerGroupId": group, "runnerGroupName": self.groups.get(group),
            "labels": labels, "RunnerSetting": setting, "createdOn": time(self.tokens.unix(Duration::ZERO)),
            "runnerJitConfigUrl": format!("{}/tenant/1/_apis/runtime/runnerscalesets/{id}/generatejitconfig", self.base),
            "statistics": self.statistics(*id),
        }))
    }
}

fn describe(agent: &Agent) -> Value {
    json!({"id": agent.id, "name": agent.name, "runnerScaleSetId": agent.set})
}

fn describe_message(message: &Message) -> Value {
    json!({
        "messageId": message.id, "messageType": "RunnerScaleSetJobMessages",
        "body": Value::from(message.body.clone()).to_string(), "statistics": message.statistics,
    })
}

fn list<T: serde::Serialize>(items: Vec<T>) -> Value {
    json!({"count": items.len(), "value": items})
}

fn unauthorized() -> Reply {
    Reply::error(401, "UnauthorizedRequestException", "the token is not good for this")
}

fn not_found() -> Reply {
    Reply::error(404, "NotFoundException", "there is no such thing")
}
