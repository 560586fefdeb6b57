//! A directory that misbehaves, and endpoints that ask for the token of a sign-in that was kept for another.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{REFRESH, Reply, Request, Stage, Who, answer, asked_for, full, raw, silence, token};
use crate::{Row, SignedIn, command, play, server, watched};

/// A row in which the directory answers a call otherwise.
fn directory(
    name: impl Into<String>,
    code: &'static str,
    part: &'static str,
    reply: impl Fn(&Stage, &Request) -> Reply + Send + Sync + 'static,
) -> Row {
    Row::new(name, code, move |stage: &Stage, who, request: &Request| {
        (who == Who::Authority && request.is("POST", part)).then(|| reply(stage, request))
    })
}

/// A row in which the directory answers with these members.
fn given(name: impl Into<String>, code: &'static str, body: impl Fn(&str) -> Value + Send + Sync + 'static) -> Row {
    directory(name, code, "/token", move |_, request| answer(200, &body(&asked_for(request))))
}

#[test]
fn what_a_directory_gives_is_looked_at() {
    let held =
        |claims: Value| move |audience: &str| json!({"access_token": token(audience, &claims), "expires_in": 3600});
    play(vec![
        given("nothing", "AZR3022", |_| json!({})),
        given("null", "AZR3022", |_| Value::Null),
        given("an empty token", "AZR3022", |_| json!({"access_token": "", "expires_in": 3600})),
        given("a number for a token", "AZR3022", |_| json!({"access_token": 5, "expires_in": 3600})),
        given(
            "a token that lives no second",
            "AZR3022",
            |a| json!({"access_token": token(a, &json!({})), "expires_in": 0}),
        ),
        given(
            "a token that lives less",
            "AZR3022",
            |a| json!({"access_token": token(a, &json!({})), "expires_in": -9}),
        ),
        given("a token of the past", "AZR3022", held(json!({"exp": 1_000_000_000}))),
        given("a token for a cloud", "AZR3022", held(json!({"aud": "https://management.azure.com/"}))),
        given("a token for Graph", "AZR3022", held(json!({"aud": "https://graph.microsoft.com"}))),
        given(
            "a token with a line in it",
            "AZR3022",
            |a| json!({"access_token": format!("{}\r\nx: y", token(a, &json!({}))), "expires_in": 3600}),
        ),
        given(
            "a token of 300 KB",
            "AZR4043",
            |a| json!({"access_token": token(a, &json!({"x": "x".repeat(300 << 10)})), "expires_in": 3600}),
        ),
        given(
            "a token of 20 MB",
            "AZR4043",
            |a| json!({"access_token": token(a, &json!({"x": "x".repeat(20 << 20)})), "expires_in": 3600}),
        ),
        // Short, but long enough: it is drawn once, not for each call.
        given("a token that lives a minute", "", |a| json!({"access_token": token(a, &json!({})), "expires_in": "60"})),
        given("a token without an audience", "", held(json!({"aud": null}))),
        given("a token that is no JWT", "AZR3016", |_| json!({"access_token": "opaque", "expires_in": 3600})).with(
            |row| {
                let inner = std::mem::replace(&mut row.scene, Box::new(|_, _, _| None));
                // The Resource Manager does not take it, however often it is asked.
                row.scene = Box::new(move |stage, who, request| match request.bearer() {
                    Some("opaque") if who == Who::Arm => Some(answer(401, &json!({}))),
                    _ => inner(stage, who, request),
                });
            },
        ),
        directory("HTML", "AZR3022", "/token", |_, _| full(200, &[("Content-Type", "text/html")], "<html>")),
        directory("a list", "AZR3022", "/token", |_, _| answer(200, &json!([]))),
        directory("silence", "AZR4044", "/token", |_, _| raw(silence)).with(|row| row.secrets = 2),
        directory("an answer that trickles", "AZR4044", "/token", |_, _| {
            raw(|wire| {
                wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
                loop {
                    wire.write_all(b" ")?;
                    wire.flush()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        })
        .with(|row| row.secrets = 2),
        directory("a wait of a week", "AZR4046", "/token", |_, _| full(429, &[("Retry-After", "604800")], "{}")),
        directory("a refusal", "AZR3002", "/token", |_, _| {
            answer(
                401,
                &json!({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret"}),
            )
        }),
    ]);
}

#[test]
fn a_directory_that_redirects_is_not_followed() {
    let mut rows = Vec::new();
    for status in [301, 302, 303, 307, 308] {
        for to in [Who::Other, Who::Plain] {
            let away = move |stage: &Stage, request: &Request| {
                full(status, &[("Location", &format!("{}{}", stage.url(to), request.path))], "")
            };
            rows.push(directory(format!("{status} to {to:?}"), "AZR4045", "/token", away));
        }
    }
    play(rows);
}

#[test]
fn a_code_has_its_life() {
    let started = |more: Value| {
        move |stage: &Stage, request: &Request| {
            let page = format!("{}/devicelogin", stage.url(Who::Authority));
            let mut body = json!({"device_code": asked_for(request), "user_code": "A", "verification_uri": page, "interval": 1, "expires_in": 2});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            answer(200, &body)
        }
    };
    let row = |name: &str, code, more: Value, token: fn(&Request) -> Option<Reply>| {
        let started = started(more);
        Row::new(name, code, move |stage, who, request| match request.path.rsplit('/').next() {
            Some("devicecode") if who == Who::Authority => Some(started(stage, request)),
            Some("token") if who == Who::Authority => token(request),
            _ => None,
        })
        .with(|row| row.sign_in = SignedIn::Device)
    };
    let pending = |_: &Request| Some(answer(400, &json!({"error": "authorization_pending"})));
    play(vec![
        row("nobody comes", "AZR3005", json!({}), pending),
        row("slower, and slower", "AZR3005", json!({}), |_| Some(answer(400, &json!({"error": "slow_down"})))),
        row("a wait of a week", "AZR3005", json!({}), |_| Some(full(429, &[("Retry-After", "604800")], "{}"))),
        row("an interval of a year", "AZR3005", json!({"interval": 31_536_000}), pending),
        row("silence", "AZR3005", json!({}), |_| Some(raw(silence))),
        row("a life without end", "", json!({"expires_in": i64::MAX}), |_| None),
        row("a life that is over", "AZR3005", json!({"expires_in": -5}), pending),
        row("a page of http", "AZR4040", json!({"verification_uri": "http://login.example/device"}), pending),
        row("a page that is a program", "AZR4040", json!({"verification_uri": "file:///bin/sh"}), pending),
        row("no page", "AZR4040", json!({"verification_uri": ""}), pending),
    ]);
}

/// A row in which the other endpoint describes itself so, after somebody has signed in to the first.
fn asks(
    name: &str,
    code: &'static str,
    at: Who,
    metadata: impl Fn(&Stage) -> (String, String) + Send + Sync + 'static,
) -> Row {
    Row::new(name, code, move |stage, who, request| {
        let meant = who == at && request.is("GET", "/metadata/endpoints");
        let body = || {
            let (authority, audience) = metadata(stage);
            stage.metadata(&authority, &audience)
        };
        meant.then(|| answer(200, &body()))
    })
    .with(|row| (row.at, row.sign_in, row.secrets) = (at, SignedIn::Kept, 0))
}

#[test]
fn no_endpoint_chooses_whose_token_it_gets() {
    let own = |stage: &Stage, who| format!("{}/", stage.url(who));
    let authority = |stage: &Stage| stage.url(Who::Authority);
    let mut rows = vec![
        asks("the first cloud itself", "", Who::Arm, move |stage| (authority(stage), own(stage, Who::Arm))),
        asks("its directory and its audience", "AZR3020", Who::Other, move |stage| {
            (authority(stage), own(stage, Who::Arm))
        }),
        asks("its directory", "AZR3021", Who::Other, move |stage| (authority(stage), own(stage, Who::Other))),
        asks("its audience", "AZR3020", Who::Other, move |stage| (stage.url(Who::Other), own(stage, Who::Arm))),
        asks("its audience, spelt otherwise", "AZR3020", Who::Other, move |stage| {
            (authority(stage), stage.url(Who::Arm).replace("https", "HTTPS"))
        }),
        asks("a name under its audience", "AZR3020", Who::Other, move |stage| {
            (authority(stage), format!("{}any", own(stage, Who::Arm)))
        }),
        asks("the first cloud, with another audience than before", "AZR3021", Who::Arm, move |stage| {
            (authority(stage), "https://another.example/".into())
        }),
        asks("the first cloud, with another directory than before", "AZR3001", Who::Arm, move |stage| {
            (stage.url(Who::Other), own(stage, Who::Arm))
        }),
    ];
    // An application's secret is not sent for it either.
    rows.push(
        asks("its directory and its audience, with a secret", "AZR3020", Who::Other, move |stage| {
            (authority(stage), own(stage, Who::Arm))
        })
        .with(|row| row.sign_in = SignedIn::SecretBesideKept),
    );
    play(rows);
}

#[test]
fn a_second_endpoint_has_a_sign_in_of_its_own() {
    let stage = Stage::open(Box::new(|_, _, _| None));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), server::ca_pem()).unwrap();
    let run = |at, sign_in, arguments: &[&str]| watched(&mut command(&stage, dir.path(), at, sign_in, arguments));
    for at in [Who::Arm, Who::Other] {
        let before = run(at, SignedIn::Kept, &["list"]);
        assert_ne!(before.code, Some(0), "{}", before.said);
        assert_eq!(run(at, SignedIn::Device, &["login"]).code, Some(0));
        let after = run(at, SignedIn::Kept, &["list"]);
        assert_eq!(after.code, Some(0), "{}", after.said);
    }
    // The first one is still there, and each token went to its own endpoint.
    assert_eq!(run(Who::Arm, SignedIn::Kept, &["list"]).code, Some(0));
    let shown = run(Who::Arm, SignedIn::Kept, &["whoami"]).said;
    assert!(shown.contains(&stage.url(Who::Arm)) && shown.contains(&stage.url(Who::Other)), "{shown}");
    assert_eq!(stage.leaks(Who::Arm, 0), [""; 0]);
}

#[test]
fn after_logout_no_file_signs_in() {
    let stage = Stage::open(Box::new(|_, _, _| None));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), server::ca_pem()).unwrap();
    let run = |sign_in, arguments: &[&str]| watched(&mut command(&stage, dir.path(), Who::Arm, sign_in, arguments));
    assert_eq!(run(SignedIn::Device, &["login"]).code, Some(0));
    let kept = dir.path().join("state/sign-in");
    let names = || -> Vec<_> { std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let [file] = &names()[..] else { panic!("{:?}", names()) };
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(REFRESH));
    // A draft of a killed login, an editor's copies, a copy by hand: none of them is a sign-in.
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::remove_file(file).unwrap();
    for copy in [
        format!("{name}~"),
        format!(".{name}.swp"),
        format!("{name}.4711.new"),
        ".new-x1y2.tmp".into(),
        "copy.json".into(),
    ] {
        std::fs::write(kept.join(copy), &text).unwrap();
    }
    let ran = run(SignedIn::Kept, &["list"]);
    assert!(ran.said.contains("AZR3001"), "{}", ran.said);
    let ran = run(SignedIn::Kept, &["logout"]);
    assert!(ran.code == Some(0) && ran.said.contains("5 other file"), "{}", ran.said);
    assert!(names().is_empty(), "{:?}", names());
    // What the directory may not hold, it can't.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o077, 0);
    }
}

#[test]
fn a_sign_in_that_an_older_azsreg_kept_is_asked_for_anew() {
    let stage = Stage::open(Box::new(|_, _, _| None));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), server::ca_pem()).unwrap();
    let kept = dir.path().join("state/sign-in");
    std::fs::create_dir_all(&kept).unwrap();
    let authority = stage.url(Who::Authority);
    let host = authority.trim_start_matches("https://").replace(':', "_");
    let text = json!({"user": "person@here.example", "tenant": "tenant-1", "asked": "tenant-1", "authority": authority,
        "client": server::SUBSCRIPTION, "refresh_token": REFRESH});
    std::fs::write(kept.join(format!("tenant-1@{host}.json")), text.to_string()).unwrap();
    let run = |sign_in, arguments: &[&str]| watched(&mut command(&stage, dir.path(), Who::Arm, sign_in, arguments));
    let ran = run(SignedIn::Kept, &["list"]);
    assert!(ran.said.contains("AZR3021"), "{}", ran.said);
    assert!(run(SignedIn::Kept, &["whoami"]).said.contains("older azsreg"));
    let ran = run(SignedIn::Kept, &["logout"]);
    assert!(ran.said.contains("Signed out (1)"), "{}", ran.said);
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0);
}
