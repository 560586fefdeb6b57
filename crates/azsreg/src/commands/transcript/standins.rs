//! What a transcript may say of what a stamp or Azure wrote. What is not known to be of no person and no place gets a stand-in:
//! the same one each time, so that it can still be seen which of two values are alike.

use std::collections::{HashMap, HashSet};

use azsreg_model::redact;

/// Words of hosts and paths that are everybody's.
const COMMON: &[&str] = &[
    "activations",
    "adfs",
    "adminmanagement",
    "adminportal",
    "azure",
    "azurestack",
    "azurestack-activation",
    "chinacloudapi",
    "cn",
    "com",
    "common",
    "core",
    "default",
    "downloadedproducts",
    "gallery",
    "graph",
    "login",
    "management",
    "metadata",
    "microsoft",
    "microsoft.azurebridge.admin",
    "microsoft.azurestack",
    "microsoftazure",
    "microsoftonline",
    "net",
    "oauth2",
    "onmicrosoft",
    "organizations",
    "portal",
    "providers",
    "registrations",
    "resourcegroups",
    "subscriptions",
    "us",
    "usgovcloudapi",
    "windows",
];
/// No name of a member, a type or an error is longer.
const LONGEST: usize = 80;

/// The stand-ins of one transcript.
#[derive(Default)]
pub(super) struct StandIns {
    given: HashMap<String, String>,
    counts: HashMap<&'static str, usize>,
    /// Names of this place, which may turn up where a word is expected.
    own: HashSet<String>,
}

impl StandIns {
    /// Names of this place: whole, and the parts of them.
    pub(super) fn are_of_this_place(&mut self, text: &str) {
        let whole = std::iter::once(text);
        for name in whole.chain(text.split(|c: char| !c.is_alphanumeric())) {
            let name = name.to_lowercase();
            if name.chars().count() > 2 && !COMMON.contains(&name.as_str()) {
                self.own.insert(name);
            }
        }
    }

    fn stand_in(&mut self, kind: &'static str, text: &str) -> String {
        let key = format!("{kind} {}", text.to_lowercase());
        if let Some(known) = self.given.get(&key) {
            return known.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let made = format!("{kind}-{count}");
        self.given.insert(key, made.clone());
        made
    }

    /// Whether it is a name that software has, not a person or a machine: letters, no digits, nothing of this place, no secret.
    fn is_word(&self, text: &str) -> bool {
        let letters = text.chars().all(|c| c.is_ascii_alphabetic()) && text.contains(|c: char| c.is_ascii_lowercase());
        letters && text.len() <= LONGEST && !self.own.contains(&text.to_lowercase()) && redact::of_server(text) == text
    }

    /// A state or a code: `Running`, `ResourceNotFound`.
    pub(super) fn word(&self, text: &str) -> String {
        if self.is_word(text) { text.to_owned() } else { "text".into() }
    }

    /// Words with something between them: `NotActivated,Remove-AzureStackActivation`, `System.String`.
    pub(super) fn words(&self, text: &str) -> String {
        let between = |c: char| [',', '.', '-', '/', '$', '@', '_'].contains(&c);
        let all = text.split(between).filter(|part| !part.is_empty()).all(|part| self.is_word(part));
        if all && !text.is_empty() && text.len() <= 2 * LONGEST { text.to_owned() } else { "text".into() }
    }

    /// The type of a value, as the endpoint named it: without the types that a generic one is of.
    pub(super) fn kind(&self, kind: &str) -> String {
        match kind.strip_suffix(')').and_then(|kind| kind.strip_prefix("String (")) {
            // Ours.
            Some("empty" | "guid" | "url" | "numbers with dots" | "text") => kind.to_owned(),
            _ => self.words(kind.split(['`', '[']).next().unwrap_or_default()),
        }
    }

    /// A member, or several from the outside in: `error.code`, `value[].type`.
    pub(super) fn path(&mut self, path: &str) -> String {
        if path == "." {
            return path.to_owned();
        }
        let mut parts = Vec::new();
        for part in path.split('.') {
            let (name, list) = match part.find("[]") {
                Some(at) => part.split_at(at),
                None => (part, ""),
            };
            let known = name.is_empty() || self.words(name) == name;
            let name = if known { name.to_owned() } else { self.stand_in("member", name) };
            parts.push(format!("{name}{}", "[]".repeat(list.matches("[]").count())));
        }
        parts.join(".")
    }

    /// A value: a stand-in that says of which kind it is, or `None` where its kind says it all.
    pub(super) fn value(&mut self, text: &str) -> Option<String> {
        let text = text.trim();
        let guid = text.trim_matches(['{', '}']);
        if guid.parse::<uuid::Uuid>().is_ok() {
            return Some(self.stand_in("guid", guid));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let scheme = if ["http", "https"].contains(&scheme) { scheme } else { "scheme" };
            return Some(format!("{scheme}://{}", self.address(rest)));
        }
        let is_path = text.contains('/') && !text.contains(char::is_whitespace);
        is_path.then(|| self.segments(text))
    }

    /// A host with what follows it, but no user, no query and no fragment.
    fn address(&mut self, text: &str) -> String {
        let text = text.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let host = host.rsplit('@').next().unwrap_or_default();
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => (host, ":port"),
            _ => (host, ""),
        };
        let is_address = host.contains(':') || host.chars().all(|c| c.is_ascii_digit() || c == '.');
        let host = if is_address {
            self.stand_in("address", host)
        } else {
            host.split('.').map(|label| self.common(label)).collect::<Vec<_>>().join(".")
        };
        let path = self.segments(path.trim_end_matches('/'));
        format!("{host}{port}{}{path}", if path.is_empty() { "" } else { "/" })
    }

    fn segments(&mut self, path: &str) -> String {
        path.split('/').map(|segment| self.common(segment)).collect::<Vec<_>>().join("/")
    }

    fn common(&mut self, word: &str) -> String {
        if word.is_empty() || COMMON.contains(&word.to_lowercase().as_str()) {
            word.to_owned()
        } else if word.parse::<uuid::Uuid>().is_ok() {
            self.stand_in("guid", word)
        } else {
            self.stand_in("name", word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_stays_alike_and_nothing_else_stays() {
        let mut stand_ins = StandIns::default();
        stand_ins.are_of_this_place("CONTOSO\\Anna");
        stand_ins.are_of_this_place("lisbon.contoso.example");
        let id = "5F3B1C8E-0A6B-4C8F-9A6C-0F8C2B7D1E11";
        let value = |stand_ins: &mut StandIns, text: &str| stand_ins.value(text).unwrap_or_default();
        assert_eq!(value(&mut stand_ins, id), "guid-1");
        assert_eq!(value(&mut stand_ins, &format!("{{{}}}", id.to_lowercase())), "guid-1");
        assert_eq!(
            value(&mut stand_ins, &format!("https://adminmanagement.contoso.onmicrosoft.com/{id}?sig=abc#x")),
            "https://adminmanagement.name-1.onmicrosoft.com/guid-1"
        );
        assert_eq!(value(&mut stand_ins, "https://anna:pw@10.0.0.7:30024/adfs/"), "https://address-1:port/adfs");
        assert_eq!(
            value(&mut stand_ins, &format!("/subscriptions/{id}/resourceGroups/Contoso")),
            "/subscriptions/guid-1/resourceGroups/name-1"
        );
        assert_eq!(stand_ins.value("Anna's stamp in Lisbon"), None);
        for (word, said) in [("Running", "Running"), ("Anna", "text"), ("s3cret", "text"), ("CONTOSO", "text")] {
            assert_eq!(stand_ins.word(word), said);
        }
        assert_eq!(
            stand_ins.words("NotActivated,Remove-AzureStackActivation"),
            "NotActivated,Remove-AzureStackActivation"
        );
        assert_eq!(stand_ins.words("the password hunter is wrong,New-Thing"), "text");
        assert_eq!(stand_ins.path("value[].properties.ERCS01.Lisbon"), "value[].properties.member-1.member-2");
        assert_eq!(
            stand_ins.kind("System.Collections.Generic.Dictionary`2[[contoso]]"),
            "System.Collections.Generic.Dictionary"
        );
    }
}
