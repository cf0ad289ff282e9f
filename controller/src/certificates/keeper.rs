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

use super::plan::{Step, plan};
use super::secrets::{self, authority_data, leaf_data};
use super::vault::Vault;
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
    webhooks: MutatingWebhookConfiguration,
    vault: Vault,
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
            let held = seen.vault.held(&self.dns_names());
            self.metrics.certificate_expires(held.leaf.map(|leaf| leaf.window.until));
            let Some(step) = plan(&held, now) else { return Ok(()) };
            self.take(step, seen, now).await.with_context(|| format!("the step {step:?} failed"))?;
            tracing::info!(?step, "certificates");
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
        let mut vault = secrets::read(authority_secret.as_ref(), leaf_secret.as_ref());
        vault.published = published(&webhooks);
        Ok(Seen { authority_secret, leaf_secret, webhooks, vault })
    }

    /// Writes what the step changed.
    async fn take(&self, step: Step, seen: Seen, now: i64) -> anyhow::Result<()> {
        let before = seen.vault.clone();
        let after = seen.vault.after(step, &self.dns_names(), now)?;
        if after.published != before.published {
            return self.publish(&seen.webhooks, &after.published).await;
        }
        match after.leaf.as_ref().filter(|leaf| before.leaf.as_ref() != Some(leaf)) {
            Some(leaf) => {
                let data = leaf_data(leaf);
                self.write(&self.names.leaf_secret, "kubernetes.io/tls", seen.leaf_secret, data).await
            }
            None => {
                let data = authority_data(&after);
                self.write(&self.names.authority_secret, "Opaque", seen.authority_secret, data).await
            }
        }
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

/// The bundle that all entries have; nothing where they differ.
fn published(webhooks: &MutatingWebhookConfiguration) -> String {
    let bundles = webhooks.webhooks.iter().flatten().map(|webhook| {
        let bundle = webhook.client_config.ca_bundle.as_ref()?;
        String::from_utf8(bundle.0.clone()).ok()
    });
    let mut bundles: Vec<String> = bundles.map(Option::unwrap_or_default).collect();
    bundles.dedup();
    if bundles.len() == 1 { bundles.remove(0) } else { String::new() }
}
