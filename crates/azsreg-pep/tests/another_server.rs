//! The client against a server that we did not write: psrpcore for PSRP, pyspnego for NTLM and SPNEGO.
//!
//! It needs Python packages that `cargo xtask test` installs under `target/`; a plain `cargo test` leaves it out.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use azsreg_model::{ActionState, ActivationKey, BillingModel};
use azsreg_operations::ports::{Action, Class, Stamp as _, TokenRequest};
use azsreg_pep::{Credentials, Mechanism, Options, PrivilegedEndpoint, Session};

struct Server {
    child: Child,
    port: u64,
    user: String,
    password: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server() -> Server {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let python = std::env::var_os("AZSREG_PYTHON").map(PathBuf::from);
    let mut child = Command::new(python.unwrap_or_else(|| root.join("target/peers/bin/python")))
        .arg("-B")
        .arg(root.join("tests/peers/psrp_server.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs: cargo xtask test installs it");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    Server { port: told["port"].as_u64().unwrap(), user: text("user"), password: text("password"), child }
}

fn options(server: &Server, mechanism: Mechanism) -> Options {
    Options {
        addresses: vec![format!("127.0.0.1:{}", server.port).parse().unwrap()],
        credentials: Credentials { user: server.user.clone(), password: server.password.clone().into() },
        mechanism,
        configuration: "PrivilegedEndpoint".into(),
        connect_timeout: Duration::from_secs(10),
        authorities: azsreg_tls::Authorities::default(),
        transcript: None,
    }
}

#[tokio::test]
#[ignore = "needs Python packages: cargo xtask test"]
async fn psrpcore_is_understood_in_both_mechanisms() {
    let server = server();
    for mechanism in [Mechanism::Ntlm, Mechanism::Negotiate] {
        let stamp = PrivilegedEndpoint::new(options(&server, mechanism), Box::new(|_| {}));
        let information = stamp.information().await.unwrap();
        assert!(information.admin_arm_endpoint.is_some(), "{mechanism}: {information:?}");
        assert_eq!(stamp.action_run(Action::NewAzureStackActivation).await.unwrap().state, ActionState::None);
        let request = TokenRequest {
            billing_model: BillingModel::PayAsYouUse,
            agreement_number: None,
            ms_asset_tag: None,
            usage_reporting: true,
            marketplace: true,
            version: information.version.unwrap().token_version(),
        };
        let token = stamp.new_registration_token(&request).await.unwrap().decode().unwrap();
        assert_eq!(token.cloud_id, Some(information.cloud_id), "{mechanism}");
        // Large enough to be cut into several Sends.
        let key = ActivationKey::new(&"k".repeat(300_000));
        let error = stamp.new_activation(&key).await.unwrap_err();
        assert_eq!(error.problem.code.id, "AZR2016", "{mechanism}: {error}");
        assert_eq!(error.class, Class::Permanent, "{mechanism}");
        stamp.close().await;
    }
}

#[tokio::test]
#[ignore = "needs Python packages: cargo xtask test"]
async fn its_refusals_are_understood() {
    let server = server();
    let code = |error: azsreg_pep::PepError| azsreg_operations::ports::PortError::from(error).problem.code.id;
    for mechanism in [Mechanism::Ntlm, Mechanism::Negotiate] {
        let mut wrong = options(&server, mechanism);
        wrong.credentials.password = "wrong".to_owned().into();
        assert_eq!(code(Session::open(&wrong).await.err().unwrap()), "AZR2002", "{mechanism}");
        let other = Options { configuration: "Microsoft.PowerShell".into(), ..options(&server, mechanism) };
        assert_eq!(code(Session::open(&other).await.err().unwrap()), "AZR2003", "{mechanism}");
    }
}
