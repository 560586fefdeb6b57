//! The command. Everything is in the library, so that tests can reach it.

fn main() -> std::process::ExitCode {
    azsreg::run(std::env::args_os())
}
