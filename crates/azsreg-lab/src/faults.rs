//! Faults as rules: when something is asked, answer otherwise, before or after the effect.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Dropped, Reply, json as json_reply};

/// When a rule applies. All members that are given must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    /// `login`, `arm`, `graph`, `pep`, `stamp-arm`.
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
    /// The body of the answer in place of an error; for `pep` the output of the cmdlet, as text.
    pub(crate) body: Option<Value>,
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

    /// The rule that strikes, if one does.
    pub(crate) fn strike(&mut self, asked: &Asked<'_>, after: bool) -> Option<Then> {
        let same = |given: &Option<String>, found: &str| given.as_deref().is_none_or(|g| g.eq_ignore_ascii_case(found));
        let route = asked.route.to_ascii_lowercase();
        for rule in &mut self.rules {
            let when = &rule.when;
            let matches = rule.after == after
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
            (status, _) if self.body.is_some() => {
                Some(json_reply(status.unwrap_or(200), &self.body.unwrap_or_default()))
            }
            (Some(status), _) => Some(json_reply(
                status,
                &json!({"error": {"code": self.error.as_deref().unwrap_or("InternalServerError"), "message": self.message.as_deref().unwrap_or("A fault of the lab.")}}),
            )),
            (None, made) => made,
        };
        if let (Some(seconds), Some(reply)) = (self.retry_after, &mut reply) {
            crate::http::header(reply, "retry-after", &seconds.to_string());
        }
        Ok(reply)
    }
}
