//! Runs trials: `cargo xtask simulate [--seed N] [--seeds M] [--pairs]`.

use azsreg_lab::Keys;

/// A trial of a seed.
type Live<'l> = &'l dyn Fn(u64) -> Result<azsreg_trial::Trial, azsreg_trial::Broken>;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let first = value("--seed").unwrap_or(1);
    let count = value("--seeds").unwrap_or(1);
    // Two operators at one stamp alone.
    let pairs = arguments.iter().any(|argument| argument == "--pairs");
    let keys = Keys::start();
    let trials: [(&str, Live<'_>); 4] = [
        ("two operators", &|seed| azsreg_trial::pair_trial(seed, &keys)),
        ("connected", &|seed| azsreg_trial::life_trial(seed, &keys)),
        ("disconnected", &|seed| azsreg_trial::offline_trial(seed, &keys)),
        ("usage", &|seed| azsreg_trial::usage_trial(seed)),
    ];
    for seed in first..first + count {
        for (name, trial) in &trials[..if pairs { 1 } else { trials.len() }] {
            let trial = trial(seed);
            match trial {
                Ok(trial) => say(&format!(
                    "seed {seed}, {name}: {} runs, {} killed, {} gave up, {:.0?} of virtual time",
                    trial.runs, trial.crashes, trial.failures, trial.took
                )),
                Err(broken) => {
                    say(&broken.to_string());
                    return std::process::ExitCode::FAILURE;
                }
            }
        }
    }
    std::process::ExitCode::SUCCESS
}

#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
}
