//! A small server in plain HTTP, and a stamp that names it: for tests of what is taken from whom.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use azsreg_model::{IdentitySystem, StampInformation};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::http::{Http, HttpOptions};
use crate::login::Prompt;

/// Nobody is shown anything.
pub(crate) struct Nobody;

impl Prompt for Nobody {
    fn device_code(&self, _: &str, _: &str, _: &str) {}
    fn browser(&self, _: &str, _: bool) {}
    fn may_ask(&self, _: bool) -> bool {
        false
    }
    fn again(&self, _: &str) {}
}

/// The answer to what is not there any more.
pub(crate) const GONE: &str = "gone";

/// A server that gives these answers by the beginning of the path, and keeps what it was sent.
pub(crate) async fn server(answers: Vec<(&'static str, String)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)
                .map(|rest| rest.lines().next().unwrap().parse().unwrap());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).await.unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            seen.lock().unwrap().push(format!("{head}{}", String::from_utf8(body).unwrap()));
            let answer = answers.iter().find(|(begins, _)| path.starts_with(begins)).map_or("{}", |(_, answer)| answer);
            let whole = |status: &str| {
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
            };
            // One with a head of its own is sent as it is.
            let answer = match answer {
                head if head.starts_with("HTTP/1.1 ") => head.to_owned(),
                GONE => whole("404 Not Found\r\nx-ms-error-code: ContainerNotFound"),
                _ => whole("200 OK"),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, received)
}

/// A client.
pub(crate) fn http(allow_http: bool) -> Http {
    let wait = Duration::from_secs(5);
    let options = HttpOptions {
        authorities: azsreg_tls::Authorities::default(),
        connect_timeout: wait,
        answer_timeout: wait,
        direct: true,
        allow_http,
    };
    Http::new(&options).unwrap()
}

/// A stamp that names this Resource Manager as its own.
pub(crate) fn stamp(endpoint: &str) -> StampInformation {
    StampInformation {
        cloud_id: uuid::Uuid::nil(),
        version: Some("1.2501.0.21".parse().unwrap()),
        deployment_id: None,
        nodes: Some(4),
        identity_system: IdentitySystem::Aad,
        tenant_id: None,
        tenant_name: None,
        region: None,
        domain: None,
        admin_arm_endpoint: Some(endpoint.to_owned()),
        tenant_arm_endpoint: None,
        other: std::collections::BTreeMap::default(),
    }
}

/// Metadata with this directory and audience.
pub(crate) fn metadata(login: &str, audience: &str) -> String {
    json!({"authentication": {"loginEndpoint": login, "audiences": [audience]}}).to_string()
}
