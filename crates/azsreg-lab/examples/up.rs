//! A lab until killed, for trying things out by hand.
use azsreg_lab::{Lab, LabOptions, StampOptions};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let old =
            StampOptions { name: "stamp2".into(), build: "1.1910.0.50".into(), nodes: 1, ..StampOptions::default() };
        let lab = Lab::start(LabOptions { stamps: vec![StampOptions::default(), old], ..LabOptions::default() })
            .await
            .unwrap();
        println!("{}", serde_json::to_string(lab.descriptor()).unwrap());
        std::future::pending::<()>().await;
    });
}
