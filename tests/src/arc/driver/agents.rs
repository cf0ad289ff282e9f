//! A client of the Actions service as ARC's: one token, and requests that say who asks.

use anyhow::{Context as _, Result};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A client of the service; its token is fetched once.
pub struct Agents {
    config_url: String,
    http: Client,
    admin: OnceCell<(String, String)>,
}

impl Agents {
    /// A client that names itself as this part of ARC.
    pub fn new(config_url: &str, subsystem: &str) -> Self {
        headstart_runtime::program::install_crypto();
        let agent = json!({
            "system": "actions-runner-controller", "version": "dev", "subsystem": subsystem, "kind": "scaleset",
        });
        let http = Client::builder().no_proxy().user_agent(agent.to_string()).build().unwrap();
        Self { config_url: config_url.to_owned(), http, admin: OnceCell::new() }
    }

    /// Asks the service; gives status and JSON.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
        let (base, token) = self.admin.get_or_try_init(|| self.authenticate()).await?;
        self.send(method, &format!("{base}_apis/{path}"), &format!("Bearer {token}"), body).await
    }

    /// The same with any URL and authorization.
    pub async fn send(&self, method: Method, url: &str, token: &str, body: &Value) -> Result<(u16, Value)> {
        let request = self.http.request(method, url).header("Authorization", token);
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    async fn authenticate(&self) -> Result<(String, String)> {
        let (front, path) =
            self.config_url.split_at(self.config_url.find("/org").context("no /org in the URL")?);
        let url = format!("{front}/api/v3/repos{path}/actions/runners/registration-token");
        let (_, answer) = self.send(Method::POST, &url, "Bearer played", &Value::Null).await?;
        let token = format!("RemoteAuth {}", answer["token"].as_str().context("no registration token")?);
        let body = json!({"url": self.config_url, "runner_event": "register"});
        let url = format!("{front}/api/v3/actions/runner-registration");
        let (_, answer) = self.send(Method::POST, &url, &token, &body).await?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Ok((text("url").context("no URL of the service")?, text("token").context("no admin token")?))
    }
}
