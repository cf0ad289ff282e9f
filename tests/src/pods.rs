//! Pods of one namespace, as their user sees them: whether they run, what they print, what a command in them says.

use std::time::Duration;

use headstart_externals::names::{DECISION_ANNOTATION, VERSION_LABEL};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use crate::bed::Cluster;
use crate::wait::{until, within};

/// Longest copy that is waited for: thousands of files over a slow network.
const COPY: Duration = Duration::from_secs(300);

/// Pods of one namespace.
pub struct Pods<'c> {
    cluster: &'c Cluster,
    client: Client,
    /// Through which they are read.
    pub api: Api<Pod>,
    namespace: &'c str,
}

/// What lies where externals were copied to, and how long the copy took.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// Files, without links.
    pub files: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// How many of both the copy wrote; others were there before.
    pub written: u64,
    /// Seconds of the copy alone.
    pub seconds: f64,
}

impl<'c> Pods<'c> {
    /// Those of that namespace.
    pub fn of(cluster: &'c Cluster, client: &Client, namespace: &'c str) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { cluster, client: client.clone(), api, namespace }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.namespace
    }

    /// Creates it and gives it as the API server made it.
    pub fn create(&self, pod: &Value) -> Value {
        self.cluster.apply(&pod.to_string()).unwrap();
        let get = ["get", "pod", name(pod), "--namespace", self.namespace, "--output=json"];
        serde_json::from_str(&self.cluster.kubectl(&get).unwrap()).unwrap()
    }

    /// Deletes it and waits until it is gone.
    pub fn delete(&self, name: &str) {
        self.cluster.kubectl(&["delete", "pod", name, "--namespace", self.namespace, "--now"]).unwrap();
    }

    /// Waits until all its containers do.
    pub async fn runs(&self, name: &str) {
        let running = || async {
            let status = self.api.get(name).await.ok()?.status?;
            let statuses = status.container_statuses?;
            statuses.iter().all(|status| status.ready).then_some(())
        };
        until(&format!("{name} runs"), running).await;
    }

    /// What its first container printed about its copy of externals.
    pub async fn copied(&self, name: &str) -> Copied {
        let line = || async {
            let log = self.api.logs(name, &LogParams::default()).await.ok()?;
            let line: Value = log.lines().find_map(|line| serde_json::from_str(line).ok())?;
            let count = |key: &str| line[key].as_u64();
            Some(Copied {
                files: count("files")?,
                links: count("links")?,
                bytes: count("bytes")?,
                written: count("written")?,
                seconds: line["seconds"].as_f64()?,
            })
        };
        within(COPY, line).await.expect("externals are copied")
    }

    /// What a command in the first container printed; both of its outputs.
    pub fn exec(&self, name: &str, command: &str) -> String {
        self.run(&["exec", name], command)
    }

    /// The same in another container.
    pub fn exec_in(&self, name: &str, container: &str, command: &str) -> String {
        self.run(&["exec", name, "--container", container], command)
    }

    fn run(&self, words: &[&str], command: &str) -> String {
        let script = format!("({command}) 2>&1; true");
        let rest = ["--namespace", self.namespace, "--", "sh", "-c", &script];
        self.cluster.kubectl(&[words, &rest].concat()).unwrap()
    }

    /// Runs a Job to its good end, and gives what it printed and its pod.
    pub async fn finish(&self, job: &Value) -> (String, Pod) {
        self.cluster.apply(&job.to_string()).unwrap();
        let (name, jobs) = (name(job), Api::<Job>::namespaced(self.client.clone(), self.namespace));
        until(&format!("{name} succeeds"), || async {
            let status = jobs.get(name).await.ok()?.status?;
            (status.succeeded == Some(1)).then_some(())
        })
        .await;
        let its = ListParams::default().labels(&format!("job-name={name}"));
        let pod = self.api.list(&its).await.unwrap().items.pop().unwrap();
        let log = self.api.logs(&pod.name_any(), &LogParams::default()).await.unwrap();
        (log, pod)
    }
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// The version that a pod was given; null if none.
pub fn version_of(pod: &Value) -> &Value {
    &pod["metadata"]["labels"][VERSION_LABEL]
}

/// What was done to a pod; null if nothing.
pub fn decision_on(pod: &Value) -> &Value {
    &pod["metadata"]["annotations"][DECISION_ANNOTATION]
}
