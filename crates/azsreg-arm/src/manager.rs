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

    /// Another service, with the same identity.
    #[must_use]
    pub fn beside(&self, endpoint: &str, audience: &str) -> Self {
        Self::new(self.http, self.identity, endpoint, audience)
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

    /// The endpoint, without a slash at the end.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Answer, ArmError> {
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

    /// A call; one that goes on after its answer is followed to its end, as `Azure-AsyncOperation` or `Location` say.
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
        let url = self.url(path, version);
        let wants_resource = method == Method::PUT || method == Method::PATCH;
        let mut answer = self.send(method, &url, body).await?;
        if let Some(operation) = answer.header("azure-asyncoperation").map(str::to_owned) {
            let operation = self.link(&operation)?;
            for _ in 0..MAX_POLLS {
                pause(&answer).await;
                answer = self.send(Method::GET, &operation, None).await?;
                let status = answer.body["status"].as_str().unwrap_or("Succeeded").to_owned();
                let failed = ["Failed", "Canceled", "Cancelled"].iter().any(|word| status.eq_ignore_ascii_case(word));
                if failed {
                    let text = |name: &str| answer.body["error"][name].as_str().unwrap_or(&status).to_owned();
                    return Err(ArmError::Refused {
                        status: 409,
                        code: text("code"),
                        message: text("message"),
                        request_id: answer.header("x-ms-request-id").map(str::to_owned),
                        retry_after: None,
                    });
                }
                if status.eq_ignore_ascii_case("Succeeded") {
                    let body =
                        if wants_resource { self.send(Method::GET, &url, None).await?.body } else { answer.body };
                    return Ok(body);
                }
            }
            return Err(endless(&operation));
        }
        let mut polls = 0;
        while answer.status.as_u16() == 202 {
            let Some(location) = answer.header("location").map(str::to_owned) else { break };
            let location = self.link(&location)?;
            polls += 1;
            if polls > MAX_POLLS {
                return Err(endless(&location));
            }
            pause(&answer).await;
            answer = self.send(Method::GET, &location, None).await?;
        }
        if wants_resource && answer.body.get("id").is_none() {
            answer = self.send(Method::GET, &url, None).await?;
        }
        Ok(answer.body)
    }

    /// A call that is not waited for: the address of its operation, where it goes on.
    ///
    /// # Errors
    /// Refused, or not to be reached.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
    ) -> Result<Option<String>, ArmError> {
        let answer = self.send(method, &self.url(path, version), body).await?;
        let operation = answer.header("azure-asyncoperation").or(answer.header("location"));
        operation.map(|link| self.link(link)).transpose()
    }

    /// What an address that this manager gave says.
    ///
    /// # Errors
    /// Refused, not to be reached, or an address of somebody else.
    pub(crate) async fn look(&self, link: &str) -> Result<Value, ArmError> {
        Ok(self.send(Method::GET, &self.link(link)?, None).await?.body)
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

    /// A deletion; what is not there is deleted.
    ///
    /// # Errors
    /// Refused otherwise, or not to be reached.
    pub async fn delete(&self, path: &str, version: &str) -> Result<(), ArmError> {
        match self.call(Method::DELETE, path, version, None).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One page of a long list: the first one of a path, or the one at the address that the page before gave.
    ///
    /// # Errors
    /// Refused, not to be reached, not ready (202), or an address of somebody else.
    pub(crate) async fn page(&self, path: &str, version: &str, next: Option<&str>) -> Result<Value, ArmError> {
        let url = match next {
            Some(link) => self.link(link)?,
            None => self.url(path, version),
        };
        let answer = self.send(Method::GET, &url, None).await?;
        if answer.status.as_u16() == 202 {
            let (code, message) = ("NotReady".to_owned(), "the request is still being processed".to_owned());
            return Err(ArmError::Refused {
                status: 202,
                code,
                message,
                request_id: None,
                retry_after: answer.retry_after(),
            });
        }
        Ok(answer.body)
    }

    /// The host that is asked.
    pub(crate) fn host(&self) -> String {
        host_of(&self.endpoint)
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
                Some(link) => url = self.link(link)?,
            }
        }
        Err(ArmError::Unreadable { host: host_of(&url), reason: "a list without an end".into() })
    }

    /// A link as a whole URL. One that leads elsewhere is not followed: it would be given our token.
    fn link(&self, link: &str) -> Result<String, ArmError> {
        let host = |url: &str| host_of(url).trim_end_matches(":443").to_ascii_lowercase();
        if link.starts_with('/') && !link.starts_with("//") {
            let (scheme, _) = self.endpoint.split_once("://").unwrap_or(("https", ""));
            return Ok(format!("{scheme}://{}{link}", host_of(&self.endpoint)));
        }
        if link.starts_with("https://") && host(link) == host(&self.endpoint) {
            return Ok(link.to_owned());
        }
        Err(ArmError::Unreadable {
            host: host_of(&self.endpoint),
            reason: format!("it links to {}, which is another host", host_of(link)),
        })
    }
}

/// As long as was said, or a little.
async fn pause(answer: &Answer) {
    tokio::time::sleep(answer.retry_after().unwrap_or(Duration::from_secs(2))).await;
}

fn endless(url: &str) -> ArmError {
    ArmError::Broken { host: host_of(url), reason: "an accepted operation did not end".into() }
}
