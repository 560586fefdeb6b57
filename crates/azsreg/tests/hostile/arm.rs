//! A Resource Manager, and what calls itself one.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Reply, Request, Stage, Who, Wire, answer, asked_for, full, raw, silence, token};
use crate::{Row, SignedIn, play};

const METADATA: &str = "/metadata/endpoints";

/// A row in which the Resource Manager answers a read otherwise.
fn read(
    name: impl Into<String>,
    code: &'static str,
    part: &'static str,
    reply: impl Fn(&Stage, &Request) -> Reply + Send + Sync + 'static,
) -> Row {
    let scene = move |stage: &Stage, who, request: &Request| {
        let meant = who == Who::Arm && request.is("GET", part) && (part == METADATA || request.bearer().is_some());
        meant.then(|| reply(stage, request))
    };
    Row::new(name, code, scene)
}

/// A row in which the first answer to a read is broken, and those after it are not: it is asked for again.
fn once(name: &str, part: &'static str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Row {
    read(name, "", part, move |stage, _| match stage.next() {
        0 => reply(),
        _ => answer(200, &json!({"value": []})),
    })
}

/// A row in which the first list has these members more.
fn linked(
    name: impl Into<String>,
    code: &'static str,
    link: impl Fn(&Stage, &Request) -> String + Send + Sync + 'static,
) -> Row {
    read(name, code, "/subscriptions", move |stage, request| {
        answer(200, &json!({"value": [], "nextLink": link(stage, request)}))
    })
}

/// A row in which a write is accepted and goes on elsewhere.
fn accepted(
    name: impl Into<String>,
    code: &'static str,
    headers: impl Fn(&Stage) -> Vec<(&'static str, String)> + Send + Sync + 'static,
) -> Row {
    let scene = move |stage: &Stage, who, request: &Request| {
        let meant = who == Who::Arm && (request.method == "PUT" || request.path.starts_with("/operation"));
        meant.then(|| {
            let headers = headers(stage);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            full(202, &headers, "{}")
        })
    };
    Row::new(name, code, scene).with(|row| row.arguments = vec!["role", "create"])
}

/// A row in which the metadata is of this directory and audience.
fn described(
    name: impl Into<String>,
    code: &'static str,
    metadata: impl Fn(&Stage) -> Value + Send + Sync + 'static,
) -> Row {
    read(name, code, METADATA, move |stage, _| answer(200, &metadata(stage))).with(|row| row.secrets = 0)
}

/// Bytes for ever, or until the other end has had enough.
fn endless(wire: &mut dyn Wire, head: &str, chunk: &[u8], pause: Duration) -> io::Result<()> {
    wire.write_all(head.as_bytes())?;
    loop {
        wire.write_all(chunk)?;
        wire.flush()?;
        std::thread::sleep(pause);
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn metadata_names_what_is_somebody_elses() {
    let mut rows = Vec::new();
    for audience in [
        "https://management.azure.com/",
        "https://management.core.windows.net/",
        "https://MANAGEMENT.AZURE.COM./",
        "https://management.usgovcloudapi.net/",
        "https://graph.microsoft.com",
        "https://vault.azure.net",
        "797f4846-ba00-4fd7-ba43-dac1f8f63013",
        "https://a.example/ https://management.azure.com/",
        "https://a.example@management.azure.com/",
    ] {
        let metadata = move |stage: &Stage| stage.metadata(&stage.url(Who::Authority), audience);
        rows.push(described(format!("the audience {audience}"), "AZR3020", metadata));
    }
    // Of another host than the endpoint's, but nobody's that is known: a stamp's audience looks like this.
    let metadata = |stage: &Stage| {
        stage.metadata(
            &stage.url(Who::Authority),
            "https://management.contoso.onmicrosoft.com/8e2f1ee1-0000-4000-8000-000000000001",
        )
    };
    rows.push(described("an audience of a directory's name", "", metadata).with(|row| {
        row.secrets = 1;
        let inner = std::mem::replace(&mut row.scene, Box::new(|_, _, _| None));
        // The directory gives a token that says nothing of its audience.
        row.scene = Box::new(move |stage, who, request| {
            let meant = who == Who::Authority && asked_for(request).contains("contoso");
            let body = || json!({"access_token": token("", &json!({"aud": null})), "expires_in": 3600});
            if meant { Some(answer(200, &body())) } else { inner(stage, who, request) }
        });
    }));
    play(rows);
}

/// Azure's own metadata is a list of clouds; a tenant may stand behind the login endpoint.
#[test]
fn of_a_list_of_clouds_only_the_one_of_the_endpoint_counts() {
    let own = |stage: &Stage, login: String| {
        let mut own = stage.metadata(&login, &format!("{}/", stage.url(Who::Arm)));
        own["resourceManager"] = json!(stage.url(Who::Arm));
        own
    };
    let other = |stage: &Stage| {
        let mut other = stage.metadata("https://login.other.example", "https://management.azure.com/");
        other["resourceManager"] = json!(stage.url(Who::Other));
        other
    };
    play(vec![
        described("a list, another cloud first", "", move |stage| {
            json!([other(stage), own(stage, stage.url(Who::Authority))])
        })
        .with(|row| row.secrets = 1),
        described("a list of other clouds", "AZR4014", move |stage| json!([other(stage)])),
        described("a tenant behind the login endpoint", "", move |stage| {
            json!([own(stage, format!("{}/tenant-9/", stage.url(Who::Authority)))])
        })
        .with(|row| {
            row.secrets = 1;
            let inner = std::mem::replace(&mut row.scene, Box::new(|_, _, _| None));
            // Two tenants in one address are no address of the directory's.
            row.scene = Box::new(move |stage, who, request| {
                let odd = who == Who::Authority && request.path.contains("tenant-9");
                if odd { Some(answer(404, &json!({}))) } else { inner(stage, who, request) }
            });
        }),
    ]);
}

#[test]
fn metadata_names_addresses_that_are_not_https() {
    let own = |stage: &Stage| format!("{}/", stage.url(Who::Arm));
    let login = |name: &str, login: fn(&Stage) -> String| {
        let metadata = move |stage: &Stage| stage.metadata(&login(stage), &own(stage));
        described(format!("a login endpoint {name}"), "AZR4040", metadata)
    };
    let graph = |name: &str, graph: fn(&Stage) -> String| {
        let metadata = move |stage: &Stage| {
            let mut metadata = stage.metadata(&stage.url(Who::Authority), &own(stage));
            metadata["microsoftGraphResourceId"] = json!(graph(stage));
            metadata
        };
        described(format!("a Graph {name}"), "AZR4040", metadata)
    };
    let bare = |stage: &Stage| stage.url(Who::Authority).replace("https://", "");
    play(vec![
        login("of http", |stage| stage.url(Who::Plain)),
        login("of http elsewhere", |_| "http://login.example".into()),
        login("of ftp", |_| "ftp://login.example".into()),
        login("without a scheme", |stage| stage.url(Who::Authority).replace("https:", "")),
        login("with a user", |stage| stage.url(Who::Authority).replace("https://", "https://login.example@")),
        login("with a query", |stage| format!("{}/?to=", stage.url(Who::Authority))),
        login("with dots", |stage| format!("{}/a/%2e%2e%2fb", stage.url(Who::Authority))),
        graph("of http", |stage| stage.url(Who::Plain)),
        graph("with a user", |_| "https://graph.microsoft.com@evil.example".into()),
        described("no scheme at all", "AZR4040", move |stage| stage.metadata(&bare(stage), &own(stage))),
    ]);
}

#[test]
fn http_is_taken_on_loopback_and_where_the_line_says_so() {
    let honest = |name: &str, code| Row::new(name, code, |_, _, _| None);
    let plain = |row: &mut Row| row.at = Who::Plain;
    play(vec![
        honest("an endpoint of http", "AZR1001").with(plain).with(|row| row.secrets = 0),
        honest("an endpoint of http that was allowed", "").with(plain).with(|row| row.arguments.push("--allow-http")),
        linked("a link of http elsewhere, though http is allowed", "AZR4040", |_, _| "http://a.example/".into())
            .with(|row| row.arguments.push("--allow-http")),
        linked("a link to http of the same host, though http is allowed", "AZR4041", |stage, _| stage.url(Who::Plain))
            .with(|row| row.arguments.push("--allow-http")),
    ]);
}

#[test]
fn what_redirects_is_not_followed() {
    let mut rows = Vec::new();
    for status in [300, 301, 302, 303, 307, 308] {
        for to in [Who::Other, Who::Plain] {
            let away = move |stage: &Stage, request: &Request| {
                full(status, &[("Location", &format!("{}{}", stage.url(to), request.path))], "")
            };
            rows.push(
                read(format!("metadata: {status} to {to:?}"), "AZR4045", METADATA, away).with(|row| row.secrets = 0),
            );
            rows.push(read(format!("a list: {status} to {to:?}"), "AZR4045", "/registrations", away));
        }
    }
    // Nor to itself.
    let round = |stage: &Stage, request: &Request| {
        full(307, &[("Location", &format!("{}{}", stage.url(Who::Arm), request.path))], "")
    };
    rows.push(read("a list: 307 to itself", "AZR4045", "/registrations", round));
    play(rows);
}

#[test]
fn links_lead_nowhere_else_and_not_round() {
    let own = |stage: &Stage, path: String| format!("{}{path}", stage.url(Who::Arm));
    play(vec![
        linked("nextLink of http", "AZR4040", |stage, request| {
            format!("{}{}", stage.url(Who::Arm).replace("https", "http"), request.path)
        }),
        linked("nextLink to a plain server", "AZR4040", |stage, _| stage.url(Who::Plain)),
        linked("nextLink to another host", "AZR4041", |stage, request| {
            format!("{}{}", stage.url(Who::Other), request.path)
        }),
        linked("nextLink with a user", "AZR4040", |stage, _| stage.url(Who::Arm).replace("https://", "https://a@")),
        linked("nextLink of two slashes", "AZR4041", |stage, _| stage.url(Who::Other).replace("https:", "")),
        linked("nextLink to itself", "AZR4042", move |stage, request| own(stage, request.path.clone())),
        linked("nextLink round three pages", "AZR4042", move |stage, _| {
            own(stage, format!("/subscriptions?page={}", stage.next() % 3))
        }),
        linked("nextLink for ever, empty pages", "AZR4043", move |stage, _| {
            own(stage, format!("/subscriptions?page={}", stage.next()))
        })
        .with(|row| row.seconds = 40),
        linked("nextLink that grows", "AZR4043", move |stage, request| {
            own(stage, format!("{}xxxxxxxx", request.path.repeat(2)))
        }),
        accepted("Location of http", "AZR4040", |stage| vec![("Location", stage.url(Who::Plain))]),
        accepted("Location at another host", "AZR4041", |stage| vec![("Location", stage.url(Who::Other))]),
        accepted("an operation of http", "AZR4040", |stage| vec![("Azure-AsyncOperation", stage.url(Who::Plain))]),
        accepted("an operation at another host", "AZR4041", |stage| {
            vec![("Azure-AsyncOperation", stage.url(Who::Other))]
        }),
        // Its end is told by a unit test: it takes as long as a step.
        accepted("an operation that waits for a week", "AZR4046", |_| {
            vec![("Azure-AsyncOperation", "/operation".into()), ("Retry-After", "604800".into())]
        }),
        accepted("Location that waits for a week", "AZR4046", |_| {
            vec![("Location", "/operation".into()), ("Retry-After", "604800".into())]
        }),
        accepted("Location that waits until the year 2099", "AZR4046", |_| {
            vec![("Location", "/operation".into()), ("Retry-After", "Thu, 31 Dec 2099 23:59:59 GMT".into())]
        }),
    ]);
}

#[test]
fn answers_are_read_up_to_a_limit() {
    const LIST: &str = "/registrations";
    let mut rows = vec![
        read("a page of 100 MB", "AZR4043", LIST, |_, _| {
            raw(|wire| {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{{\"value\":[\"", 100 << 20);
                endless(wire, &head, &[b'x'; 1 << 16], Duration::ZERO)
            })
        }),
        read("chunks without end", "AZR4043", LIST, |_, _| {
            raw(|wire| {
                let chunk = [b"10000\r\n".to_vec(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
                endless(wire, CHUNKED, &chunk, Duration::ZERO)
            })
        }),
        read("metadata without end", "AZR4043", METADATA, |_, _| {
            raw(|wire| {
                let chunk = [b"10000\r\n".to_vec(), vec![b'['; 1 << 16], b"\r\n".to_vec()].concat();
                endless(wire, CHUNKED, &chunk, Duration::ZERO)
            })
        })
        .with(|row| row.secrets = 0),
        read("a body that trickles", "AZR4044", LIST, |_, _| {
            raw(|wire| endless(wire, CHUNKED, b"1\r\n \r\n", Duration::from_millis(50)))
        }),
        read("headers that trickle", "AZR4044", LIST, |_, _| {
            raw(|wire| endless(wire, "HTTP/1.1 200 OK\r\nx-a: ", b"x", Duration::from_millis(50)))
        }),
        read("continue, for ever", "AZR4044", LIST, |_, _| {
            raw(|wire| endless(wire, "", b"HTTP/1.1 100 Continue\r\n\r\n", Duration::from_millis(20)))
        }),
        read("nothing after the headers", "AZR4044", LIST, |_, _| {
            raw(|wire| {
                wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")?;
                silence(wire)
            })
        }),
        read("nothing at all", "AZR4044", LIST, |_, _| raw(silence)),
        read("metadata: nothing at all", "AZR4044", METADATA, |_, _| raw(silence)).with(|row| row.secrets = 0),
        once("a body that breaks off", LIST, || {
            raw(|wire| wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"value\":"))
        }),
        read("JSON that breaks off", "AZR4014", LIST, |_, _| full(200, &[], "{\"value\":[")),
        read("compressed, though nobody asked for it", "AZR4014", LIST, |_, _| {
            full(200, &[("Content-Encoding", "gzip")], b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".repeat(1000))
        }),
        read("a page of HTML", "AZR4014", LIST, |_, _| full(200, &[("Content-Type", "text/html")], "<html>")),
        read("JSON called HTML", "", LIST, |_, _| full(200, &[("Content-Type", "text/html")], "{\"value\":[]}")),
        read("a list that is none", "AZR4014", LIST, |_, _| answer(200, &json!({"value": {}}))),
        read("metadata that is none", "AZR4014", METADATA, |_, _| answer(200, &json!({}))).with(|row| row.secrets = 0),
        read("JSON a million levels deep", "AZR4043", LIST, |_, _| full(200, &[], "[".repeat(1 << 20))),
        read("JSON ten thousand levels deep", "AZR4014", LIST, |_, _| full(200, &[], "[".repeat(10_000))),
        // Five megabytes of text that would be hundreds of them once read.
        read("many small objects", "AZR4043", LIST, |_, _| {
            full(200, &[], format!("{{\"value\":[{}{{}}]}}", "{\"a\":0},".repeat(600_000)))
        }),
        read("many small numbers", "AZR4043", LIST, |_, _| {
            full(200, &[], format!("{{\"value\":[{}0]}}", "0,".repeat(4 << 20)))
        }),
        once("headers of a megabyte", LIST, || {
            raw(|wire| {
                let head = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "x".repeat(1 << 20));
                wire.write_all(head.as_bytes())
            })
        }),
    ];
    // Pages that are lawful each, and too much together.
    rows.push(
        read("a list of large pages without end", "AZR4043", LIST, |stage, _| {
            let next = format!("{}/registrations?page={}", stage.url(Who::Arm), stage.next());
            answer(200, &json!({"value": ["x".repeat(8 << 20)], "nextLink": next}))
        })
        .with(|row| row.seconds = 40),
    );
    play(rows);
}

#[test]
fn waits_that_are_asked_for_are_bounded() {
    const LIST: &str = "/registrations";
    let mut rows = Vec::new();
    for (status, after) in [
        (429, "604800"),
        (503, "604800"),
        (500, "18446744073709551615"),
        (429, "Thu, 31 Dec 2099 23:59:59 GMT"),
        (503, "Thu, 31 Dec 2099 23:59:59 GMT"),
    ] {
        let reply = move |_: &Stage, _: &Request| full(status, &[("Retry-After", after)], "{}");
        rows.push(read(format!("{status}, wait {after}"), "AZR4046", LIST, reply));
    }
    // Once, and then the list: what is no wait is none.
    for after in ["-1", "soon", "", "0", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        let reply = move |stage: &Stage, _: &Request| match stage.next() {
            0 => full(503, &[("Retry-After", after)], "{}"),
            _ => answer(200, &json!({"value": []})),
        };
        rows.push(read(format!("503 once, wait {after:?}"), "", LIST, reply));
    }
    rows.push(read("401, again and again", "AZR3016", LIST, |_, _| {
        answer(401, &json!({"error": {"code": "Expired"}}))
    }));
    rows.push(read("403, again and again", "AZR4013", LIST, |_, _| answer(403, &json!({"error": {"code": "No"}}))));
    play(rows);
}

#[test]
fn no_connection_is_waited_for_longer_than_was_said() {
    // It takes the connection, and says nothing of TLS.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hung = move |name: &str, code, part: fn(&Stage, String) -> Value| {
        described(name, code, move |stage| part(stage, format!("https://{address}")))
    };
    let login = |stage: &Stage, hung: String| stage.metadata(&hung, &format!("{}/", stage.url(Who::Arm)));
    play(vec![hung("a directory that does not shake hands", "AZR4001", login)]);
    drop(listener);
}

#[test]
fn a_challenge_does_not_choose_the_directory() {
    let reply = |stage: &Stage, _: &Request| {
        let challenge = format!("Bearer authorization_uri=\"{}/tenant-2\"", stage.url(Who::Other));
        full(401, &[("WWW-Authenticate", &challenge)], "{}")
    };
    play(vec![
        read("a challenge that names another directory", "AZR3016", "/registrations", reply)
            .with(|row| row.sign_in = SignedIn::Kept),
    ]);
}
