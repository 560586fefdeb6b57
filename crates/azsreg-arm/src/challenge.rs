//! What a Resource Manager asks for that does not take a token: other claims, or a newer one. The claims go to the directory
//! of the sign-in and nowhere else; the challenge says nothing else that is heeded.

use azsreg_model::redact::of_server;
use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};

use crate::http::Answer;

/// No claims that Azure asks for are longer, in bytes of JSON; a longer header is no challenge either.
const LONGEST: usize = 4 << 10;
const LONGEST_HEADER: usize = 16 << 10;

/// What makes a token good that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// These claims.
    Claims(Claims),
    /// Its age: this one has expired.
    Newer,
}

impl Wanted {
    /// What a refusal asks for; `None` where no other token helps.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        if answer.status.as_u16() != 401 {
            return None;
        }
        if let Some(claims) = Claims::challenged(&answer.headers) {
            return Some(Self::Claims(claims));
        }
        let error = answer.body.get("error").unwrap_or(&answer.body);
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        // Graph says it in its sentence alone.
        let expired = text("code").eq_ignore_ascii_case("ExpiredAuthenticationToken")
            || (text("code").eq_ignore_ascii_case("InvalidAuthenticationToken")
                && text("message").contains("token is expired"));
        expired.then_some(Self::Newer)
    }
}

/// Claims of an access token, as a challenge asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// The claims of the one challenge that asks for some. Of several it can't be told which counts.
    fn challenged(headers: &HeaderMap) -> Option<Self> {
        let mut found = None;
        for header in headers.get_all(WWW_AUTHENTICATE) {
            let header = header.to_str().ok().filter(|header| header.len() <= LONGEST_HEADER)?;
            for challenge in challenges(header)? {
                let Some(claims) = challenge.parameter("claims") else { continue };
                let meant = challenge.scheme.eq_ignore_ascii_case("Bearer")
                    && challenge
                        .parameter("error")
                        .is_some_and(|error| error.eq_ignore_ascii_case("insufficient_claims"));
                if !meant || found.is_some() {
                    return None;
                }
                found = Some(Self::decoded(claims)?);
            }
        }
        found
    }

    /// Base64 of either alphabet, with or without its end.
    fn decoded(text: &str) -> Option<Self> {
        let plain = |c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        };
        let text: String = text.trim_end_matches('=').chars().map(plain).collect();
        let bytes = BASE64_STANDARD_NO_PAD.decode(text).ok()?;
        Self::read(std::str::from_utf8(&bytes).ok()?)
    }

    /// Reads what `kept` wrote, or a challenge holds: an object with the claims of the access token. Others are not asked for.
    pub(crate) fn read(json: &str) -> Option<Self> {
        if json.len() > LONGEST {
            return None;
        }
        let Ok(Value::Object(mut all)) = serde_json::from_str(json) else { return None };
        let Some(Value::Object(claims)) = all.remove("access_token") else { return None };
        (!claims.is_empty()).then_some(Self(claims))
    }

    /// As they are kept beside a sign-in.
    pub(crate) fn kept(&self) -> String {
        json!({ "access_token": self.0 }).to_string()
    }

    /// What they ask for, in words for whoever signs in.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        for (name, claim) in self.0.iter().filter(|(name, _)| *name != "xms_cc") {
            let values = values(claim);
            words.push(match name.as_str() {
                "acrs" if values == ["p1"] => "multi-factor authentication (acrs p1)".to_owned(),
                "acrs" => format!("the authentication context {} of the tenant (acrs)", values.join(", ")),
                "amr" if values.iter().any(|value| value == "mfa") => "multi-factor authentication".to_owned(),
                "nbf" => match values.first().and_then(|text| text.parse().ok()).map(Timestamp::from_second) {
                    Some(Ok(at)) => format!("a sign-in that is newer than {} UTC", at.strftime("%Y-%m-%d %H:%M:%S")),
                    _ => "a newer sign-in".to_owned(),
                },
                "xms_rp_ipaddr" => format!("a sign-in from the address {}", values.join(", ")),
                name => format!("the claim {}", plain(name)),
            });
        }
        match words.len() {
            0 => "another sign-in".to_owned(),
            1..=4 => words.join(", and "),
            many => format!("{many} claims, such as {}", words[0]),
        }
    }
}

/// The `claims` of a request for a token: what is asked for, and that azsreg answers challenges (`cp1`), which is what makes
/// Azure send them.
pub(crate) fn requested(claims: Option<&Claims>) -> String {
    let mut all = claims.map(|claims| claims.0.clone()).unwrap_or_default();
    all.insert("xms_cc".to_owned(), json!({"values": ["cp1"]}));
    json!({ "access_token": all }).to_string()
}

fn values(claim: &Value) -> Vec<String> {
    let one = claim.get("value").into_iter();
    let all = claim.get("values").and_then(Value::as_array).into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    one.chain(all).take(8).map(|value| plain(&text(value))).collect()
}

/// A server's word, short and without what is no part of a name.
fn plain(text: &str) -> String {
    let good = |c: &char| c.is_ascii_alphanumeric() || "-_.:".contains(*c);
    of_server(&text.chars().filter(good).take(64).collect::<String>()).into_owned()
}

/// One challenge of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).
#[derive(Debug, PartialEq, Eq)]
struct Challenge<'h> {
    scheme: &'h str,
    parameters: Vec<(&'h str, String)>,
}

impl Challenge<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The challenges of a header; `None` for what is not written as the standard says.
fn challenges(header: &str) -> Option<Vec<Challenge<'_>>> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let (mut all, mut rest) = (Vec::<Challenge<'_>>::new(), header);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(all);
        }
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        if token.is_empty() {
            return None;
        }
        let spaces = after.trim_start_matches([' ', '\t']);
        if let Some(value) = spaces.strip_prefix('=') {
            let (value, after) = value_of(value.trim_start_matches([' ', '\t']), is_token)?;
            all.last_mut()?.parameters.push((token, value));
            rest = ended(after)?;
            continue;
        }
        all.push(Challenge { scheme: token, parameters: Vec::new() });
        rest = after;
        // A scheme with one word of its own in place of parameters, such as `Negotiate YII=`.
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        let word = spaces.trim_start_matches(is_word).trim_start_matches('=');
        if word.len() < spaces.len() && ended(word).is_some() {
            rest = word;
        }
    }
}

/// Where the next item begins: behind a comma, or at the end.
fn ended(rest: &str) -> Option<&str> {
    let rest = rest.trim_start_matches([' ', '\t']);
    (rest.is_empty() || rest.starts_with(',')).then_some(rest)
}

/// A parameter's value, quoted or not, and what follows it.
fn value_of(text: &str, is_token: impl Fn(char) -> bool) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    const P1: &str = r#"{"access_token":{"acrs":{"essential":true,"values":["p1"]}}}"#;

    fn asked(headers: &[&str]) -> Option<String> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, header.parse().unwrap());
        }
        Claims::challenged(&map).map(|claims| claims.kept())
    }

    fn bearer(claims: &str) -> String {
        format!("Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{claims}\"")
    }

    #[test]
    fn a_challenge_is_found_however_it_is_written() {
        // `?` and `>` at these places make `/` and `+` of the one alphabet, `_` and `-` of the other.
        let odd = r#"{"access_token":{"a":{"value":"~~~???>>>"}}}"#;
        for json in [P1, odd] {
            let (padded, url) = (BASE64_STANDARD.encode(json), BASE64_URL_SAFE_NO_PAD.encode(json));
            for claims in [&*padded, padded.trim_end_matches('='), &*url] {
                assert_eq!(asked(&[&bearer(claims)]).as_deref(), Some(json), "{claims}");
            }
        }
        let claims = BASE64_STANDARD.encode(P1);
        for header in [
            format!("bearer  error=insufficient_claims , claims=\"{claims}\""),
            format!("Bearer claims = \"{claims}\" ,\terror = \"insufficient_claims\""),
            format!("BEARER REALM=\"a, \\\"b\\\" c=d\", ERROR=\"Insufficient_Claims\", CLAIMS=\"{claims}\""),
            format!(
                "Bearer error_description=\"Bearer claims=\\\"e30\\\", x\", error=\"insufficient_claims\", claims=\"{claims}\""
            ),
            format!("Negotiate, NTLM TlRM+/==, Basic realm=\"x\", {}", bearer(&claims)),
            format!("{}, Basic realm=\"x\"", bearer(&claims)),
            format!(",, {} ,", bearer(&claims)),
        ] {
            assert_eq!(asked(&[&header]).as_deref(), Some(P1), "{header}");
        }
        assert_eq!(asked(&["Negotiate", &bearer(&claims)]).as_deref(), Some(P1), "in a header of its own");
    }

    #[test]
    fn what_is_no_challenge_asks_for_nothing() {
        let good = bearer(&BASE64_STANDARD.encode(P1));
        for (what, header) in [
            ("nothing", String::new()),
            ("no claims", "Bearer error=\"insufficient_claims\"".into()),
            ("another error", good.replace("insufficient_claims", "invalid_token")),
            ("another scheme", good.replace("Bearer", "PoP")),
            ("no scheme", good.replace("Bearer ", "")),
            ("two of them", format!("{good}, {good}")),
            ("an open quote", good.trim_end_matches('"').to_owned()),
            ("words after a value", good.replace("\"\",", "\"\" x y,")),
            ("no base64", bearer("{\"access_token\":{}}")),
            ("plain JSON", "Bearer error=insufficient_claims, claims=\"{}\"".into()),
            ("no UTF-8", bearer(&BASE64_STANDARD.encode([0xff, 0xfe, 0x80]))),
            ("no JSON", bearer(&BASE64_STANDARD.encode("claims"))),
            ("a list", bearer(&BASE64_STANDARD.encode("[1]"))),
            ("an empty object", bearer(&BASE64_STANDARD.encode("{}"))),
            ("no claims of the access token", bearer(&BASE64_STANDARD.encode(r#"{"id_token":{"x":null}}"#))),
            ("none in it", bearer(&BASE64_STANDARD.encode(r#"{"access_token":{}}"#))),
            ("a text for the token", bearer(&BASE64_STANDARD.encode(r#"{"access_token":"x"}"#))),
            ("too many", bearer(&BASE64_STANDARD.encode(P1.replace("p1", &"x".repeat(5_000))))),
            ("a header too long", format!("{good}, Basic realm=\"{}\"", "x".repeat(20_000))),
            ("too deep", bearer(&BASE64_STANDARD.encode(format!("{{\"access_token\":{{\"a\":{}", "[".repeat(500))))),
        ] {
            assert_eq!(asked(&[&header]), None, "{what}: {header}");
        }
        assert_eq!(asked(&[&good, &good]), None, "two headers");
    }

    #[test]
    fn what_is_requested_holds_the_challenge_and_the_capability_and_nothing_else() {
        assert_eq!(requested(None), r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#);
        let more = r#"{"access_token":{"nbf":{"essential":true,"value":"1"},"xms_cc":{"values":["x"]}},"id_token":{"a":null},"z":1}"#;
        let claims = Claims::read(more).unwrap();
        let sent: Value = serde_json::from_str(&requested(Some(&claims))).unwrap();
        assert_eq!(
            sent,
            json!({"access_token": {"nbf": {"essential": true, "value": "1"}, "xms_cc": {"values": ["cp1"]}}})
        );
        assert_eq!(Claims::read(&claims.kept()), Some(claims));
    }

    #[test]
    fn what_is_asked_for_is_said_in_words() {
        let words = |claims: Value| Claims::read(&json!({ "access_token": claims }).to_string()).unwrap().words();
        assert_eq!(
            words(json!({"acrs": {"essential": true, "values": ["p1"]}})),
            "multi-factor authentication (acrs p1)"
        );
        assert_eq!(words(json!({"acrs": {"value": "c3"}})), "the authentication context c3 of the tenant (acrs)");
        assert_eq!(
            words(json!({"nbf": {"essential": true, "value": "1790848800"}})),
            "a sign-in that is newer than 2026-10-01 10:00:00 UTC"
        );
        assert_eq!(words(json!({"nbf": {"value": "soon"}})), "a newer sign-in");
        assert_eq!(words(json!({"nbf": {"value": "99999999999999999"}})), "a newer sign-in");
        assert_eq!(words(json!({"xms_rp_ipaddr": {"value": "192.0.2.7"}})), "a sign-in from the address 192.0.2.7");
        assert_eq!(words(json!({"xms_cc": {"values": ["cp1"]}})), "another sign-in");
        assert_eq!(words(json!({"a\u{1b}[31m\nb": null})), "the claim a31mb");
    }

    #[test]
    fn an_expired_token_is_told_from_a_wrong_one() {
        let of = |status, body: Value| {
            let status = reqwest::StatusCode::from_u16(status).unwrap();
            Wanted::of(&Answer { status, headers: HeaderMap::new(), body, weight: 0 })
        };
        let said = |code: &str, message: &str| json!({"error": {"code": code, "message": message}});
        assert_eq!(of(401, said("ExpiredAuthenticationToken", "")), Some(Wanted::Newer));
        let graph = "Lifetime validation failed, the token is expired.";
        assert_eq!(of(401, said("InvalidAuthenticationToken", graph)), Some(Wanted::Newer));
        assert_eq!(of(401, said("InvalidAuthenticationToken", "The access token is invalid.")), None);
        assert_eq!(of(401, said("InvalidAuthenticationTokenTenant", "")), None);
        assert_eq!(of(403, said("ExpiredAuthenticationToken", "")), None);
        assert_eq!(of(401, Value::Null), None);
    }
}
