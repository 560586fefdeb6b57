//! Wires that lead elsewhere: certificates that are not trusted, proxies that do not let through, http where https is
//! spoken. Whose failure it is, and why, is told in words; the words of libraries are not.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::pep::stamp_info;
use crate::{Ran, watched};

/// What the libraries call it, none of which an operator can use.
const DEBUG: &[&str] = &[
    "CaUsedAsEndEntity",
    "NotValidForName",
    "UnknownIssuer",
    "Expired",
    "NotValidYet",
    "BadSignature",
    "InvalidContentType",
    "invalid peer certificate",
    "tunnel error",
    "corrupt message",
];

/// A server that does this with each connection; where it is.
fn server(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let talk = Arc::new(talk);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = Arc::clone(&talk);
            std::thread::spawn(move || talk(stream));
        }
    });
    address
}

/// A server that answers each request with this text.
fn saying(answer: &'static str) -> String {
    server(move |mut stream| {
        while stream.read(&mut [0; 16_384]).is_ok_and(|read| read > 0) {
            if stream.write_all(answer.as_bytes()).is_err() || answer.contains("close") {
                return;
            }
        }
    })
}

/// An authority of a name, as PEM and as the issuer of others.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

/// A server of https with a certificate that is changed before it is signed.
fn https(issuer: &Issuer<'static, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    change(&mut params);
    let chain = vec![params.signed_by(&key, issuer).unwrap().der().clone()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    server(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        let _ = stream.read(&mut [0; 4_096]);
    })
}

/// `list` with Azure at this host.
fn list(dir: &Path, host: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AZSREG_") || name.starts_with("SSL_CERT_") || name.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    std::fs::write(dir.join("secret"), "the secret").unwrap();
    command
        .env("AZSREG_STATE_DIR", dir.join("state"))
        .env("AZSREG_CLOUD_ENDPOINT", format!("https://{host}"))
        .env("AZSREG_SUBSCRIPTION", crate::server::SUBSCRIPTION)
        .env("AZSREG_CLIENT_ID", crate::server::SUBSCRIPTION)
        .env("AZSREG_CLIENT_SECRET", format!("@{}", dir.join("secret").display()))
        .env("AZSREG_NON_INTERACTIVE", "true")
        .env("AZSREG_CONNECT_TIMEOUT", "5")
        .arg("list");
    command
}

/// Says this code and these words, and none of a library's.
fn says(what: &str, ran: &Ran, code: &str, words: &[&str], never: &[&str]) {
    // A screen wraps where it likes.
    let said = ran.said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&format!("error[{code}]")), "{what}: not {code}: {said}");
    for word in words {
        assert!(said.contains(word), "{what}: {word:?} is not in: {said}");
    }
    for word in DEBUG.iter().chain(never) {
        assert!(!said.contains(word), "{what}: {word:?} is in: {said}");
    }
}

#[test]
fn a_certificate_that_is_not_trusted_says_why_on_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let (pem, ours) = authority("Contoso Root");
    let (_, theirs) = authority("Inspecting Proxy");
    std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
    let until = |params: &mut CertificateParams, from: i32| {
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(from + 1, 1, 1);
    };
    for (what, host, words) in [
        (
            "expired",
            https(&ours, |params| until(params, 2020)),
            [
                "has expired: it is valid from 1 January 2020, 00:00 UTC to 1 January 2021, 00:00 UTC",
                "This machine's clock says",
            ],
        ),
        (
            "not yet valid",
            https(&ours, |params| until(params, 2090)),
            ["is not valid yet: it is valid from 1 January 2090", "Compare this machine's clock"],
        ),
        (
            "another name",
            https(&ours, |params| {
                params.subject_alt_names = vec![SanType::DnsName("adminmanagement.east.example".try_into().unwrap())];
            }),
            ["127.0.0.1 was asked for, it is for adminmanagement.east.example", "Use a name that the certificate has"],
        ),
        (
            "unknown issuer",
            https(&theirs, |_| {}),
            [
                "an authority that this machine does not know: CN=Inspecting Proxy",
                "add its certificate to the file of --ca-file",
            ],
        ),
        (
            "an authority's own",
            https(&ours, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ["is not a server's but an authority's own", "Have the server given a certificate of its own"],
        ),
    ] {
        let ca = dir.path().join("ca.pem");
        let ran = watched(list(dir.path(), &host).env("AZSREG_CA_FILE", &ca));
        says(what, &ran, "AZR4002", &[words[0], words[1], &host], &["give its certificate with --ca-file", "inspects"]);
        let ran = watched(stamp_info(dir.path(), &format!("https://{host}"), "ntlm").env("AZSREG_CA_FILE", &ca));
        says(what, &ran, "AZR2004", &[words[0], words[1], &host], &["give its certificate with --ca-file"]);
    }
}

#[test]
fn a_file_without_a_certificate_is_refused_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (pem, ours) = authority("Contoso Root");
    let host = https(&ours, |_| {});
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().serialize_request(&key).unwrap();
    for (what, bytes) in [
        ("a private key", key.serialize_pem()),
        ("a certificate request", request.pem().unwrap()),
        ("it is empty", String::new()),
    ] {
        let ca = dir.path().join("odd.pem");
        std::fs::write(&ca, bytes).unwrap();
        // There is no person to ask.
        for command in [&mut list(dir.path(), "127.0.0.1:1"), &mut stamp_info(dir.path(), "127.0.0.1:1", "ntlm")] {
            says(what, &watched(command.env("AZSREG_CA_FILE", &ca)), "AZR5022", &[what, "odd.pem"], &["AZR4", "AZR2"]);
        }
    }
    let wide: Vec<u8> = std::iter::once(0xfeff).chain(pem.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for (what, bytes) in [("a BOM", [b"\xef\xbb\xbf", pem.as_bytes()].concat()), ("UTF-16", wide)] {
        let ca = dir.path().join("read.pem");
        std::fs::write(&ca, bytes).unwrap();
        let ran = watched(list(dir.path(), &host).env("AZSREG_CA_FILE", &ca));
        // The server takes the handshake, and hangs up then.
        assert!(!ran.said.contains("AZR5022") && !ran.said.contains("AZR4002"), "{what}: {}", ran.said);
    }
    let missing = dir.path().join("missing.pem");
    let ran =
        watched(list(dir.path(), &host).env("SSL_CERT_FILE", &missing).env("SSL_CERT_DIR", dir.path().join("none")));
    says("SSL_CERT_FILE", &ran, "AZR5023", &["SSL_CERT_FILE=", "missing.pem"], &["--ca-file"]);
}

#[test]
fn a_proxy_that_fails_is_named_in_place_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let (pem, _) = authority("Contoso Root");
    std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
    let run = |proxy: &str, more: &[(&str, &str)]| {
        let mut command = list(dir.path(), "management.east.example");
        command.env("HTTPS_PROXY", proxy).envs(more.iter().copied());
        watched(command.env("AZSREG_CA_FILE", dir.path().join("ca.pem")))
    };
    let wants = saying("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    let forbids = saying("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let lost = saying("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    let host = "management.east.example";
    for (proxy, code, words) in [
        ("proxy.invalid:3128", "AZR4054", vec!["the proxy http://proxy.invalid:3128 can't be reached"]),
        ("http://127.0.0.1:1", "AZR4054", vec!["the proxy http://127.0.0.1:1 can't be reached"]),
        (&wants, "AZR4055", vec![&wants, "asks for a user and a password for", host, "HTTP status 407"]),
        (&forbids, "AZR4055", vec![&forbids, "does not open the way to", host, "HTTP status 403", "rules forbid"]),
        (&lost, "AZR4055", vec![&lost, "HTTP status 502", "The host itself was not asked"]),
        ("ftp://127.0.0.1:1", "AZR5024", vec!["HTTPS_PROXY=ftp://127.0.0.1:1"]),
        ("http://proxy one:3128", "AZR5024", vec!["HTTPS_PROXY=http://proxy one:3128: a blank stands in it"]),
        ("socks5h://127.0.0.1:1", "AZR5024", vec!["HTTPS_PROXY=socks5h://127.0.0.1:1"]),
    ] {
        let ran = run(proxy, &[]);
        says(proxy, &ran, code, &words, &["AZR4001", "inspects"]);
        assert!(ran.took.as_secs() < 30, "{proxy}: a refusal was tried again: {:?}", ran.took);
    }
    let user = format!("http://user:s3cret-w0rd@{wants}");
    let ran = run(&user, &[]);
    says("a user", &ran, "AZR4055", &["does not take the user that is given"], &["s3cret-w0rd"]);
    // What is left out goes the direct way: the host's own name is what fails then.
    for list in ["*", "management.east.example:443", ".east.example"] {
        says(list, &run("http://127.0.0.1:1", &[("NO_PROXY", list)]), "AZR4001", &[host], &["the proxy"]);
    }
}

#[test]
fn http_and_https_at_the_others_port_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (_, ours) = authority("Contoso Root");
    let plain = saying("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let ran = watched(&mut stamp_info(dir.path(), &format!("https://{plain}"), "ntlm"));
    says(
        "https",
        &ran,
        "AZR2037",
        &["answers TLS with something that is not TLS", &format!("--pep http://{plain}")],
        &[],
    );
    let tls = https(&ours, |_| {});
    let ran = watched(&mut stamp_info(dir.path(), &format!("http://{tls}"), "ntlm"));
    says("http", &ran, "AZR2037", &["answers http with TLS", &format!("--pep https://{tls}")], &[]);
}
