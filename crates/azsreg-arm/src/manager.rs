//! A Resource Manager: calls with a token, its envelope, pages, operations that end later.

use std::cell::RefCell;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::error::ArmError;
use crate::http::{Answer, Body, Http, host_of};
use crate::login::Identity;

/// A list has this many pages at most.
const MAX_PAGES: usize = 1_000;
/// How long an accepted operation is followed.
const MAX_POLLS: usize = 600;

/// A Resource Manager at an endpoint, for an audience, with an identity.
pub struct Manager<'a> {
    http: &'a Http,
    identity: &'a Identity<'a>,
    endpoint: String,
    audience: String,
    requests: RefCell<Vec<String>>,
}

impl<'a> Manager<'a> {
    /// The Resource Manager at `endpoint`.
    #[must_use]
    pub fn new(http: &'a Http, identity: &'a Identity<'a>, endpoint: &str, audience: &str) -> Self {
        Self {
            http,
            identity,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            audience: audience.to_owned(),
            requests: RefCell::default(),
        }
    }

    /// The ids of the requests since this was last asked.
    pub fn take_request_ids(&self) -> Vec<String> {
        self.requests.take()
    }

    /// Who is signed in.
    #[must_use]
    pub fn identity(&self) -> &Identity<'a> {
        self.identity
    }

    /// The audience of its tokens.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Answer, ArmError> {
        use secrecy::ExposeSecret as _;
        let token = self.identity.token(&self.audience).await?;
        let body = body.map_or(Body::None, Body::Json);
        let answer = self.http.call(method, url, Some(token.expose_secret()), body).await?;
        if let Some(id) = answer.header("x-ms-request-id") {
            self.requests.borrow_mut().push(id.to_owned());
        }
        if answer.status.is_success() {
            return Ok(answer);
        }
        // `error` inside an envelope, or the envelope's members at the top as some gateways write them.
        let error = answer.body.get("error").unwrap_or(&answer.body);
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = text("code");
        Err(ArmError::Refused {
            status: answer.status.as_u16(),
            code: if code.is_empty() { format!("HTTP {}", answer.status.as_u16()) } else { code },
            message: text("message"),
            request_id: answer.header("x-ms-request-id").map(str::to_owned),
            retry_after: answer.retry_after(),
        })
    }

    fn url(&self, path: &str, version: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{}{path}{separator}api-version={version}", self.endpoint)
    }

    /// A call; an accepted one is followed to its end.
    ///
    /// # Errors
    /// Refused, or not to be reached.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
    ) -> Result<Value, ArmError> {
        let mut answer = self.send(method, &self.url(path, version), body).await?;
        let mut polls = 0;
        while answer.status.as_u16() == 202 {
            let location =
                answer.header("azure-asyncoperation").or_else(|| answer.header("location")).map(str::to_owned);
            let Some(location) = location else { break };
            self.same_origin(&location)?;
            polls += 1;
            if polls > MAX_POLLS {
                return Err(ArmError::Broken {
                    host: host_of(&location),
                    reason: "an accepted operation did not end".into(),
                });
            }
            tokio::time::sleep(answer.retry_after().unwrap_or(Duration::from_secs(5))).await;
            answer = self.send(Method::GET, &location, None).await?;
        }
        Ok(answer.body)
    }

    /// A GET whose resource may not be there.
    ///
    /// # Errors
    /// Refused otherwise, or not to be reached.
    pub async fn find(&self, path: &str, version: &str) -> Result<Option<Value>, ArmError> {
        match self.call(Method::GET, path, version, None).await {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list; a scope that is not there has an empty one.
    ///
    /// # Errors
    /// Refused otherwise, or not to be reached.
    pub async fn list(&self, path: &str, version: &str) -> Result<Vec<Value>, ArmError> {
        let mut items = Vec::new();
        let mut url = self.url(path, version);
        for _ in 0..MAX_PAGES {
            let mut body = match self.send(Method::GET, &url, None).await {
                Ok(answer) => answer.body,
                Err(error) if error.is_not_found() => return Ok(items),
                Err(error) => return Err(error),
            };
            let Some(Value::Array(page)) = body.get_mut("value").map(Value::take) else {
                return Err(ArmError::Unreadable { host: host_of(&url), reason: "a list without a value".into() });
            };
            items.extend(page);
            match body.get("nextLink").and_then(Value::as_str).filter(|link| !link.is_empty()) {
                None => return Ok(items),
                Some(link) => {
                    self.same_origin(link)?;
                    url = link.to_owned();
                }
            }
        }
        Err(ArmError::Unreadable { host: host_of(&url), reason: "a list without an end".into() })
    }

    /// A link that leads elsewhere is not followed: it would be given our token.
    fn same_origin(&self, link: &str) -> Result<(), ArmError> {
        let same = link.starts_with("https://") && host_of(link).eq_ignore_ascii_case(&host_of(&self.endpoint));
        if same {
            return Ok(());
        }
        Err(ArmError::Unreadable {
            host: host_of(&self.endpoint),
            reason: format!("it links to {}, which is another host", host_of(link)),
        })
    }
}
