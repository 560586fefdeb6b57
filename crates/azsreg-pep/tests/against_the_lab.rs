//! The client against the lab's privileged endpoint, over sockets.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;

use azsreg_lab::{Lab, LabOptions};
use azsreg_operations::ports::{Class, PortError, Stamp as _, TokenRequest};
use azsreg_pep::{Credentials, Mechanism, Options, PepAddress, PrivilegedEndpoint, Session};
use azsreg_psrp::messages::Command;

fn options(lab: &Lab, mechanism: Mechanism, password: Option<&str>) -> Options {
    let stamp = &lab.descriptor().stamps[0];
    let known = std::fs::read_to_string(&stamp.pep_password_file).unwrap();
    Options {
        addresses: stamp.pep.iter().map(|address| address.parse().unwrap()).collect(),
        credentials: Credentials {
            user: stamp.pep_user.clone(),
            password: password.unwrap_or(&known).to_owned().into(),
        },
        mechanism,
        configuration: "PrivilegedEndpoint".into(),
        connect_timeout: Duration::from_secs(5),
        authorities: azsreg_tls::Authorities::default(),
        transcript: None,
    }
}

fn failed(lab: &Lab) -> u64 {
    lab.world()["stamps"][0]["logons_failed"].as_u64().unwrap()
}

#[tokio::test]
async fn both_mechanisms_and_tls_reach_the_stamp() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    for mechanism in [Mechanism::Negotiate, Mechanism::Ntlm] {
        let endpoint = PrivilegedEndpoint::new(options(&lab, mechanism, None), Box::new(|_| {}));
        let stamp = endpoint.information().await.unwrap();
        assert_eq!(stamp.cloud_id, lab.descriptor().stamps[0].cloud_id);
        let request = TokenRequest {
            billing_model: azsreg_model::BillingModel::PayAsYouUse,
            agreement_number: None,
            ms_asset_tag: None,
            usage_reporting: true,
            marketplace: true,
            version: stamp.version.unwrap().token_version(),
        };
        let token = endpoint.new_registration_token(&request).await.unwrap();
        assert_eq!(token.decode().unwrap().cloud_id, Some(stamp.cloud_id));
        endpoint.close().await;
        let tls = Options {
            addresses: vec![format!("https://{}", lab.descriptor().stamps[0].pep_https).parse::<PepAddress>().unwrap()],
            authorities: azsreg_tls::Authorities::read(&std::fs::read(&lab.descriptor().ca_file).unwrap()).unwrap(),
            transcript: None,
            ..options(&lab, mechanism, None)
        };
        let endpoint = PrivilegedEndpoint::new(tls, Box::new(|_| {}));
        assert_eq!(endpoint.information().await.unwrap().nodes, Some(4));
        endpoint.close().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_nowhere_else() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    // Not with another mechanism, not by another object of this process, not with the addresses in another order.
    let known = options(&lab, Mechanism::Negotiate, Some("wrong"));
    let reversed = Options { addresses: known.addresses.iter().rev().cloned().collect(), ..known.clone() };
    for options in [known.clone(), reversed, options(&lab, Mechanism::Ntlm, Some("wrong"))] {
        let endpoint = PrivilegedEndpoint::new(options, Box::new(|_| {}));
        let error = endpoint.information().await.unwrap_err();
        assert_eq!((error.class, error.problem.code.id), (Class::Refused, "AZR2002"), "{error}");
        assert_eq!(failed(&lab), 1);
    }
    // Another password is another proof.
    for (tries, mechanism) in [(2, Mechanism::Negotiate), (3, Mechanism::Ntlm)] {
        let endpoint =
            PrivilegedEndpoint::new(options(&lab, mechanism, Some(&format!("wrong {tries}"))), Box::new(|_| {}));
        let error = endpoint.information().await.unwrap_err();
        assert_eq!((error.class, error.problem.code.id), (Class::Refused, "AZR2002"), "{error}");
        assert_eq!(failed(&lab), tries);
    }
    let endpoint = PrivilegedEndpoint::new(options(&lab, Mechanism::Negotiate, None), Box::new(|_| {}));
    endpoint.information().await.unwrap();
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let code = |error: azsreg_pep::PepError| PortError::from(error).problem.code.id;
    let open = async |options: Options| code(Session::open(&options).await.err().unwrap());
    let base = options(&lab, Mechanism::Negotiate, None);
    assert_eq!(open(Options { configuration: "Microsoft.PowerShell".into(), ..base.clone() }).await, "AZR2003");
    let https = format!("https://{}", lab.descriptor().stamps[0].pep_https).parse::<PepAddress>().unwrap();
    assert_eq!(open(Options { addresses: vec![https], ..base.clone() }).await, "AZR2004");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nowhere = Options { addresses: vec![closed.to_string().parse().unwrap()], ..base.clone() };
    assert_eq!(open(nowhere).await, "AZR2001");

    // One address is dead: the next one answers.
    let mut addresses = vec![closed.to_string().parse().unwrap()];
    addresses.extend(base.addresses.clone());
    let mut session = Session::open(&Options { addresses, ..base }).await.unwrap();
    let error = session.invoke(Command::new("Get-Process"), &|_| {}).await.unwrap_err();
    assert_eq!(code(error), "AZR2008");
    let command = Command::new("New-RegistrationToken").with("BillingModel", "Capacity");
    let error = session.invoke(command, &|_| {}).await.unwrap_err();
    assert_eq!(code(error), "AZR2011");
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_session_more_than_an_account_may_have_is_refused_and_told() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let known = options(&lab, Mechanism::Negotiate, None);
    let mut left = Vec::new();
    for _ in 0..azsreg_psrp::server::MAX_SHELLS {
        left.push(Session::open(&known).await.unwrap());
    }
    let told = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let news = std::rc::Rc::clone(&told);
    let endpoint = PrivilegedEndpoint::new(known, Box::new(move |news_of| news.borrow_mut().push(news_of)));
    let error = endpoint.information().await.unwrap_err();
    assert_eq!((error.class, error.problem.code.id), (Class::Busy, "AZR2039"), "{error}");
    assert!(told.borrow().iter().any(|news| news.waits && news.status.contains("no session left")), "{told:?}");
    // What was left behind is there still: none was ended to make room.
    left[0].invoke(Command::new("Get-Command"), &|_| {}).await.unwrap();
    left.pop().unwrap().close().await.unwrap();
    endpoint.information().await.unwrap();
}

/// Waits until a cmdlet is under way, then gives it up as ^C does.
async fn given_up<T>(lab: &Lab, work: impl Future<Output = T>) {
    let begun = async {
        while lab.shells(0) != (1, 1) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        _ = work => panic!("it ended"),
        () = begun => {}
    }
}

#[tokio::test]
async fn a_reading_cmdlet_that_is_given_up_is_stopped_and_a_changing_one_is_left() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    lab.fault(serde_json::json!({"when": {"plane": "pep"}, "then": {"delay": 600_000}})).unwrap();
    let endpoint = PrivilegedEndpoint::new(options(&lab, Mechanism::Negotiate, None), Box::new(|_| {}));
    given_up(&lab, endpoint.information()).await;
    let closed = endpoint.close().await;
    assert_eq!((closed.left, lab.shells(0)), (None, (0, 0)));

    let endpoint = PrivilegedEndpoint::new(options(&lab, Mechanism::Negotiate, None), Box::new(|_| {}));
    given_up(&lab, endpoint.set_registration_key_pair()).await;
    let closed = endpoint.close().await;
    assert_eq!((closed.left.as_deref(), lab.shells(0)), (Some("Set-RegistrationKeyPair"), (1, 1)));
}

#[tokio::test]
async fn a_command_that_has_ended_is_closed() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let endpoint = PrivilegedEndpoint::new(options(&lab, Mechanism::Negotiate, None), Box::new(|_| {}));
    for _ in 0..3 {
        endpoint.information().await.unwrap();
        // One that fails is closed, too.
        assert_eq!(endpoint.remove_activation().await.unwrap_err().problem.code.id, "AZR2029");
        assert_eq!(lab.shells(0), (1, 0));
    }
    endpoint.close().await;
    assert_eq!(lab.shells(0), (0, 0));
}

/// A relay to the lab's endpoint that lets connections go as WinRM does those that were idle for two minutes.
struct Relay {
    address: std::net::SocketAddr,
    lets_go: tokio::sync::watch::Sender<u32>,
}

impl Relay {
    /// With 400 and no body in answer to the next request, or by hanging up.
    async fn start(lab: &Lab, with_400: bool) -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lets_go, told) = tokio::sync::watch::channel(0);
        let endpoint = lab.descriptor().stamps[0].pep[0].clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (endpoint, mut told) = (endpoint.clone(), told.clone());
                told.mark_unchanged();
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(&endpoint).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                        _ = told.changed() => {}
                    }
                    let mut buffer = vec![0; 1 << 16];
                    while with_400 && client.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
                    }
                });
            }
        });
        Self { address, lets_go }
    }
}

#[tokio::test]
async fn an_idle_connection_that_was_let_go_is_opened_again_and_leaves_no_shell() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    for with_400 in [true, false] {
        let relay = Relay::start(&lab, with_400).await;
        let addresses = vec![relay.address.to_string().parse().unwrap()];
        let known = Options { addresses, ..options(&lab, Mechanism::Negotiate, None) };
        let endpoint = PrivilegedEndpoint::new(known, Box::new(|_| {}));
        let first = endpoint.information().await.unwrap();
        for _ in 0..3 {
            relay.lets_go.send_modify(|times| *times += 1);
            // A request that meets the hang-up on its way may have been taken: the engine asks again.
            let again = match endpoint.information().await {
                Err(error) if error.class == Class::Transient && !with_400 => endpoint.information().await,
                other => other,
            };
            assert_eq!(again.unwrap(), first);
            // It goes on in the shell that it had.
            assert_eq!(lab.shells(0), (1, 0));
        }
        relay.lets_go.send_modify(|times| *times += 1);
        endpoint.close().await;
        assert_eq!(lab.shells(0), (0, 0), "with 400: {with_400}");
    }
    assert_eq!(failed(&lab), 0);
}

#[tokio::test]
async fn a_hundred_sessions_find_their_connection() {
    let lab = Arc::new(Lab::start(LabOptions::default()).await.unwrap());
    for _ in 0..100 {
        let mut session = Session::open(&options(&lab, Mechanism::Negotiate, None)).await.unwrap();
        session.invoke(Command::new("Get-Command"), &|_| {}).await.unwrap();
        session.close().await.unwrap();
    }
}
