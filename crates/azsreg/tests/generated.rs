//! The generated references are as the code is: run with `AZSREG_GENERATE=1` (`cargo xtask generate`) to write them anew.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use azsreg_model::refusals::{Plane, REFUSALS};
use azsreg_model::{ExitCode, code};

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("AZSREG_GENERATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/reference/{name} is stale: run cargo xtask generate");
}

#[test]
fn errors() {
    let mut text = String::from(
        "# Errors\n\nGenerated from the code. `azsreg explain CODE` prints the same.\n\nThe exit code is that of the table unless a step had begun: then it is 6, and the same command resumes.\n",
    );
    let groups = [
        ('1', "The command line"),
        ('2', "The privileged endpoint and the stamp"),
        ('3', "Signing in"),
        ('4', "Azure"),
        ('5', "This machine and carried files"),
        ('6', "The state of a registration"),
        ('7', "Checks"),
        ('8', "The lab"),
        ('9', "What only the PowerShell module says (`azsreg explain --from-log`)"),
    ];
    for (digit, title) in groups {
        let _ = write!(text, "\n## {title}\n");
        for code in code::ALL.iter().filter(|code| code.id.chars().nth(3) == Some(digit)) {
            let exit = u8::from(code.exit);
            let _ = write!(
                text,
                "\n### {}: {}\n\n- **Why:** {}\n- **Next:** {}\n- **Exit code:** {exit}\n",
                code.id, code.title, code.cause, code.next
            );
        }
    }
    check("errors.md", &text);
}

#[test]
fn refusals() {
    let mut text = String::from(
        "# Refusals\n\nGenerated from the code. What Azure, the directory, the stamp and the PowerShell module say, and what that means. The commands\nand `azsreg explain --from-log` use the same table; the first row that fits decides. `…` is between parts that follow each other.\n\n\
         wait: it ends by itself, and is waited for. again: a few more tries. ask: the sign-in needs something of a person. refuse: it would\nfail again.\n",
    );
    let planes = [
        (Plane::Directory, "The directory (Microsoft Entra ID)"),
        (Plane::Azure, "Azure"),
        (Plane::Stamp, "The stamp and its privileged endpoint"),
        (Plane::Module, "The PowerShell module"),
    ];
    let shown = |one: &str| match one.strip_prefix('=') {
        Some(code) => format!("`{code}` (an answer's code alone)"),
        None => format!("`{one}`"),
    };
    for (plane, title) in planes {
        let _ =
            write!(text, "\n## {title}\n\n| said | code | class | who can mend it | next |\n|---|---|---|---|---|\n");
        for row in REFUSALS.iter().filter(|row| row.plane == plane) {
            let said: Vec<String> = row.said.split('|').map(shown).collect();
            let class = format!("{:?}", row.class).to_lowercase();
            let (code, who) = (row.code.id, row.who.words());
            let _ = writeln!(text, "| {} | {code} | {class} | {who} | {} |", said.join(", "), row.next());
        }
    }
    check("refusals.md", &text);
}

#[test]
fn exit_codes() {
    let rows = [
        (ExitCode::Done, "Done, or nothing to do."),
        (ExitCode::Failed, "Failed. The code says why and what to run."),
        (ExitCode::Usage, "Refused from the arguments alone: nothing was asked of anybody."),
        (ExitCode::NotRegistered, "Not registered, half registered, or not found."),
        (ExitCode::ChangesPlanned, "`--plan` found something to do."),
        (ExitCode::Locked, "Another operation on this stamp is running on this machine."),
        (
            ExitCode::Resumable,
            "Interrupted half-way: the same command resumes; or Azure's part is done and one command is left.",
        ),
        (ExitCode::CheckFailed, "Refused after looking: nothing was changed."),
        (ExitCode::Expiring, "Expired, or expiring soon (`status --check`)."),
        (ExitCode::Interrupted, "Interrupted before anything was changed."),
    ];
    let mut text = String::from("# Exit codes\n\nGenerated from the code.\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in rows {
        let _ = writeln!(text, "| {} | {meaning} |", u8::from(code));
    }
    check("exit-codes.md", &text);
}

#[test]
fn commands() {
    check("commands.md", &azsreg::commands_reference());
}
