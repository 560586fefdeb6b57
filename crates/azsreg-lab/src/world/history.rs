//! What happened to registrations: Azure's activity log, as far as its portal shows it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::arm::Arm;

/// So much is kept.
const KEPT: usize = 5_000;

/// Something that was done to a registration, or to what is on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The registration's id.
    pub scope: String,
    /// What, for a person.
    pub what: String,
    /// The principal that asked for it; none where Azure did it by itself.
    pub by: Option<Uuid>,
    /// How often in a row; `at` is the last time.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// What a call did, for a person: none for what only looks, or is not about a registration. `parts` is the path,
/// `created` whether something came to be by it.
fn done(method: &str, parts: &[String], created: bool) -> Option<String> {
    let is = |kind: &'static str| move |part: &String| part.eq_ignore_ascii_case(kind);
    let named = |kind: &'static str| parts.iter().rposition(is(kind)).and_then(|at| parts.get(at + 1));
    let verb = match (method, created) {
        ("PUT", true) => "created",
        ("PUT" | "PATCH", _) => "updated",
        ("DELETE", _) => "deleted",
        _ => "",
    };
    let what = match (named("locks"), named("roleassignments"), named("customersubscriptions")) {
        _ if parts.iter().any(is("products")) => return None,
        (Some(lock), _, _) => format!("Lock {lock} {verb}"),
        (_, Some(_), _) => format!("Role assignment {verb}"),
        (_, _, Some(customer)) => format!("Customer {customer} {verb}"),
        _ if method == "POST" && parts.last().is_some_and(is("getactivationkey")) => {
            return Some("Activation key handed out".into());
        }
        _ => format!("Registration {verb}"),
    };
    (!verb.is_empty()).then_some(what)
}

impl Arm {
    /// Enters what a call did that went well. `segments` is its path as written.
    pub fn record(&mut self, at: Timestamp, by: Uuid, method: &str, segments: &[String], created: bool) {
        let at_registration = |part: &String| part.eq_ignore_ascii_case("registrations");
        let Some(end) = segments.iter().position(at_registration).map(|at| at + 2) else { return };
        if let (Some(what), Some(scope)) = (done(method, segments, created), segments.get(..end)) {
            let scope = format!("/{}", scope.join("/"));
            // As the resource writes itself, where it is there.
            let known = self.with_id(&scope).map(super::arm::Registration::id);
            self.enter(Event { at, scope: known.unwrap_or(scope), what, by: Some(by), times: 1 });
        }
    }

    /// Enters an event; the oldest are forgotten. The same once more counts up: whoever looks every minute reads the key
    /// every minute.
    pub(super) fn enter(&mut self, event: Event) {
        let last = self.history.iter().rposition(|known| known.scope.eq_ignore_ascii_case(&event.scope));
        if let Some(known) =
            last.filter(|at| (&self.history[*at].what, self.history[*at].by) == (&event.what, event.by))
        {
            let times = self.history.remove(known).times;
            self.history.push(Event { times: times.saturating_add(1), ..event });
            return;
        }
        self.history.push(event);
        let most = self.history.len().saturating_sub(KEPT);
        self.history.drain(..most);
    }

    /// A registration has another id from now on, and its history with it.
    pub(super) fn moved(&mut self, at: Timestamp, old: &str, new: &str) {
        for event in self.history.iter_mut().filter(|event| event.scope.eq_ignore_ascii_case(old)) {
            new.clone_into(&mut event.scope);
        }
        let group = |id: &str| id.split('/').nth(4).unwrap_or_default().to_owned();
        let what = format!("Moved from the resource group {} to {}", group(old), group(new));
        self.enter(Event { at, scope: new.to_owned(), what, by: None, times: 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_is_no_event() {
        let registration = "subscriptions/s/resourceGroups/g/providers/Microsoft.AzureStack/registrations/r";
        let of = |method: &str, rest: &str, created| {
            let path: Vec<String> = format!("{registration}{rest}").split('/').map(str::to_owned).collect();
            done(method, &path, created)
        };
        assert_eq!(of("PUT", "", true).as_deref(), Some("Registration created"));
        assert_eq!(of("PATCH", "", false).as_deref(), Some("Registration updated"));
        assert_eq!(of("DELETE", "", false).as_deref(), Some("Registration deleted"));
        assert_eq!(of("POST", "/GetActivationKey", false).as_deref(), Some("Activation key handed out"));
        assert_eq!(of("POST", "/products/_all/getproducts", false), None);
        assert_eq!(of("GET", "", false), None);
        assert_eq!(of("PUT", "/providers/microsoft.authorization/locks/l", true).as_deref(), Some("Lock l created"));
    }
}
