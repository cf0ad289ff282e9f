//! ARC's listener, played: it reads the message queue and patches the runner set by the published rules.

use anyhow::{Context as _, Result, bail};
use kube::Client;
use kube::api::{Patch, PatchParams};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::agents::Agents;
use super::resources::api;
use crate::arc::model::listener::body;
use crate::arc::model::{Key, Kind, Listener};

/// What a listener is for.
#[derive(Clone, Debug)]
pub struct Task {
    /// The runner set that it patches.
    pub runner_set: Key,
    /// The scale set at the service.
    pub scale_set_id: i64,
    /// `minRunners`.
    pub min: i64,
    /// `maxRunners`.
    pub max: i64,
}

/// A listener; it ends when dropped, and its session stays until it expires.
pub struct PlayedListener {
    task: JoinHandle<()>,
}

impl PlayedListener {
    /// Starts one whose patches are this client's. After any error it starts anew, as its pod would.
    pub fn start(client: Client, config_url: &str, task: Task) -> Self {
        let agents = Agents::new(config_url, "ghalistener");
        let run = async move {
            loop {
                let Err(error) = life(&client, &agents, &task).await;
                println!("played listener: {error:#}");
                let soon = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
                tokio::time::sleep_until(soon).await;
            }
        };
        Self { task: tokio::spawn(run) }
    }
}

impl Drop for PlayedListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// From the session to the first error.
async fn life(client: &Client, agents: &Agents, task: &Task) -> Result<std::convert::Infallible> {
    let path = format!("runtime/runnerscalesets/{}/sessions", task.scale_set_id);
    let owner = json!({"sessionId": "00000000-0000-0000-0000-000000000000", "ownerName": "played"});
    let (status, session) = agents.ask(Method::POST, &path, &owner).await?;
    if status != 200 {
        bail!("no session: {status} {session}");
    }
    let queue = session["messageQueueUrl"].as_str().context("no queue")?;
    let token = format!("Bearer {}", session["messageQueueAccessToken"].as_str().context("no queue token")?);
    let mut listener = Listener::new(task.min, task.max);
    let mut statistics = session["statistics"].clone();
    let mut last = 0;
    loop {
        let assigned = statistics["totalAssignedJobs"].as_i64().context("no statistics")?;
        let (replicas, patch_id) = listener.patch(assigned);
        let sets = api(client, Kind::RunnerSet, &task.runner_set.namespace);
        let patch = Patch::Merge(body(replicas, patch_id));
        sets.patch(&task.runner_set.name, &PatchParams::default(), &patch).await?;
        let after = if last > 0 { format!("&lastMessageId={last}") } else { String::new() };
        let (status, message) =
            agents.send(Method::GET, &format!("{queue}{after}"), &token, &Value::Null).await?;
        match status {
            202 => continue,
            200 => {}
            _ => bail!("no message: {status} {message}"),
        }
        statistics = message["statistics"].clone();
        last = message["messageId"].as_i64().context("no message id")?;
        let (path, query) = queue.split_once('?').context("no query in the queue's URL")?;
        agents.send(Method::DELETE, &format!("{path}/{last}?{query}"), &token, &Value::Null).await?;
        let elements: Vec<Value> = serde_json::from_str(message["body"].as_str().unwrap_or("[]"))?;
        acquire(agents, task, &token, &elements).await?;
        for element in &elements {
            match element["messageType"].as_str() {
                Some("JobStarted") => {
                    listener.touch();
                    started(client, task, element).await?;
                }
                Some("JobCompleted") => listener.touch(),
                _ => {}
            }
        }
    }
}

async fn acquire(agents: &Agents, task: &Task, token: &str, elements: &[Value]) -> Result<()> {
    let offered = elements.iter().filter(|element| element["messageType"] == "JobAvailable");
    let ids: Vec<i64> = offered.filter_map(|element| element["runnerRequestId"].as_i64()).collect();
    let Some(url) = elements.iter().find_map(|element| element["acquireJobUrl"].as_str()) else {
        return Ok(());
    };
    // The service says where; all of them go to the scale set's own path.
    let front = url.rsplit_once("/acquire").map_or(url, |(front, _)| front);
    let url = format!("{front}/tenant/1/_apis/runtime/runnerscalesets/{}/acquirejobs", task.scale_set_id);
    let (status, _) = agents.send(Method::POST, &url, token, &json!(ids)).await?;
    if status == 200 { Ok(()) } else { bail!("jobs are not acquired: {status}") }
}

/// The runner gets to know its job; one that is not there never does.
async fn started(client: &Client, task: &Task, element: &Value) -> Result<()> {
    let runners = api(client, Kind::Runner, &task.runner_set.namespace);
    let status = json!({"status": {
        "jobRequestId": element["runnerRequestId"], "jobId": element["jobId"],
        "jobRepositoryName": "org/repo", "workflowRunId": element["workflowRunId"],
        "jobWorkflowRef": element["jobWorkflowRef"], "jobDisplayName": element["jobDisplayName"],
    }});
    let name = element["runnerName"].as_str().context("a job without a runner")?;
    match runners.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        patched => patched.map(drop).map_err(Into::into),
    }
}
