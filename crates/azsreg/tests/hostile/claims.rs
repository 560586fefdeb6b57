//! A Resource Manager that challenges every write until the token proves a second factor, and a directory that gives such a
//! token only for the claims of the challenge: what is sent to whom, and how often a person is asked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};

use crate::server::{self, REFRESH, Reply, Request, SECRET, Stage, Who, answer, asked_for, full, token};
use crate::{Ran, SignedIn, command, watched};

const P1: &str = r#"{"access_token":{"acrs":{"essential":true,"values":["p1"]}}}"#;
const NBF: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1790848800"}}}"#;
/// A refresh token of a sign-in with a second factor.
const STRONG: &str = "the-refresh-token-of-two-factors-0.BBB";
const WRITES: &[&str] = &["PUT", "PATCH", "POST", "DELETE"];

/// What the directory does when claims are asked of a refresh token or of an application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directory {
    /// It gives what it is asked for.
    Gives,
    /// It wants the person.
    WantsPerson,
    /// It gives a token without them, to everybody.
    Ignores,
    /// It wants the person, and another one comes.
    AnotherComes,
}

fn unauthorized(claims: &str) -> Reply {
    let claims = BASE64_STANDARD.encode(claims);
    let challenge = format!(
        "Bearer realm=\"\", authorization_uri=\"https://login.example/common/oauth2/authorize\", error=\"insufficient_claims\", claims=\"{claims}\""
    );
    let body = json!({"error": {"code": "RequestDisallowedByPolicy", "message": "MFA is required."}});
    full(401, &[("WWW-Authenticate", &challenge), ("Content-Type", "application/json")], body.to_string())
}

/// What claims ask for, without what every request says of azsreg itself.
fn asked(claims: Option<String>) -> Value {
    let claims = claims.expect("every request to the directory has claims");
    let mut claims: Value = serde_json::from_str(&claims).unwrap();
    let own = claims["access_token"].as_object_mut().unwrap().remove("xms_cc");
    assert_eq!(own, Some(json!({"values": ["cp1"]})), "azsreg says that it answers challenges");
    claims["access_token"].take()
}

/// The claims of a bearer.
fn proves(request: &Request) -> Value {
    let part = request.bearer().and_then(|bearer| bearer.split('.').nth(1)).unwrap_or_default();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn redirected(request: &Request) -> Reply {
    let query = |name| request.query(name).unwrap();
    let code = BASE64_URL_SAFE_NO_PAD.encode(json!([query("scope"), query("claims")]).to_string());
    let to = format!("{}?code={code}&state={}", query("redirect_uri"), query("state"));
    full(302, &[("Location", &to)], "")
}

fn directory(stage: &Stage, kind: Directory, request: &Request) -> Reply {
    if request.is("GET", "/authorize") {
        return redirected(request);
    }
    if request.is("POST", "/devicecode") {
        let page = format!("{}/devicelogin", stage.url(Who::Authority));
        let code = BASE64_URL_SAFE_NO_PAD.encode(json!([asked_for(request), request.form("claims")]).to_string());
        return answer(
            200,
            &json!({"device_code": code, "user_code": "ABC", "verification_uri": page, "interval": 1, "expires_in": 900}),
        );
    }
    let grant = request.form("grant_type").unwrap();
    let mut claims = asked(request.form("claims"));
    let mut audience = asked_for(request);
    let mut more = json!({});
    let code = request.form("device_code").or_else(|| request.form("code"));
    if let Some(code) = &code {
        let made: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(code).unwrap()).unwrap();
        let of = |index: usize| made[index].as_str().unwrap().to_owned();
        audience = of(0).split(' ').next().unwrap().trim_end_matches("/.default").to_owned();
        assert_eq!(asked(Some(of(1))), claims, "the person is asked for what the token is asked for");
        if kind == Directory::AnotherComes && !claims.as_object().unwrap().is_empty() {
            more["preferred_username"] = json!("another@here.example");
        }
    } else if !claims.as_object().unwrap().is_empty()
        && matches!(kind, Directory::WantsPerson | Directory::AnotherComes)
        && request.form("refresh_token").as_deref() != Some(STRONG)
    {
        let described = "AADSTS50076: Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource. Trace ID: 1";
        return answer(400, &json!({"error": "interaction_required", "error_description": described, "claims": P1}));
    }
    if kind == Directory::Ignores {
        claims = json!({});
    }
    if claims.get("acrs").is_some() {
        more["acrs"] = json!(["p1"]);
    }
    if claims.get("nbf").is_some() {
        more["newer"] = json!(true);
    }
    let mut body = json!({"access_token": token(&audience, &more), "expires_in": 3600});
    if grant != "client_credentials" {
        let strong = more["acrs"].is_array() || request.form("refresh_token").as_deref() == Some(STRONG);
        body["refresh_token"] = json!(if strong { STRONG } else { REFRESH });
    }
    answer(200, &body)
}

/// A Resource Manager that asks for these claims, of writes or of everything, and its directory.
struct Play {
    stage: Arc<Stage>,
    dir: tempfile::TempDir,
}

impl Play {
    fn open(kind: Directory, claims: &'static str, reads: bool) -> Self {
        let stage = Stage::open(Box::new(move |stage, who, request| match who {
            Who::Authority => Some(directory(stage, kind, request)),
            Who::Arm => {
                let asked = request.bearer().is_some() && (reads || WRITES.contains(&&*request.method));
                let proof = if claims == NBF { "newer" } else { "acrs" };
                (asked && proves(request).get(proof).is_none()).then(|| unauthorized(claims))
            }
            _ => None,
        }));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), server::ca_pem()).unwrap();
        std::fs::write(dir.path().join("secret"), SECRET).unwrap();
        Self { stage, dir }
    }

    fn command(&self, sign_in: SignedIn, arguments: &[&str]) -> Command {
        command(&self.stage, self.dir.path(), Who::Arm, sign_in, arguments)
    }

    fn run(&self, sign_in: SignedIn, arguments: &[&str]) -> Ran {
        watched(&mut self.command(sign_in, arguments))
    }

    /// What the directory was asked, as a kind of request and the claims, and each write with its answer.
    fn story(&self) -> Vec<String> {
        let told = |(who, request): &(Who, Request)| match who {
            Who::Arm if WRITES.contains(&&*request.method) => {
                let good = proves(request).get("acrs").is_some();
                Some(if good { "write".to_owned() } else { "write, challenged".to_owned() })
            }
            Who::Authority => {
                let claims = asked(request.form("claims").or_else(|| request.query("claims")));
                let kind = request.form("grant_type").unwrap_or_else(|| {
                    let path = request.path.split('?').next().unwrap();
                    path.rsplit('/').next().unwrap().to_owned()
                });
                let kind = kind.rsplit(':').next().unwrap();
                let asks = claims.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
                Some(format!("{kind} {asks}").trim().to_owned())
            }
            _ => None,
        };
        let mut story: Vec<String> = self.stage.received().iter().filter_map(told).collect();
        story.dedup_by(|a, b| a == "write" && b == "write");
        story
    }

    #[track_caller]
    fn tells(&self, ran: &Ran, story: &[&str]) {
        assert_eq!(self.story(), story, "{}", ran.said);
        assert_eq!(self.stage.leaks(Who::Arm, 2), [""; 0]);
    }
}

#[track_caller]
fn ends(ran: &Ran, code: i32, says: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}", ran.said);
    for text in says {
        assert!(ran.said.contains(text), "{text:?} is not said: {}", ran.said);
    }
}

const ROLE: &[&str] = &["role", "create"];
const AGAIN: &str = "asks for multi-factor authentication (acrs p1): sign in again as person@here.example.";

#[test]
fn a_person_with_a_code_gives_what_a_write_asks_for() {
    let play = Play::open(Directory::WantsPerson, P1, false);
    let ran = play.run(SignedIn::Device, ROLE);
    ends(&ran, 0, &[AGAIN]);
    let story = [
        "devicecode",
        "device_code",
        "write, challenged",
        "refresh_token acrs",
        "devicecode acrs",
        "device_code acrs",
        "write",
    ];
    play.tells(&ran, &story);
    // The kept sign-in has had the factor: it gives it on, and no person is asked.
    let ran = play.run(SignedIn::Kept, ROLE);
    ends(&ran, 0, &[]);
    assert!(!ran.said.contains("ABC") && !ran.said.contains("sign in again"), "{}", ran.said);
}

#[test]
fn a_refresh_token_gives_what_it_can_without_a_question() {
    let play = Play::open(Directory::Gives, P1, false);
    let ran = play.run(SignedIn::Device, ROLE);
    ends(&ran, 0, &[]);
    let story = ["devicecode", "device_code", "write, challenged", "refresh_token acrs", "write"];
    play.tells(&ran, &story);
    assert!(!ran.said.contains("sign in again"), "{}", ran.said);
}

#[test]
fn a_person_in_a_browser_gives_what_a_write_asks_for() {
    let play = Play::open(Directory::WantsPerson, P1, false);
    let browser = browser(play.dir.path());
    let mut command = play.command(SignedIn::Device, &["role", "create", "--browser"]);
    let ran = watched(command.env_remove("AZSREG_DEVICE_CODE").env("BROWSER", browser));
    ends(&ran, 0, &[AGAIN]);
    let story = [
        "authorize",
        "authorization_code",
        "write, challenged",
        "refresh_token acrs",
        "authorize acrs",
        "authorization_code acrs",
        "write",
    ];
    play.tells(&ran, &story);
    let shown: Vec<_> =
        play.stage.received().into_iter().filter(|(_, request)| request.is("GET", "/authorize")).collect();
    let query = |at: usize, name| shown[at].1.query(name);
    assert_eq!((query(0, "prompt").as_deref(), query(0, "login_hint")), (Some("select_account"), None));
    assert_eq!((query(1, "prompt"), query(1, "login_hint").as_deref()), (None, Some("person@here.example")));
}

/// A browser that signs in at once: it follows the directory to the port that azsreg listens at.
fn browser(dir: &Path) -> PathBuf {
    let script = dir.join("browser");
    let text = format!("#!/bin/sh\nexec curl -sS -L --cacert '{}/ca.pem' -o /dev/null \"$1\"\n", dir.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn one_challenge_has_one_answer() {
    let play = Play::open(Directory::Ignores, P1, false);
    let ran = play.run(SignedIn::Device, ROLE);
    ends(&ran, 6, &["AZR3024", AGAIN, "azsreg login"]);
    let story = [
        "devicecode",
        "device_code",
        "write, challenged",
        "refresh_token acrs",
        "write, challenged",
        "devicecode acrs",
        "device_code acrs",
        "write, challenged",
    ];
    play.tells(&ran, &story);
}

#[test]
fn an_application_is_told_that_it_cant() {
    for kind in [Directory::WantsPerson, Directory::Ignores] {
        let play = Play::open(kind, P1, false);
        let ran = play.run(SignedIn::Secret, ROLE);
        let says = ["AZR3024", "asks for multi-factor authentication (acrs p1)", "An application can't give", "exempt"];
        ends(&ran, 6, &says);
        let mut story = vec!["client_credentials", "write, challenged", "client_credentials acrs"];
        story.extend((kind == Directory::Ignores).then_some("write, challenged"));
        play.tells(&ran, &story);
    }
}

#[test]
fn without_a_person_it_ends_and_the_next_login_asks_for_it() {
    let play = Play::open(Directory::WantsPerson, P1, false);
    ends(&play.run(SignedIn::Device, &["login"]), 0, &[]);
    let unattended = play.run(SignedIn::Kept, ROLE);
    ends(&unattended, 6, &["AZR3024", "AADSTS50076", "next: azsreg login"]);
    // A person is there perhaps, but does not see what is said.
    let unseen = watched(play.command(SignedIn::Kept, ROLE).env("AZSREG_NON_INTERACTIVE", "false"));
    ends(&unseen, 6, &["AZR3024", "next: azsreg login"]);
    assert!(!unseen.said.contains("ABC"), "{}", unseen.said);
    // What is only read goes on as before.
    ends(&play.run(SignedIn::Kept, &["list"]), 0, &[]);
    let before = play.story().len();
    let login = play.run(SignedIn::Device, &["login"]);
    ends(&login, 0, &["Azure has asked for multi-factor authentication (acrs p1): this sign-in asks for it."]);
    assert_eq!(play.story()[before..], ["devicecode acrs", "device_code acrs"]);
    let ran = play.run(SignedIn::Kept, ROLE);
    ends(&ran, 0, &[]);
    let login = play.run(SignedIn::Device, &["login"]);
    assert!(login.code == Some(0) && !login.said.contains("Azure has asked"), "{}", login.said);
    assert_eq!(play.stage.leaks(Who::Arm, 0), [""; 0]);
}

#[test]
fn at_a_terminal_a_kept_sign_in_is_made_again() {
    let play = Play::open(Directory::WantsPerson, P1, false);
    ends(&play.run(SignedIn::Device, &["login"]), 0, &[]);
    let inner = play.command(SignedIn::Kept, ROLE);
    let script = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut outer = Command::new("python3");
    outer.args(["-c", script]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    let ran = watched(outer.env("AZSREG_NON_INTERACTIVE", "false").env("TERM", "xterm"));
    ends(&ran, 0, &[AGAIN, "ABC"]);
    assert_eq!(
        play.story()[3..],
        ["write, challenged", "refresh_token acrs", "devicecode acrs", "device_code acrs", "write"]
    );
}

#[test]
fn another_account_does_not_go_on_in_its_place() {
    let play = Play::open(Directory::AnotherComes, P1, false);
    let ran = play.run(SignedIn::Device, ROLE);
    ends(&ran, 6, &["AZR3030", "another@here.example signed in; person@here.example was asked to"]);
    assert!(!play.story().contains(&"write".to_owned()), "nothing is written as the other one");
    // The kept sign-in is still the first one's.
    let shown = play.run(SignedIn::Kept, &["whoami"]).said;
    assert!(shown.contains("person@here.example") && !shown.contains("another"), "{shown}");
}

#[test]
fn a_read_that_is_challenged_is_answered_without_a_person() {
    for sign_in in [SignedIn::Device, SignedIn::Secret] {
        let play = Play::open(Directory::Gives, NBF, true);
        let ran = play.run(sign_in, &["list"]);
        ends(&ran, 0, &[]);
        let last = play.story().pop().unwrap();
        assert!(last == "refresh_token nbf" || last == "client_credentials nbf", "{last}");
    }
}

#[test]
fn what_is_no_challenge_makes_azsreg_ask_nothing() {
    for claims in ["e30", "not base64", &"A".repeat(20_000), &BASE64_STANDARD.encode("[[[[[[")] {
        let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
        let stage = Stage::open(Box::new(move |_, who, request| {
            let meant = who == Who::Arm && request.bearer().is_some();
            meant.then(|| full(401, &[("WWW-Authenticate", &challenge)], "{}"))
        }));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), server::ca_pem()).unwrap();
        std::fs::write(dir.path().join("secret"), SECRET).unwrap();
        let ran = watched(&mut command(&stage, dir.path(), Who::Arm, SignedIn::Secret, &["list"]));
        ends(&ran, 1, &["AZR3016"]);
        assert_eq!(stage.leaks(Who::Arm, 1), [""; 0]);
    }
}

#[test]
fn an_expired_token_is_drawn_anew_once() {
    let calls = |times: usize| {
        let stage = Stage::open(Box::new(move |stage, who, request| {
            let meant = who == Who::Arm && request.method == "PUT" && stage.next() < times;
            let body = json!({"error": {"code": "ExpiredAuthenticationToken", "message": "The access token expiry UTC time '1' is earlier than current UTC time '2'."}});
            meant.then(|| answer(401, &body))
        }));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), server::ca_pem()).unwrap();
        std::fs::write(dir.path().join("secret"), SECRET).unwrap();
        let ran = watched(&mut command(&stage, dir.path(), Who::Arm, SignedIn::Secret, ROLE));
        assert_eq!(stage.leaks(Who::Arm, 2), [""; 0]);
        let puts = stage.received().iter().filter(|(_, request)| request.method == "PUT").count();
        (ran, puts)
    };
    let (ran, _) = calls(1);
    ends(&ran, 0, &[]);
    let (ran, puts) = calls(usize::MAX);
    ends(&ran, 6, &["AZR3031", "has expired that is new", "ExpiredAuthenticationToken", "Run the same command again"]);
    assert_eq!(puts, 2, "{}", ran.said);
}
