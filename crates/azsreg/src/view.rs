//! Views of reports: for people and for programs. stdout is data, stderr is the rest.

use azsreg_model::{
    ActivationRecord, Outcome, Problem, RegisterReport, StampInformation, Status, StatusReport, StepReport, StepState,
};
use jiff::Timestamp;
use owo_colors::OwoColorize as _;
use serde::Serialize;
use serde_json::json;

use crate::Ended;
use crate::cli::Output;

/// Whether data could not be written: a full disk, mostly.
static LOST: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Whether data could not be written.
pub(crate) fn lost() -> bool {
    LOST.load(std::sync::atomic::Ordering::Relaxed)
}

/// A line of data. A reader that has gone (`| head`) is no failure of the command.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        if let Err(error) = writeln!(anstream::stdout(), $($text)*)
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            LOST.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }};
}

/// A line for the person.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stderr(), $($text)*);
    }};
}

/// The sentence that runbooks look for (`facts-protocol.md` section 8).
const REGISTERED: &str = "Your environment is now registered and activated using the provided parameters.";

/// How reports are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    output: Output,
}

impl View {
    pub(crate) fn new(output: Output) -> Self {
        Self { output }
    }

    pub(crate) fn is_json(self) -> bool {
        self.output == Output::Json
    }

    /// A line of data.
    pub(crate) fn line(self, text: &str) {
        say!("{text}");
    }

    /// A JSON document.
    pub(crate) fn json(self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        say!("{text}");
    }

    /// How a command ended, when not well.
    pub(crate) fn failure(self, ended: &Ended) {
        if self.is_json() {
            let problems: Vec<_> = ended
                .problems
                .iter()
                .map(|p| {
                    json!({"code": p.code.id, "title": p.code.title, "message": p.message, "cause": p.why(), "next": p.then(), "details": p.details})
                })
                .collect();
            self.json(
                &json!({"problems": problems, "step": ended.step, "steps": ended.steps, "exit": u8::from(ended.exit)}),
            );
            return;
        }
        for step in &ended.steps {
            tell!("{}", step_line(step));
        }
        if let Some(step) = ended.step {
            let interrupted = ended.problems.first().is_some_and(|p| p.code == &azsreg_model::code::INTERRUPTED);
            if interrupted {
                tell!("  {}   {step}", "stopped".yellow().bold());
            } else {
                tell!("  {}    {step}", "failed".red().bold());
            }
        }
        for problem in &ended.problems {
            tell!("{}", problem_text(problem));
        }
        if ended.exit == azsreg_model::ExitCode::CheckFailed {
            match ended.problems.len() {
                1 => tell!("Nothing was changed."),
                count => tell!("{count} checks failed. Nothing was changed."),
            }
        } else if ended.exit == azsreg_model::ExitCode::Resumable && ended.step.is_some() {
            tell!("What was done so far stays and is recorded: the same command goes on from here.");
        }
    }

    /// The report of `register`.
    pub(crate) fn register(self, report: &RegisterReport) {
        if self.is_json() {
            self.json(report);
            return;
        }
        let line = |text: String| say!("{text}");
        match report.outcome {
            Outcome::Planned => {
                let changes = report.plan.iter().filter(|step| step.changes).count();
                for step in &report.plan {
                    let mark = if step.changes { "would".yellow().to_string() } else { "no need".dimmed().to_string() };
                    let pad = if step.changes { "  " } else { "" };
                    line(format!("  {mark}{pad}   {:<18} {}", step.step, step.detail));
                }
                line(format!("Plan: {changes} of {} steps would run. Nothing was changed.", report.plan.len()));
            }
            Outcome::NothingToDo => {
                let unread = report.status.stamp.as_ref().ok().and_then(|stamp| stamp.unread.clone());
                line(match unread {
                    None => {
                        format!("Nothing to do: the stamp {} is registered and activated as asked.", report.cloud_id)
                    }
                    Some(why) => format!(
                        "Nothing to do: the stamp {} is registered as asked, and activated by this machine's journal; the record was not read: {why}.",
                        report.cloud_id
                    ),
                });
            }
            Outcome::Verified => {
                self.steps(&report.steps);
                line(format!("{}", REGISTERED.green().bold()));
            }
            Outcome::ActivatedUnread => {
                self.steps(&report.steps);
                line(format!("{}", REGISTERED.green().bold()));
                line("activated; the record was not read: no operator sign-in".into());
            }
        }
        line(String::new());
        self.sides(&report.status);
    }

    fn steps(self, steps: &[StepReport]) {
        for step in steps {
            say!("{}", step_line(step));
        }
    }

    /// Both sides.
    pub(crate) fn status(self, report: &StatusReport) {
        if self.is_json() {
            self.json(report);
            return;
        }
        let word = match report.status {
            Status::Registered => "Registered".green().bold().to_string(),
            Status::RegisteredInAzure => {
                format!(
                    "{} (the stamp's record was not read: no operator sign-in)",
                    "Registered in Azure".green().bold()
                )
            }
            Status::HalfRegistered => "Half registered".yellow().bold().to_string(),
            Status::Expired => "Expired".red().bold().to_string(),
            Status::NotRegistered => "Not registered".yellow().bold().to_string(),
            Status::Unknown => "Unknown".yellow().bold().to_string(),
        };
        say!("{word}");
        say!();
        self.sides(report);
        let next = match report.status {
            Status::HalfRegistered | Status::NotRegistered => Some("azsreg register"),
            _ => None,
        };
        if let Some(next) = next {
            say!();
            say!("next: {next}");
        }
    }

    fn sides(self, report: &StatusReport) {
        let row = |side: &str, name: &str, value: &str| say!("{side:<7}{name:<19}{value}");
        match &report.azure {
            Err(problem) => row("Azure", "not readable", &format!("{}: {}", problem.code.id, problem.message)),
            Ok(azure) => match &azure.registration {
                None => row("Azure", "registration", "none"),
                Some(registration) => {
                    row("Azure", "registration", &registration.id.name);
                    row("", "subscription", &registration.id.subscription.to_string());
                    row("", "resource group", &registration.id.resource_group);
                    row("", "cloud id", &registration.cloud_id.map_or("-".into(), |id| id.to_string()));
                    row("", "billing model", &registration.billing_model);
                    row("", "bridge principal", &registration.object_id.map_or("-".into(), |id| id.to_string()));
                    let lock =
                        azure.lock.as_ref().map_or("none".into(), |lock| format!("{} ({:?})", lock.name, lock.level));
                    row("", "lock", &lock);
                    let role = azure.role.as_ref().map_or("not assigned", |_| azsreg_model::REGISTRATION_OWNER_ROLE);
                    row("", "role", role);
                }
            },
        }
        match &report.stamp {
            Err(problem) => row("Stamp", "not readable", &format!("{}: {}", problem.code.id, problem.message)),
            Ok(stamp) => {
                row("Stamp", "cloud id", &stamp.information.cloud_id.to_string());
                row("", "build", &stamp.information.version.to_string());
                row("", "nodes", &stamp.information.nodes.to_string());
                match (&stamp.unread, &stamp.activation) {
                    (Some(why), _) => row("", "activation", &format!("not read: {why}")),
                    (None, None) => row("", "activation", "none"),
                    (None, Some(record)) => {
                        row("", "activated for", &record.registration.name);
                        row("", "expires", &expiry(record, report.at));
                        row("", "usage reporting", switch(record.usage_reporting));
                        row("", "marketplace", switch(record.marketplace));
                    }
                }
            }
        }
    }

    /// The stamp's information.
    pub(crate) fn stamp(self, stamp: &StampInformation) {
        if self.is_json() {
            self.json(stamp);
            return;
        }
        let row = |name: &str, value: &str| say!("{name:<24}{value}");
        let or = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        row("cloud id", &stamp.cloud_id.to_string());
        row("deployment id", &stamp.deployment_id.map_or("-".into(), |id| id.to_string()));
        row("build", &stamp.version.to_string());
        row("nodes", &stamp.nodes.to_string());
        row("identity system", &stamp.identity_system.to_string());
        row("tenant", &or(&stamp.tenant_id));
        row("tenant name", &or(&stamp.tenant_name));
        row("region", &or(&stamp.region));
        row("domain", &or(&stamp.domain));
        row("admin Resource Manager", &or(&stamp.admin_arm_endpoint));
        row("tenant Resource Manager", &or(&stamp.tenant_arm_endpoint));
    }
}

fn switch(on: Option<bool>) -> &'static str {
    match on {
        Some(true) => "on",
        Some(false) => "off",
        None => "-",
    }
}

fn expiry(record: &ActivationRecord, at: Timestamp) -> String {
    let end = record.expiration.as_ref().map(|expiration| expiration.at);
    match end {
        None => "-".into(),
        Some(end) if end.strftime("%Y").to_string().as_str() >= "9999" => "never".into(),
        Some(end) => {
            let days = end.duration_since(at).as_hours() / 24;
            format!("{} ({days} days left)", end.strftime("%Y-%m-%d"))
        }
    }
}

fn step_line(step: &StepReport) -> String {
    let word = match step.state {
        StepState::Done => format!("{}     ", "done".green()),
        StepState::AlreadyDone => format!("{}  ", "already".green()),
        StepState::NotNeeded => format!("{}  ", "no need".dimmed()),
    };
    format!("  {word} {:<18} {}", step.step, step.detail)
}

fn problem_text(problem: &Problem) -> String {
    let label = |word: &str| format!("{:>6}", format!("{word}:")).bold().to_string();
    let mut text = format!("{}: {}", format!("error[{}]", problem.code.id).red().bold(), problem.message);
    text.push_str(&format!("\n{} {}", label("why"), problem.why()));
    for detail in &problem.details {
        text.push_str(&format!("\n{} {detail}", label("note")));
    }
    text.push_str(&format!("\n{} {}", label("next"), problem.then()));
    text
}
