//! Events on their way to the API server. They are told when there is time for them, and none stops anything else.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use headstart_runtime::cluster::{CallError, within};
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::bucket::Bucket;
use crate::metrics::Metrics;
use crate::news::News;

/// Longest time for one Event.
const CALL: Duration = Duration::from_secs(5);

/// Longest time that one round spends on Events; the rest follows in the next one.
const ROUND: Duration = Duration::from_secs(10);

/// How fast they are told after a [`BURST`], so that trouble on every node does not become trouble of the API server.
const EVERY: Duration = Duration::from_millis(100);

const BURST: u32 = 50;

/// Most Events that wait. They are for people: what they tell is also in conditions, in the state and in the log.
const MOST: usize = 2000;

/// What is to be told, in order.
pub struct Outbox {
    client: Client,
    metrics: Metrics,
    waiting: VecDeque<(ObjectReference, News)>,
    bucket: Bucket,
    trouble: Trouble,
}

impl Outbox {
    /// An empty one.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        let bucket = Bucket::new(EVERY, BURST, Instant::now());
        Self { client, metrics, waiting: VecDeque::new(), bucket, trouble: Trouble::default() }
    }

    /// One that tells beside everything else, as long as anything is sent to it.
    pub fn beside(client: Client, metrics: Metrics) -> UnboundedSender<(ObjectReference, News)> {
        let (sender, mut receiver) = unbounded_channel();
        tokio::spawn(async move {
            let mut outbox = Self::new(client, metrics);
            loop {
                let next = match outbox.due() {
                    Some(due) => match tokio::time::timeout(due, receiver.recv()).await {
                        Ok(next) => next,
                        Err(_) => {
                            outbox.flush().await;
                            continue;
                        }
                    },
                    None => receiver.recv().await,
                };
                let Some((about, news)) = next else { break };
                outbox.push(about, news);
                outbox.flush().await;
            }
            outbox.flush().await;
        });
        sender
    }

    /// Tells `news` about an object, later.
    pub fn push(&mut self, about: ObjectReference, news: News) {
        if self.waiting.len() >= MOST {
            self.metrics.failed("events");
            self.waiting.pop_front();
        }
        self.waiting.push_back((about, news));
    }

    /// Tells what waits, as far as this round's time goes.
    pub async fn flush(&mut self) {
        let _ = tokio::time::timeout(ROUND, self.tell()).await;
    }

    /// How long until the next ones may be told; `None` if none waits.
    pub fn due(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then_some(EVERY * BURST)
    }

    async fn tell(&mut self) {
        while let Some((about, news)) = self.waiting.front() {
            if !self.bucket.take(Instant::now()) {
                return;
            }
            match publish(&self.client, about, news).await {
                Ok(()) => _ = self.trouble.is_over(),
                // Nobody will ever take it, as in a namespace that is going away.
                Err(CallError::Refused(status)) if is_final(status.code) => self.failed(&status.message),
                Err(error) => return self.failed(&error.to_string()),
            }
            self.waiting.pop_front();
        }
    }

    fn failed(&mut self, error: &str) {
        self.metrics.failed("events");
        if self.trouble.is_news(&error) {
            tracing::warn!(error, "failed to write an Event");
        }
    }
}

fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && code != 429
}

/// Writes one Event: into the namespace of what it is about, or into `default` for what has none.
async fn publish(client: &Client, about: &ObjectReference, news: &News) -> Result<(), CallError> {
    let event = Event {
        type_: if news.is_warning { EventType::Warning } else { EventType::Normal },
        reason: news.reason.to_owned(),
        note: Some(news.note.clone()),
        action: "Publish".to_owned(),
        secondary: None,
    };
    // A new one each time: it would repeat an earlier Event with the earlier note.
    let recorder = Recorder::new(client.clone(), Reporter::from("headstart-controller"));
    within(CALL, recorder.publish(&event, about)).await
}
