//! The lab against clients that we did not write: pypsrp for the privileged endpoint, the Azure SDKs for Azure.
//!
//! They need Python packages that `cargo xtask test` installs under `target/`; a plain `cargo test` leaves them out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::Command;

use azsreg_lab::{Lab, LabOptions, StampOptions};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn python() -> PathBuf {
    let path = std::env::var_os("AZSREG_PYTHON").map(PathBuf::from);
    path.unwrap_or_else(|| root().join("target/peers/bin/python"))
}

/// Runs a script of `tests/peers` against a fresh lab: a modern stamp, one of an old build with one node, one with AD FS.
fn run(script: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let old = StampOptions { name: "stamp2".into(), build: "1.1910.0.50".into(), nodes: 1, ..StampOptions::default() };
    let adfs = StampOptions { name: "stamp3".into(), identity: "adfs".into(), ..StampOptions::default() };
    let options = LabOptions {
        stamps: vec![StampOptions::default(), old, adfs],
        // Long enough for the SDK's pollers to see that a move goes on.
        move_takes: jiff::SignedDuration::from_millis(1_500),
        ..LabOptions::default()
    };
    let lab = runtime.block_on(Lab::start(options)).unwrap();
    let told = serde_json::to_string(lab.descriptor()).unwrap();
    let task = std::thread::spawn({
        let path = root().join("tests/peers").join(script);
        move || {
            Command::new(python())
                .env("AZSREG_LAB", told)
                .env("NO_PROXY", "127.0.0.1,localhost")
                .arg("-B")
                .arg(path)
                .arg("-v")
                .output()
                .expect("Python runs: cargo xtask test installs it")
        }
    });
    while !task.is_finished() {
        runtime.block_on(async { tokio::time::sleep(std::time::Duration::from_millis(5)).await });
    }
    let output = task.join().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{script} failed");
    assert!(text.contains("\nOK"), "{script} did not say that its tests passed");
}

#[test]
#[ignore = "needs Python packages: cargo xtask test"]
fn pypsrp_calls_every_cmdlet_and_is_refused_where_it_must_be() {
    run("test_pep.py");
}

#[test]
#[ignore = "needs Python packages: cargo xtask test"]
fn the_azure_sdks_register_lock_and_clean_up() {
    run("test_azure.py");
}

#[test]
#[ignore = "needs Python packages: cargo xtask test"]
fn the_sdks_live_through_roles_moves_expiry_and_ad_fs() {
    run("test_life.py");
}

#[test]
#[ignore = "needs Python packages: cargo xtask test"]
fn the_sdks_list_products_and_move_blobs() {
    run("test_marketplace.py");
}

#[test]
#[ignore = "needs Python packages: cargo xtask test"]
fn the_commerce_sdk_sees_what_the_stamp_recorded() {
    run("test_usage.py");
}
