//! A Resource Manager: calls with a token, its envelope, pages, operations that end later.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::pin;
use std::time::Duration;

use azsreg_model::redact::of_server;
use azsreg_model::{Problem, code};
use azsreg_operations::engine::retry::Policy;
use azsreg_operations::waits::Allowance;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::absent::{is_of_kind, says_absent};
use crate::address::{self, too_large, wait_within};
use crate::challenge::Wanted;
use crate::error::ArmError;
use crate::http::{Answer, Body, Http, MAX_HELD, host_of};
use crate::login::{Identity, Tries};

/// How long an accepted operation is followed, and all pages of a list are read: as long as a step may take.
const STEP: Duration = Policy::AZURE.deadline;
/// What a page of a list weighs besides its items, so that a list of empty pages ends too.
const PAGE: usize = 64 << 10;
/// As many pages without a row may follow each other in a list that is passed on as it comes.
const EMPTY_PAGES: u32 = 1_000;
/// As many ids of requests are kept for the journal.
const REQUEST_IDS: usize = 256;

/// A Resource Manager, with an identity of its place.
pub struct Manager<'a> {
    http: &'a Http,
    identity: &'a Identity<'a>,
    endpoint: String,
    audience: String,
    requests: RefCell<Vec<String>>,
}

impl<'a> Manager<'a> {
    /// The Resource Manager of the identity's place.
    #[must_use]
    pub fn new(http: &'a Http, identity: &'a Identity<'a>) -> Self {
        let place = identity.place();
        Self::at(http, identity, &place.endpoint, &place.audience)
    }

    fn at(http: &'a Http, identity: &'a Identity<'a>, endpoint: &str, audience: &str) -> Self {
        Self {
            http,
            identity,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            audience: audience.to_owned(),
            requests: RefCell::default(),
        }
    }

    /// The Graph of the identity's place, where it has one.
    pub(crate) fn graph(&self) -> Option<Self> {
        let graph = &self.identity.place().graph;
        (!graph.is_empty()).then(|| Self::at(self.http, self.identity, graph, graph))
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

    /// The endpoint, without a slash at the end.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Answer, ArmError> {
        let mut token = self.identity.token(&self.endpoint, &self.audience).await?;
        let mut tries = Tries::default();
        loop {
            let bearer = Some(token.expose_secret());
            let answer = self.http.call(method.clone(), url, bearer, body.map_or(Body::None, Body::Json)).await?;
            if let Some(id) = answer.header("x-ms-request-id") {
                let mut requests = self.requests.borrow_mut();
                if requests.len() >= REQUEST_IDS {
                    requests.remove(0);
                }
                requests.push(id.chars().take(128).collect());
            }
            if answer.status.is_success() {
                return Ok(answer);
            }
            // A token that is not taken has no effect: with another one the call is made again.
            let Some(wanted) = Wanted::of(&answer) else { return Err(Self::refusal(&answer)) };
            // On the heap, as it is rare: every call's future would be as large as a sign-in.
            let another = Box::pin(self.identity.another(&self.audience, &token, &wanted, &mut tries));
            match another.await? {
                Some(another) => token = another,
                None if tries.newer() => return Err(self.expired(&answer)),
                None => return Err(Self::refusal(&answer)),
            }
        }
    }

    /// A token that was drawn a moment ago is said to have expired.
    fn expired(&self, answer: &Answer) -> ArmError {
        let refusal = Self::refusal(answer);
        let message = format!("{} says that a token has expired that is new", self.host());
        let skew = self.http.skew().as_secs();
        let mut problem = Problem::new(&code::NEW_TOKEN_EXPIRED, message).detail(of_server(&refusal.to_string()));
        if skew.abs() > 60 {
            let way = if skew > 0 { "ahead of" } else { "behind" };
            problem = problem.detail(format!("the clock of {} is {} s {way} this machine's", self.host(), skew.abs()));
        }
        problem.into()
    }

    /// What an answer refuses.
    fn refusal(answer: &Answer) -> ArmError {
        // `error` inside an envelope, or the envelope's members at the top as some gateways write them.
        let (code, message) = said(answer.body.get("error").unwrap_or(&answer.body));
        ArmError::Refused {
            status: answer.status.as_u16(),
            code: if code.is_empty() { format!("HTTP {}", answer.status.as_u16()) } else { code },
            message,
            request_id: answer.header("x-ms-request-id").map(str::to_owned),
            retry_after: answer.retry_after(),
        }
    }

    fn url(&self, path: &str, version: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{}{path}{separator}api-version={version}", self.endpoint)
    }

    /// A call; one that goes on after its answer is followed to its end, as `Azure-AsyncOperation` or `Location` say.
    ///
    /// # Errors
    /// Refused, or not to be reached; it does not end within the time that a step has.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
    ) -> Result<Value, ArmError> {
        self.call_within(STEP, method, path, version, body).await
    }

    /// A call that may take so long to end.
    ///
    /// # Errors
    /// As of `call`.
    pub(crate) async fn call_within(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
    ) -> Result<Value, ArmError> {
        let mut waits = Waits { time: Allowance::new(limit), polls: 0 };
        let url = self.url(path, version);
        let wants_resource = method == Method::PUT || method == Method::PATCH;
        let mut answer = self.send(method, &url, body).await?;
        if let Some(operation) = answer.header("azure-asyncoperation").map(str::to_owned) {
            let operation = self.link(&operation)?;
            loop {
                waits.pause(&answer, &operation).await?;
                answer = self.send(Method::GET, &operation, None).await?;
                let Some(status) = answer.body["status"].as_str().map(str::to_owned) else {
                    return Err(self.unclear(&operation, "it is no state of an operation"));
                };
                let failed = ["Failed", "Canceled", "Cancelled"].iter().any(|word| status.eq_ignore_ascii_case(word));
                if failed {
                    let (code, message) = said(&answer.body["error"]);
                    return Err(ArmError::Refused {
                        status: 409,
                        code: if code.is_empty() { status.clone() } else { code },
                        message: if message.is_empty() { status } else { message },
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
        }
        while answer.status.as_u16() == 202 {
            let Some(location) = answer.header("location").map(str::to_owned) else { break };
            let location = self.link(&location)?;
            waits.pause(&answer, &location).await?;
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

    /// A GET's answer as it is, a refusal too: for transcripts.
    ///
    /// # Errors
    /// No account is signed in, or it can't be reached.
    pub(crate) async fn answer(&self, path: &str, version: &str) -> Result<Answer, ArmError> {
        let token = self.identity.token(&self.endpoint, &self.audience).await?;
        self.http.call(Method::GET, &self.url(path, version), Some(token.expose_secret()), Body::None).await
    }

    /// A GET whose resource may not be there.
    ///
    /// # Errors
    /// Refused otherwise, or not to be reached.
    pub(crate) async fn find(&self, path: &str, version: &str, absent: &[&str]) -> Result<Option<Value>, ArmError> {
        match self.call(Method::GET, path, version, None).await {
            Ok(Value::Object(body)) if !body.is_empty() => Ok(Some(Value::Object(body))),
            Ok(_) => Err(self.unclear(path, "the answer is empty")),
            Err(error) if says_absent(&error, absent) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A deletion; what is not there is deleted.
    ///
    /// # Errors
    /// Refused otherwise, or not to be reached.
    pub(crate) async fn delete(&self, path: &str, version: &str, absent: &[&str]) -> Result<(), ArmError> {
        match self.call(Method::DELETE, path, version, None).await {
            Ok(_) => Ok(()),
            Err(error) if says_absent(&error, absent) => Ok(()),
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

    /// All pages of a list; one whose scope is said to be absent is empty.
    ///
    /// # Errors
    /// Refused otherwise, or not to be reached; the list has no end, or needs more memory than a list may.
    pub(crate) async fn list(&self, path: &str, version: &str, absent: &[&str]) -> Result<Vec<Value>, ArmError> {
        let host = self.host();
        let (mut items, mut held, mut seen) = (Vec::new(), 0, HashSet::new());
        let time = Allowance::new(STEP);
        let mut url = self.url(path, version);
        loop {
            let asked = within(&time, self.send(Method::GET, &url, None)).await;
            let asked = asked.ok_or_else(|| ArmError::TooLate {
                host: host.clone(),
                what: format!("the end of the list {}", path.split('?').next().unwrap_or(path)),
                waited: STEP,
                again: true,
            })?;
            let mut answer = match asked {
                Ok(answer) => answer,
                // A later page that is missing is no end of the list.
                Err(error) if seen.is_empty() && says_absent(&error, absent) => return Ok(items),
                Err(error) => return Err(error),
            };
            held += PAGE + answer.weight;
            if held > MAX_HELD {
                return Err(too_large(&format!("a list of {host}"), "bytes once it is read", MAX_HELD));
            }
            let Some(Value::Array(page)) = answer.body.get_mut("value").map(Value::take) else {
                return Err(ArmError::Unreadable { host: host_of(&url), reason: "a list without a value".into() });
            };
            items.extend(page);
            seen.insert(hash(&url));
            match answer.body.get("nextLink").and_then(Value::as_str).filter(|link| !link.is_empty()) {
                None => return Ok(items),
                Some(link) => url = self.link(link)?,
            }
            if seen.contains(&hash(&url)) {
                return Err(loops(&host));
            }
        }
    }

    /// All pages of a list of resources of one kind. What is something else is no answer: left out, it would be missing.
    ///
    /// # Errors
    /// As of `list`.
    pub(crate) async fn resources(
        &self,
        path: &str,
        version: &str,
        absent: &[&str],
        kind: &str,
    ) -> Result<Vec<Value>, ArmError> {
        let list = self.list(path, version, absent).await?;
        match list.iter().all(|one| is_of_kind(one, kind)) {
            true => Ok(list),
            false => Err(self.unclear(path, "the list holds something else")),
        }
    }

    /// An answer that does not say what was asked.
    pub(crate) fn unclear(&self, path: &str, reason: &str) -> ArmError {
        let what = path.split('?').next().unwrap_or(path).to_owned();
        ArmError::Unclear { host: self.host(), what, reason: reason.to_owned() }
    }

    /// A link as a whole address that may be given the bearer.
    fn link(&self, link: &str) -> Result<String, ArmError> {
        Ok(address::link(&self.endpoint, link, self.http.allow_http())?.into())
    }
}

/// What an envelope says: its code and message. Where it only frames another error, that one's; the policy that forbids is named.
fn said(error: &Value) -> (String, String) {
    let text = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let inner =
        error["details"].as_array().and_then(|details| details.first()).filter(|inner| inner["code"].is_string());
    // What a deployment or a batch says of itself only frames what went wrong in it.
    const FRAMES: &[&str] =
        &["DeploymentFailed", "InvalidTemplateDeployment", "MultipleErrorsOccurred", "ResourceDeploymentFailure"];
    let frames = |code: &str| FRAMES.iter().any(|frame| code.eq_ignore_ascii_case(frame));
    let (code, mut message) = (text(error, "code"), text(error, "message"));
    let (code, shown) = match inner {
        Some(inner) if frames(&code) => {
            message = format!("{} ({code}: {message})", text(inner, "message"));
            (text(inner, "code"), inner)
        }
        _ => (code, error),
    };
    for info in shown["additionalInfo"].as_array().into_iter().flatten().map(|more| &more["info"]) {
        let name = info["policyAssignmentDisplayName"].as_str().or(info["policyAssignmentName"].as_str());
        if let Some(name) = name.filter(|name| !message.contains(*name)) {
            message = format!("{message} {{\"policyAssignment\":{{\"name\":\"{name}\"}}}}");
        }
    }
    (code, message)
}

/// Waits for something as long as there is time, without the time of a person who is asked meanwhile; `None` when it is over.
async fn within<T>(time: &Allowance, work: impl Future<Output = T>) -> Option<T> {
    /// How soon it is looked again whether a person is still asked.
    const LOOK: Duration = Duration::from_millis(100);
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(time.left().max(LOOK), &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if time.left().is_zero() => return None,
            Err(_) => {}
        }
    }
}

/// The waits for an accepted operation.
struct Waits {
    time: Allowance,
    polls: u32,
}

impl Waits {
    async fn pause(&mut self, answer: &Answer, url: &str) -> Result<(), ArmError> {
        let wait = self.next(&host_of(url), answer.retry_after(), self.time.left())?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// As long as was said, or a little; never beyond the limit, and a little longer each time where "at once" was said.
    fn next(&mut self, host: &str, asked: Option<Duration>, left: Duration) -> Result<Duration, ArmError> {
        self.polls = self.polls.saturating_add(1);
        let least = Duration::from_millis(50 * u64::from(self.polls.min(20)));
        let wait = asked.unwrap_or(Duration::from_secs(2)).max(least);
        wait_within(host, wait, self.time.limit()).map_err(|problem| ArmError::from(*problem))?;
        if wait > left {
            let limit = self.time.limit().as_secs();
            let message = format!("{host} did not end an accepted operation within {limit} s");
            return Err(Problem::new(&code::OPERATION_ENDLESS, message).into());
        }
        Ok(wait)
    }
}

/// The pages that were read of lists that are passed on as they come: as many as there are, but none twice.
#[derive(Default)]
pub(crate) struct Seen(RefCell<HashMap<u64, Pages>>);

#[derive(Default)]
struct Pages {
    read: HashSet<u64>,
    empty: u32,
}

impl Seen {
    /// A page of the list at `path` was read: the first one, or that at `link`. `next` is where the list goes on.
    ///
    /// # Errors
    /// It goes on where it has been before, or has gone on for long without a row.
    pub(crate) fn page(
        &self,
        host: &str,
        path: &str,
        link: Option<&str>,
        next: Option<&str>,
        rows: usize,
    ) -> Result<(), ArmError> {
        let mut lists = self.0.borrow_mut();
        let pages = lists.entry(hash(path)).or_default();
        match link {
            None => *pages = Pages::default(),
            Some(link) => {
                pages.read.insert(hash(link));
            }
        }
        let Some(next) = next else {
            lists.remove(&hash(path));
            return Ok(());
        };
        pages.empty = if rows == 0 { pages.empty + 1 } else { 0 };
        if pages.read.contains(&hash(next)) || pages.empty > EMPTY_PAGES {
            return Err(loops(host));
        }
        Ok(())
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A list that leads back to itself.
pub(crate) fn loops(host: &str) -> ArmError {
    Problem::new(&code::LIST_ENDLESS, format!("a list of {host} leads back to a page that was read before")).into()
}

#[cfg(test)]
mod tests {
    use azsreg_operations::waits;

    use super::*;

    #[test]
    fn a_streamed_list_may_be_long_but_not_go_round() {
        let seen = Seen::default();
        let page = |link: Option<&str>, next: Option<&str>, rows| seen.page("host", "/list", link, next, rows);
        page(None, Some("p1"), 1).unwrap();
        // A page whose answer was lost is asked for again.
        for number in 1..50_000 {
            let (this, next) = (format!("p{number}"), format!("p{}", number + 1));
            page(Some(&this), Some(&next), 1).unwrap();
        }
        page(Some("p50000"), Some("p50000"), 1).unwrap_err();
        page(None, Some("a"), 1).unwrap();
        page(Some("a"), Some("b"), 1).unwrap();
        seen.page("host", "/other", None, Some("a"), 1).unwrap();
        let ArmError::Unavailable(problem) = page(Some("b"), Some("a"), 1).unwrap_err() else { panic!() };
        assert_eq!(problem.code.id, "AZR4042");
        // From the beginning again, and to the end.
        page(None, Some("a"), 1).unwrap();
        page(Some("a"), None, 1).unwrap();
        assert_eq!(seen.0.borrow().len(), 1);
    }

    #[test]
    fn an_accepted_operation_is_followed_as_long_as_a_step_has() {
        for asked in [None, Some(0), Some(7), Some(290)] {
            let asked = asked.map(Duration::from_secs);
            let mut waits = Waits { time: Allowance::new(STEP), polls: 0 };
            let (mut passed, mut polls) = (Duration::ZERO, 0);
            let end = loop {
                match waits.next("host", asked, STEP - passed) {
                    Ok(wait) => passed += wait,
                    Err(ArmError::Unavailable(problem)) => break problem.code.id,
                    Err(other) => panic!("{other}"),
                }
                polls += 1;
            };
            assert_eq!(end, "AZR4047");
            assert!(passed <= STEP && polls < 320, "{asked:?}: {polls} polls in {passed:?}");
        }
        let mut waits = Waits { time: Allowance::new(STEP), polls: 0 };
        for week in [Duration::from_secs(604_800), Duration::from_secs(u64::MAX)] {
            let Err(ArmError::Unavailable(problem)) = waits.next("host", Some(week), STEP) else { panic!() };
            assert_eq!(problem.code.id, "AZR4046");
        }
    }

    #[tokio::test]
    async fn what_a_person_takes_is_no_time_of_a_list() {
        let limit = Duration::from_millis(150);
        let time = Allowance::new(limit);
        let signing_in = async {
            let _asking = waits::person("the person who signs in", limit * 10);
            tokio::time::sleep(limit * 4).await;
        };
        assert!(within(&time, signing_in).await.is_some());
        assert!(within(&time, std::future::pending::<()>()).await.is_none());
    }

    #[test]
    fn what_only_frames_an_error_is_not_taken_for_it() {
        let inner = serde_json::json!({"code": "RequestDisallowedByPolicy", "message": "no tag", "additionalInfo": [
            {"type": "PolicyViolation", "info": {"policyAssignmentDisplayName": "Tags"}}]});
        let outer =
            serde_json::json!({"code": "InvalidTemplateDeployment", "message": "see details", "details": [inner]});
        let (code, message) = said(&outer);
        assert_eq!(code, "RequestDisallowedByPolicy");
        assert!(message.contains("no tag") && message.contains("Tags") && message.contains("see details"), "{message}");
        assert_eq!(said(&serde_json::json!({"code": "A", "message": "b"})), ("A".to_owned(), "b".to_owned()));
    }

    #[test]
    fn a_streamed_list_without_rows_ends() {
        let seen = Seen::default();
        let pages = (0..5_000).map(|number| {
            let (this, next) = (format!("p{number}"), format!("p{}", number + 1));
            seen.page("host", "/list", Some(&this), Some(&next), 0)
        });
        assert_eq!(pages.take_while(Result::is_ok).count(), 1_000);
    }
}
