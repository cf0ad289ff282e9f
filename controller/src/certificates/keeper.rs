//! Carries the plan out: reads the Secrets and the webhook configuration, takes one step after the other.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::issue::{Certified, authority, leaf};
use super::plan::{Held, Step, plan};
use super::secrets::{Authorities, held_leaf, leaf_data, window_of};
use crate::metrics::Metrics;

/// More steps than any situation needs.
const MOST_STEPS: usize = 8;

/// What the objects are called.
#[derive(Clone, Debug)]
pub struct Names {
    /// Headstart's namespace.
    pub namespace: String,
    /// The webhook's Service.
    pub service: String,
    /// The Secret with the CAs.
    pub authority_secret: String,
    /// The Secret that the webhook mounts.
    pub leaf_secret: String,
    /// The MutatingWebhookConfiguration.
    pub webhooks: String,
}

/// Keeps the certificates.
pub struct Keeper {
    secrets: Api<Secret>,
    webhooks: Api<MutatingWebhookConfiguration>,
    names: Names,
    metrics: Metrics,
}

/// Everything as it was read.
struct Seen {
    authority_secret: Option<Secret>,
    leaf_secret: Option<Secret>,
    authorities: Authorities,
    webhooks: MutatingWebhookConfiguration,
    held: Held,
}

impl Keeper {
    /// A keeper of the objects with these names.
    pub fn new(client: Client, names: Names, metrics: Metrics) -> Self {
        let secrets = Api::namespaced(client.clone(), &names.namespace);
        Self { secrets, webhooks: Api::all(client), names, metrics }
    }

    /// Takes steps until all is well.
    pub async fn settle(&self) -> anyhow::Result<()> {
        for _ in 0..MOST_STEPS {
            let seen = self.look().await?;
            let now = Timestamp::now().as_second();
            match plan(&seen.held, now) {
                None => return Ok(()),
                Some(step) => {
                    self.take(step, seen, now).await.with_context(|| format!("the step {step:?} failed"))?;
                    tracing::info!(?step, "certificates");
                }
            }
        }
        anyhow::bail!("the certificates do not settle; does somebody else write {}?", self.names.webhooks)
    }

    async fn look(&self) -> anyhow::Result<Seen> {
        let Names { authority_secret, leaf_secret, webhooks, .. } = &self.names;
        let read = |name: &str| format!("failed to read the Secret {name}");
        let authority_secret =
            self.secrets.get_opt(authority_secret).await.with_context(|| read(authority_secret))?;
        let leaf_secret = self.secrets.get_opt(leaf_secret).await.with_context(|| read(leaf_secret))?;
        let webhooks = self.webhooks.get(webhooks).await.with_context(|| {
            format!("failed to read the MutatingWebhookConfiguration {webhooks}; install it from deploy/")
        })?;
        let authorities = authority_secret.as_ref().map(Authorities::read).unwrap_or_default();
        let certificate = |certified: &Option<Certified>| {
            window_of(certified.as_ref().map(|certified| certified.certificate.as_str()))
        };
        let leaf = leaf_secret
            .as_ref()
            .and_then(|secret| held_leaf(secret, authorities.signing.as_ref(), &self.dns_names()));
        self.metrics.certificate_expires(leaf.map(|leaf| leaf.window.until));
        let held = Held {
            signing: certificate(&authorities.signing),
            next: certificate(&authorities.next),
            previous: window_of(authorities.previous.as_deref()),
            leaf,
            bundle_is_published: is_published(&webhooks, &authorities.bundle()),
        };
        Ok(Seen { authority_secret, leaf_secret, authorities, webhooks, held })
    }

    async fn take(&self, step: Step, seen: Seen, now: i64) -> anyhow::Result<()> {
        let mut authorities = seen.authorities;
        match step {
            Step::CreateSigning => {
                authorities = Authorities { signing: Some(authority(now)?), ..Authorities::default() }
            }
            Step::CreateNext => authorities.next = Some(authority(now)?),
            Step::Promote => {
                authorities.previous = authorities.signing.map(|old| old.certificate);
                authorities.signing = authorities.next.take();
            }
            Step::DropPrevious => authorities.previous = None,
            Step::PublishBundle => return self.publish(&seen.webhooks, &authorities.bundle()).await,
            Step::IssueLeaf => {
                let signing = authorities.signing.context("there is no CA")?;
                let leaf = leaf(&signing, &self.dns_names(), now)?;
                let data = leaf_data(&leaf, &signing);
                return self
                    .write(&self.names.leaf_secret, "kubernetes.io/tls", seen.leaf_secret, data)
                    .await;
            }
        }
        self.write(&self.names.authority_secret, "Opaque", seen.authority_secret, authorities.data()).await
    }

    /// Replaces what was read, so that two writers never mix; or creates it.
    async fn write(
        &self,
        name: &str,
        kind: &str,
        before: Option<Secret>,
        data: BTreeMap<String, ByteString>,
    ) -> anyhow::Result<()> {
        let (post, data) = (PostParams::default(), Some(data));
        let done = match before {
            Some(before) => self.secrets.replace(name, &post, &Secret { data, ..before }).await,
            None => {
                let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
                let type_ = Some(kind.to_owned());
                self.secrets.create(&post, &Secret { metadata, data, type_, ..Secret::default() }).await
            }
        };
        done.map(drop).with_context(|| format!("failed to write the Secret {name}"))
    }

    /// Applies the bundles and nothing else, so that the rest of the configuration stays the administrator's.
    async fn publish(&self, webhooks: &MutatingWebhookConfiguration, bundle: &str) -> anyhow::Result<()> {
        let entries = webhooks.webhooks.iter().flatten().map(|webhook| {
            let bundle = ByteString(bundle.as_bytes().to_vec());
            json!({ "name": webhook.name, "clientConfig": { "caBundle": bundle } })
        });
        let apply = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": self.names.webhooks },
            "webhooks": entries.collect::<Vec<_>>(),
        });
        let params = PatchParams::apply("headstart-controller").force();
        let done = self.webhooks.patch(&self.names.webhooks, &params, &Patch::Apply(apply)).await;
        done.map(drop).context("failed to write the CA bundle")
    }

    fn dns_names(&self) -> Vec<String> {
        let Names { service, namespace, .. } = &self.names;
        vec![format!("{service}.{namespace}.svc")]
    }
}

fn is_published(webhooks: &MutatingWebhookConfiguration, bundle: &str) -> bool {
    webhooks.webhooks.iter().flatten().all(|webhook| {
        webhook.client_config.ca_bundle.as_ref().is_some_and(|published| published.0 == bundle.as_bytes())
    })
}
