//! Opens a session, runs one cmdlet and closes, again and again: prints the milliseconds of each. For the bench.
//!
//! `roundtrip ADDRESS USER PASSWORD_FILE COUNT`

use std::time::{Duration, Instant};

use azsreg_pep::{Credentials, Mechanism, Options, Session};
use azsreg_psrp::messages::Command;

#[allow(clippy::print_stdout, clippy::unwrap_used)]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, password, count] = &arguments[..] else { panic!("roundtrip ADDRESS USER PASSWORD_FILE COUNT") };
    let options = Options {
        addresses: vec![address.parse().unwrap()],
        credentials: Credentials {
            user: user.clone(),
            password: std::fs::read_to_string(password).unwrap().trim().to_owned().into(),
        },
        mechanism: Mechanism::Ntlm,
        configuration: "PrivilegedEndpoint".into(),
        connect_timeout: Duration::from_secs(10),
        authorities: azsreg_tls::Authorities::default(),
        transcript: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..count.parse().unwrap() {
            let begun = Instant::now();
            let mut session = Session::open(&options).await.unwrap();
            session.invoke(Command::new("Get-AzureStackStampInformation"), &|_| {}).await.unwrap();
            session.close().await.unwrap();
            println!("{:.3}", begun.elapsed().as_secs_f64() * 1000.0);
        }
    });
}
