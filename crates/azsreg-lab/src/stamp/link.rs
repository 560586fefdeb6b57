//! The stamp's way to Azure: real HTTPS, or none.

use reqwest::{Certificate, Client, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::lab::Urls;
use crate::world::directory::AZURE_POWERSHELL;
use crate::world::stamp::Bridge;

/// The way to Azure.
pub(crate) enum Link {
    /// Over HTTPS, with the lab's authority.
    Https(Client),
    /// A disconnected stamp.
    Down,
}

impl Link {
    /// A link over HTTPS that trusts the lab's authority and no other, and never takes a proxy.
    pub(crate) fn https(ca_pem: &str) -> Result<Self, reqwest::Error> {
        let ca = Certificate::from_pem(ca_pem.as_bytes())?;
        Ok(Self::Https(
            Client::builder().tls_certs_only([ca]).no_proxy().timeout(std::time::Duration::from_secs(60)).build()?,
        ))
    }

    pub(crate) fn client(&self) -> Result<&Client, String> {
        match self {
            Self::Https(client) => Ok(client),
            Self::Down => Err("Unable to connect to the remote server: this Azure Stack is disconnected.".into()),
        }
    }

    /// The keys that Azure publishes for activation keys.
    pub(crate) async fn activation_keys(&self, urls: &Urls) -> Result<Value, String> {
        let url = format!("{}/activation-keys", urls.authority);
        let answer = self.client()?.get(url).send().await.map_err(|e| e.to_string())?;
        answer.json().await.map_err(|e| e.to_string())
    }

    /// Redeems a user's refresh token and makes the bridge's identity with it, or finds it again.
    pub(crate) async fn bridge(
        &self,
        urls: &Urls,
        cloud_id: Uuid,
        tenant: &str,
        refresh_token: &str,
    ) -> Result<Bridge, String> {
        let client = self.client()?;
        let scope = format!("{}/.default", urls.graph);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &AZURE_POWERSHELL.to_string()),
            ("refresh_token", refresh_token),
            ("scope", &scope),
        ];
        let url = format!("{}/{tenant}/oauth2/v2.0/token", urls.authority);
        let answer = client.post(url).form(&form).send().await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|e| e.to_string())?;
        if !status.is_success() {
            return Err(format!(
                "{}: {}",
                body["error"].as_str().unwrap_or("error"),
                body["error_description"].as_str().unwrap_or_default()
            ));
        }
        let token = body["access_token"].as_str().unwrap_or_default().to_owned();
        let graph = Graph { client, base: &urls.graph, token: &token };

        let uri = format!("https://azurebridge.azurestack.lab.invalid/{cloud_id}");
        let filter = format!("identifierUris/any(u:u eq '{uri}')");
        let found = graph.get(&format!("applications?$filter={}", encode(&filter))).await?;
        let application = match found["value"].as_array().and_then(|list| list.first()) {
            Some(application) => application.clone(),
            None => {
                let body = json!({"displayName": format!("Azure Stack bridge {cloud_id}"), "identifierUris": [uri]});
                graph.post("applications", &body).await?
            }
        };
        let id = application["id"].as_str().unwrap_or_default();
        let app_id = application["appId"].as_str().unwrap_or_default();
        // A new secret each time: who does not own the application is refused here, with 403.
        let secret = json!({"passwordCredential": {"displayName": "AzureBridge"}});
        let made = graph.post(&format!("applications/{id}/addPassword"), &secret).await?;
        let filter = format!("appId eq '{app_id}'");
        let found = graph.get(&format!("servicePrincipals?$filter={}", encode(&filter))).await?;
        let principal = match found["value"].as_array().and_then(|list| list.first()) {
            Some(principal) => principal.clone(),
            None => graph.post("servicePrincipals", &json!({ "appId": app_id })).await?,
        };
        let guid = |value: &Value| value.as_str().and_then(|id| id.parse().ok()).ok_or("Graph answered without ids.");
        Ok(Bridge {
            object_id: guid(&principal["id"])?,
            app_id: guid(&principal["appId"])?,
            tenant: tenant.to_owned(),
            secret: made["secretText"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Signs in as the bridge, for a service of Azure: a token, or what the directory says.
    pub(crate) async fn sign_in(&self, urls: &Urls, bridge: &Bridge, resource: &str) -> Result<String, Refusal> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &bridge.app_id.to_string()),
            ("client_secret", &bridge.secret),
            ("scope", &format!("{resource}/.default")),
        ];
        let url = format!("{}/{}/oauth2/v2.0/token", urls.authority, bridge.tenant);
        let sent = self.client().map_err(Refusal::Unreachable)?.post(url).form(&form).send().await;
        let answer = sent.map_err(Refusal::broken)?;
        let (good, body) = (answer.status().is_success(), answer.json::<Value>().await.map_err(Refusal::broken)?);
        if good {
            return Ok(body["access_token"].as_str().unwrap_or_default().to_owned());
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Err(Refusal::Azure { code: text("error"), message: text("error_description") })
    }

    /// A call to Azure's Resource Manager.
    pub(crate) async fn call(&self, url: &str, token: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        let client = self.client().map_err(Refusal::Unreachable)?;
        let request = match body {
            Some(body) => client.post(url).json(body),
            None => client.get(url),
        };
        let answer = request.bearer_auth(token).send().await.map_err(Refusal::broken)?;
        let (good, body) = (answer.status().is_success(), answer.json::<Value>().await.map_err(Refusal::broken)?);
        if good {
            return Ok(body);
        }
        let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
        Err(Refusal::Azure { code: text("code"), message: text("message") })
    }

    /// A blob, as it comes.
    pub(crate) async fn blob(&self, url: &str) -> Result<Response, Refusal> {
        let client = self.client().map_err(Refusal::Unreachable)?;
        // Gigabytes take their time.
        let day = std::time::Duration::from_secs(86_400);
        let answer = client.get(url).timeout(day).send().await.map_err(Refusal::broken)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).unwrap_or("BlobError");
        let status = answer.status().as_u16();
        Err(Refusal::Azure {
            code: code.to_owned(),
            message: format!("The storage service answered with status {status}."),
        })
    }
}

/// Why Azure could not be used.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No way there.
    Unreachable(String),
    /// Azure refused: its code and its words.
    Azure { code: String, message: String },
}

impl Refusal {
    pub(crate) fn broken(error: reqwest::Error) -> Self {
        Self::Unreachable(format!("Unable to connect to the remote server: {}", error.without_url()))
    }
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

struct Graph<'a> {
    client: &'a Client,
    base: &'a str,
    token: &'a str,
}

impl Graph<'_> {
    async fn get(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}/v1.0/{path}", self.base);
        read(self.client.get(url).bearer_auth(self.token).send().await.map_err(|e| e.to_string())?).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}/v1.0/{path}", self.base);
        read(self.client.post(url).bearer_auth(self.token).json(body).send().await.map_err(|e| e.to_string())?).await
    }
}

async fn read(answer: Response) -> Result<Value, String> {
    let status = answer.status();
    let body: Value = answer.json().await.map_err(|e| e.to_string())?;
    if status.is_success() {
        return Ok(body);
    }
    Err(format!(
        "Graph request failed with status {}: {}: {}",
        status.as_u16(),
        body["error"]["code"].as_str().unwrap_or_default(),
        body["error"]["message"].as_str().unwrap_or_default()
    ))
}
