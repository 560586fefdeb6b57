//! Faults as rules: when something is asked, answer otherwise, before or after the effect.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Body, Dropped, Reply, json as json_reply};

/// When a rule applies. All members that are given must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    /// `login`, `arm`, `graph`, `blobs`, `usage`, `pep`, `stamp-arm`, `stamp-blobs`.
    plane: Option<String>,
    /// `GET`, `PUT` ...
    method: Option<String>,
    /// A part of the path, without regard to case; for `pep` the cmdlet's name.
    route: Option<String>,
    /// The nth match, counted from 1; every match where absent.
    nth: Option<u64>,
    /// How likely, from 0 to 1.
    probability: Option<f64>,
}

/// What happens instead.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Then {
    /// An HTTP status.
    status: Option<u16>,
    /// A code in the ARM envelope; for `pep` the text of a terminating error.
    pub(crate) error: Option<String>,
    /// The sentence in the envelope.
    message: Option<String>,
    /// Seconds of `Retry-After`.
    retry_after: Option<u64>,
    /// Milliseconds to wait before anything else.
    delay: Option<u64>,
    /// Drop the connection.
    #[serde(default)]
    drop: bool,
    /// Never answer.
    #[serde(default)]
    hang: bool,
    /// Take the request twice, and give the second answer.
    #[serde(default)]
    duplicate: bool,
    /// Send so many bytes of the body, then break the connection.
    truncate: Option<u64>,
    /// Send another byte at this place of the body.
    corrupt: Option<u64>,
    /// The body of the answer in place of an error; for `pep` the output of the cmdlet, as text.
    pub(crate) body: Option<Value>,
    /// The body as these characters, whatever they are: a page, half of a document.
    text: Option<String>,
}

/// A rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// When.
    #[serde(default)]
    when: When,
    /// Then.
    then: Then,
    /// After the effect has happened, instead of before it.
    #[serde(default)]
    after: bool,
    /// At most this often.
    limit: Option<u64>,
    /// How often it matched.
    #[serde(default)]
    seen: u64,
    /// How often it struck.
    #[serde(default)]
    hits: u64,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    draw: fastrand::Rng,
}

/// A request as rules see it.
pub(crate) struct Asked<'a> {
    pub(crate) plane: &'a str,
    pub(crate) method: &'a str,
    pub(crate) route: &'a str,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), draw: fastrand::Rng::with_seed(seed) }
    }

    pub(crate) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn list(&self) -> Value {
        json!(self.rules)
    }

    /// Whether a rule says that the request is taken twice.
    pub(crate) fn duplicates(&mut self, asked: &Asked<'_>) -> bool {
        self.find(asked, |rule| rule.then.duplicate).is_some()
    }

    /// The rule that strikes, if one does.
    pub(crate) fn strike(&mut self, asked: &Asked<'_>, after: bool) -> Option<Then> {
        // What changes an answer needs one.
        self.find(asked, |rule| !rule.then.duplicate && (rule.after || rule.then.changes()) == after)
    }

    fn find(&mut self, asked: &Asked<'_>, kind: impl Fn(&Rule) -> bool) -> Option<Then> {
        let same = |given: &Option<String>, found: &str| given.as_deref().is_none_or(|g| g.eq_ignore_ascii_case(found));
        let route = asked.route.to_ascii_lowercase();
        for rule in &mut self.rules {
            let when = &rule.when;
            let matches = kind(rule)
                && same(&when.plane, asked.plane)
                && same(&when.method, asked.method)
                && when.route.as_deref().is_none_or(|part| route.contains(&part.to_ascii_lowercase()))
                && rule.limit.is_none_or(|limit| rule.hits < limit);
            if !matches {
                continue;
            }
            rule.seen += 1;
            if when.nth.is_some_and(|nth| nth != rule.seen) || when.probability.is_some_and(|p| self.draw.f64() >= p) {
                continue;
            }
            rule.hits += 1;
            return Some(rule.then.clone());
        }
        None
    }
}

impl Then {
    fn changes(&self) -> bool {
        self.truncate.is_some() || self.corrupt.is_some()
    }

    /// The answer that the rule gives, or the one that was made, perhaps late.
    pub(crate) async fn apply(self, made: Option<Reply>) -> Result<Option<Reply>, Dropped> {
        if let Some(delay) = self.delay {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if self.hang {
            std::future::pending::<()>().await;
        }
        if self.drop {
            return Err(Dropped);
        }
        let mut reply = match (self.status, made) {
            (status, _) if self.text.is_some() => {
                let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
                Some(crate::http::text(status, self.text.unwrap_or_default()))
            }
            (status, _) if self.body.is_some() => {
                Some(json_reply(status.unwrap_or(200), &self.body.unwrap_or_default()))
            }
            (Some(status), _) => Some(json_reply(
                status,
                &json!({"error": {"code": self.error.as_deref().unwrap_or("InternalServerError"), "message": self.message.as_deref().unwrap_or("A fault of the lab.")}}),
            )),
            (None, made) => made,
        };
        if let Some(reply) = reply.as_mut().filter(|_| self.truncate.is_some() || self.corrupt.is_some()) {
            damage(reply, self.truncate, self.corrupt);
        }
        if let (Some(seconds), Some(reply)) = (self.retry_after, &mut reply) {
            crate::http::header(reply, "retry-after", &seconds.to_string());
        }
        Ok(reply)
    }
}

/// Cuts a body or changes a byte of it, as it is sent.
fn damage(reply: &mut Reply, truncate: Option<u64>, corrupt: Option<u64>) {
    let whole = std::mem::replace(reply.body_mut(), Body::Whole(None));
    let left = hyper::body::Body::size_hint(&whole).lower();
    let pieces: Box<dyn Iterator<Item = io::Result<Bytes>> + Send> = match whole {
        Body::Whole(bytes) => Box::new(bytes.into_iter().map(Ok)),
        Body::Pieces { pieces, .. } => pieces,
    };
    let mut at = 0;
    let mut pieces = pieces;
    let pieces = std::iter::from_fn(move || {
        if truncate.is_some_and(|most| at >= most) {
            return Some(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
        }
        let piece = match pieces.next()? {
            Ok(piece) => piece,
            Err(error) => return Some(Err(error)),
        };
        let most =
            truncate.map_or(piece.len(), |most| usize::try_from(most - at).unwrap_or(usize::MAX).min(piece.len()));
        let mut bytes = piece.slice(..most);
        if let Some(place) =
            corrupt.and_then(|place| usize::try_from(place.checked_sub(at)?).ok()).filter(|n| *n < bytes.len())
        {
            let mut changed = bytes.to_vec();
            changed[place] ^= 0x20;
            bytes = changed.into();
        }
        at += bytes.len() as u64;
        Some(Ok(bytes))
    });
    *reply.body_mut() = Body::Pieces { pieces: Box::new(pieces), left };
}
