//! Views of reports: for people and for programs. stdout is data, stderr is the rest.

use azsreg_model::{
    ActivationRecord, ExitCode, Outcome, Problem, Report, StampInformation, Status, StatusReport, StepReport,
    StepState, days_of,
};
use azsreg_operations::prerequisites::{Prerequisite, Verdict};
use jiff::Timestamp;
use owo_colors::Style;
use serde::Serialize;
use serde_json::json;

use crate::Ended;
use crate::cli::Output;
use crate::door::{self, Line};
use crate::{document, fold, table};

/// Whether a list has begun on stdout that only its end makes a document.
static BEGUN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// A list begins: a failure is not written into it.
pub(crate) fn begin_rows() {
    BEGUN.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// A line of data.
macro_rules! say {
    ($($text:tt)*) => { Line::of(&format!($($text)*)).say() };
}

/// A line that a program reads: it is never folded.
macro_rules! whole {
    ($($text:tt)*) => { Line::of(&format!($($text)*)).say_whole() };
}

/// A line for the person.
macro_rules! tell {
    ($($text:tt)*) => { Line::of(&format!($($text)*)).tell() };
}

/// The sentences that runbooks look for (`facts-protocol.md` section 8), by operation.
fn sentence(report: &Report) -> &'static str {
    let untouched = |step: &&StepReport| step.step == "deactivation" && step.state == StepState::NotNeeded;
    match report.operation {
        // The stamp was not asked, or is activated for another registration and stays so.
        "unregister" if report.steps.iter().any(|step| untouched(&step)) || report.status.is_none() => {
            "The registration is removed from Azure. The stamp was left as it is."
        }
        "unregister" => "Your environment is now unable to syndicate items and is no longer reporting usage data",
        "alerts-close" => "The alerts are closed. What is still wrong is still wrong: azsreg status",
        "customer-add" => "The tenant's usage is shown under the customer's subscription from now on.",
        "customer-remove" => "The tenant's usage is shown under the registration's own subscription from now on.",
        "marketplace-add" if report.steps.iter().all(|step| step.step != "wait") => {
            "The stamp is downloading the items; azsreg marketplace downloaded shows when they are there."
        }
        "marketplace-add" => "The items are on the stamp.",
        "marketplace-remove" => "The items are removed from the stamp.",
        "marketplace-download" => "The items are downloaded.",
        "marketplace-import" => "Import marketplace product finished",
        "move" => "The registration is moved, locked, and known to the stamp under its new id.",
        "repair" if report.steps.iter().any(|step| step.step == "role" && step.state == StepState::NotNeeded) => {
            "The registration is locked, and the stamp activated for it."
        }
        "repair" => "The registration is locked, its role assigned, and the stamp activated for it.",
        "adopt" => "What is registered is read and kept. Nothing was changed.",
        "offline-token" => "The registration token is collected.",
        "offline-register" | "offline-renew-register" => "Your Azure Stack environment is now registered with Azure.",
        "offline-activate" | "offline-renew-finish" => {
            "Your environment has finished the registration and activation process."
        }
        "offline-deactivate" => "Successfully de-activated Azure Stack",
        "offline-renew-start" => "The new registration token is collected.",
        "offline-unregister" => "Your Azure Stack environment is now unregistered from Azure.",
        _ => "Your environment is now registered and activated using the provided parameters.",
    }
}

/// Why nothing was left to do.
fn nothing(report: &Report) -> String {
    let unread = report.status.as_ref().and_then(|status| status.stamp.as_ref().ok()?.unread.clone());
    let stamp = report.cloud_id;
    match (report.operation, unread) {
        ("unregister" | "offline-unregister", _) => format!("Nothing to do: the stamp {stamp} is not registered."),
        ("marketplace-add" | "marketplace-import", _) => {
            let going = report.steps.iter().any(|step| step.detail.ends_with("downloading"));
            let how = if going { "is bringing" } else { "has" };
            format!("Nothing to do: the stamp {how} the items.")
        }
        ("alerts-close", _) => "Nothing to do: the alerts are closed.".into(),
        ("customer-remove", _) => "Nothing to do: the subscription pays for no tenant of this stamp.".into(),
        ("customer-add", _) => "Nothing to do: the tenant's usage is shown there already.".into(),
        ("marketplace-remove", _) => "Nothing to do: the stamp does not have the items.".into(),
        ("marketplace-download", _) => "Nothing to do: the items are in the folder, whole.".into(),
        ("move", _) => format!("Nothing to do: the registration of the stamp {stamp} is there already."),
        ("repair", _) => {
            format!("Nothing to do: lock, role and activation of the stamp {stamp} are as they should be.")
        }
        (_, None) => format!("Nothing to do: the stamp {stamp} is registered and activated as asked."),
        (_, Some(why)) => format!(
            "Nothing to do: the stamp {stamp} is registered as asked, and activated by this machine's journal; the record was not read: {why}."
        ),
    }
}

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

    /// A line of data that a shell reads.
    pub(crate) fn whole(self, text: &str) {
        whole!("{text}");
    }

    /// A line for the person, beside the data.
    pub(crate) fn note(text: &str) {
        tell!("Note: {text}");
    }

    /// A line for the person, as it is.
    pub(crate) fn person(text: &str) {
        tell!("{text}");
    }

    /// The document of a command that ended well.
    pub(crate) fn json(self, value: &impl Serialize) {
        self.document(value, ExitCode::Done, &[]);
    }

    /// The document of a command that ends so, and why.
    pub(crate) fn document(self, value: &impl Serialize, exit: ExitCode, problems: &[Problem]) {
        door::say_json(&document::of(value, Some(exit), problems));
    }

    /// The document of a command that goes on.
    pub(crate) fn begun(self, value: &impl Serialize) {
        door::say_json(&document::of(value, None, &[]));
    }

    /// A document of Azure's own form, for its own tools.
    pub(crate) fn definition(value: &impl Serialize) {
        door::say_json(value);
    }

    /// Rows under titles.
    pub(crate) fn table(self, titles: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        table::lines(titles, rows, fold::stdout()).iter().for_each(|line| say!("{line}"));
    }

    /// How a command ended, when not well.
    pub(crate) fn failure(self, ended: &Ended) {
        if self.is_json() {
            let went = json!({"step": ended.step, "steps": ended.steps});
            let document = document::of(&went, Some(ended.exit), &ended.problems);
            if BEGUN.load(std::sync::atomic::Ordering::Relaxed) {
                door::tell_json(&document);
            } else {
                door::say_json(&document);
            }
            return;
        }
        // Those that were told as they ended are not told again.
        for step in ended.steps.iter().skip(crate::watch::told()) {
            step_line(step).tell();
        }
        if let Some(step) = ended.step {
            let interrupted = ended.problems.first().is_some_and(|p| p.code == &azsreg_model::code::INTERRUPTED);
            if interrupted {
                Line::of("  ").painted("stopped", yellow().bold()).then(&format!("   {step}")).tell();
            } else {
                Line::of("  ").painted("failed", red().bold()).then(&format!("    {step}")).tell();
            }
        }
        for problem in &ended.problems {
            problem_lines(problem).iter().for_each(Line::tell);
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

    /// The report of an operation, and the exit code that it means.
    pub(crate) fn report(self, report: &Report) -> ExitCode {
        let exit = match report.outcome {
            Outcome::Planned if report.plan.iter().any(|step| step.changes) => ExitCode::ChangesPlanned,
            Outcome::StampLeft => ExitCode::Resumable,
            _ => ExitCode::Done,
        };
        if self.is_json() {
            // What is left to do is why it has not ended well.
            let left = if exit == ExitCode::Resumable { report.warnings.as_slice() } else { &[] };
            self.document(report, exit, left);
            return exit;
        }
        let line = |text: String| say!("{text}");
        let sentence = |report| Line::default().painted(sentence(report), green().bold()).say();
        match report.outcome {
            Outcome::Planned => {
                let changes = report.plan.iter().filter(|step| step.changes).count();
                for step in &report.plan {
                    let (mark, pad, style) =
                        if step.changes { ("would", "  ", yellow()) } else { ("no need", "", dimmed()) };
                    let rest = format!("{pad}   {:<18} {}", step.step, step.detail);
                    Line::of("  ").painted(mark, style).then(&rest).say();
                }
                for item in &report.lost {
                    Line::of("  ").painted("lost", red()).then(&format!("     {item}")).say();
                }
                line(format!("Plan: {changes} of {} steps would run. Nothing was changed.", report.plan.len()));
            }
            Outcome::NothingToDo => line(nothing(report)),
            Outcome::Verified | Outcome::Done => {
                self.steps(&report.steps);
                sentence(report);
            }
            Outcome::ActivatedUnread => {
                self.steps(&report.steps);
                sentence(report);
                line("activated; the record was not read: no operator sign-in".into());
            }
            Outcome::StampLeft => {
                self.steps(&report.steps);
                line("Azure's part is done. The stamp could not be reached: its activation is left.".into());
                let subscription =
                    report.registration.as_ref().map(|id| id.subscription.to_string()).unwrap_or_default();
                line(format!(
                    "Next, from a machine that reaches the stamp: azsreg repair --subscription {subscription}"
                ));
            }
        }
        if let Some(status) = &report.status {
            line(String::new());
            self.sides(status);
        }
        exit
    }

    fn steps(self, steps: &[StepReport]) {
        for step in steps {
            step_line(step).say();
        }
    }

    /// Both sides, and the exit code that they mean.
    pub(crate) fn status(self, report: &StatusReport, exit: ExitCode) {
        if self.is_json() {
            let problems = if exit == ExitCode::Done { Vec::new() } else { report.problems() };
            self.document(report, exit, &problems);
            return;
        }
        let (style, rest) = match report.status {
            Status::Registered => (green(), String::new()),
            Status::RegisteredInAzure => (green(), " (the stamp's record was not read)".into()),
            Status::ActivatedOnStamp => (green(), " (Azure was not read)".into()),
            Status::Expiring => (yellow(), format!(": {} left", days_of(report.days_left.unwrap_or_default()))),
            Status::Expired => (red(), String::new()),
            Status::InProgress
            | Status::HalfRegistered
            | Status::Mismatch
            | Status::NotRegistered
            | Status::Unknown => (yellow(), String::new()),
        };
        Line::default().painted(report.status.title(), style.bold()).then(&rest).say();
        for finding in &report.findings {
            say!("  {}: {}", finding.code.id, finding.message);
            say!("    next: {}", finding.then());
        }
        Line::default().say();
        self.sides(report);
    }

    /// Metrics for a textfile collector (the Prometheus text format).
    pub(crate) fn prometheus(self, report: &StatusReport) {
        let azure = report.azure.as_ref().ok();
        let registration = azure.and_then(|azure| azure.registration.as_ref());
        let stamp = report.stamp.as_ref().ok();
        let cloud_id = stamp
            .map(|stamp| stamp.information.cloud_id)
            .or_else(|| registration.and_then(|registration| registration.cloud_id))
            .map(|id| id.to_string())
            .unwrap_or_default();
        let name = door::label(registration.map(|r| r.id.name.as_str()).unwrap_or_default());
        let labels = format!("cloud_id=\"{cloud_id}\",registration={name}");
        let gauge = |metric: &str, help: &str| {
            whole!("# HELP {metric} {help}");
            whole!("# TYPE {metric} gauge");
        };
        gauge("azsreg_status", "1 for the word that status shows, 0 for the others.");
        for status in Status::ALL {
            let word = serde_json::to_value(status).unwrap_or_default();
            let value = u8::from(report.status == status);
            whole!("azsreg_status{{{labels},status=\"{}\"}} {value}", word.as_str().unwrap_or_default());
        }
        if let Some(days) = report.days_left {
            gauge("azsreg_expires_in_days", "Whole days until the registration expires, negative when it has.");
            whole!("azsreg_expires_in_days{{{labels}}} {days}");
        }
        gauge("azsreg_findings", "How many things are wrong, by code.");
        for finding in &report.findings {
            whole!("azsreg_findings{{{labels},code=\"{}\"}} 1", finding.code.id);
        }
        gauge("azsreg_side_readable", "Whether a side could be read.");
        whole!("azsreg_side_readable{{{labels},side=\"azure\"}} {}", u8::from(azure.is_some()));
        whole!("azsreg_side_readable{{{labels},side=\"stamp\"}} {}", u8::from(stamp.is_some()));
        if let Some(azure) = azure.filter(|azure| azure.registration.is_some()) {
            gauge("azsreg_locked", "Whether the registration is locked.");
            whole!("azsreg_locked{{{labels}}} {}", u8::from(azure.lock.is_some()));
            gauge("azsreg_role_assigned", "Whether the stamp's principal has its role.");
            whole!("azsreg_role_assigned{{{labels}}} {}", u8::from(azure.role.is_some()));
        }
        if let Some(nodes) = stamp.and_then(|stamp| stamp.information.nodes) {
            gauge("azsreg_nodes", "How many nodes the stamp has.");
            whole!("azsreg_nodes{{{labels}}} {nodes}");
        }
        gauge("azsreg_looked_at_seconds", "When both sides were looked at, as Unix time.");
        whole!("azsreg_looked_at_seconds{{{labels}}} {}", report.at.as_second());
    }

    /// Every prerequisite.
    pub(crate) fn prerequisites(self, list: &[Prerequisite]) {
        prerequisite_lines(list, fold::stdout().is_some()).iter().for_each(Line::say);
    }

    fn sides(self, report: &StatusReport) {
        let row = |side: &str, name: &str, value: &str| say!("{side:<7}{name:<19}{value}");
        match &report.azure {
            Err(problem) => {
                row("Azure", "not readable", &format!("{}: {}", problem.code.id, problem.message));
                row("", "next", problem.then());
            }
            Ok(azure) if azure.not_asked => row("Azure", "not asked", "this machine is at the stamp"),
            Ok(azure) => match &azure.registration {
                None => row("Azure", "registration", "none"),
                Some(registration) => {
                    row("Azure", "registration", &registration.id.name);
                    row("", "subscription", &registration.id.subscription.to_string());
                    row("", "resource group", &registration.id.resource_group);
                    row("", "cloud id", &registration.cloud_id.map_or("-".into(), |id| id.to_string()));
                    row("", "billing model", &registration.billing_model);
                    if let Some(end) = azure.expires {
                        row("", "expires", &until(end, report.at));
                    } else if azure.key_unread {
                        row("", "expires", "not known");
                    }
                    if let Some(hosts) = azure.hosts {
                        row("", "hosts registered", &hosts.to_string());
                    }
                    let principal = registration.object_id.map_or("-".into(), |id| id.to_string());
                    let gone = if azure.principal == Some(false) { " (does not exist)" } else { "" };
                    row("", "bridge principal", &format!("{principal}{gone}"));
                    let lock =
                        azure.lock.as_ref().map_or("none".into(), |lock| format!("{} ({:?})", lock.name, lock.level));
                    row("", "lock", &lock);
                    let role = match (&azure.role, registration.object_id) {
                        (Some(_), _) => azsreg_model::REGISTRATION_OWNER_ROLE,
                        (None, Some(_)) => "not assigned",
                        (None, None) => "not needed (the stamp has no principal)",
                    };
                    row("", "role", role);
                }
            },
        }
        match &report.stamp {
            Err(problem) => {
                row("Stamp", "not readable", &format!("{}: {}", problem.code.id, problem.message));
                row("", "next", problem.then());
            }
            Ok(stamp) => {
                row("Stamp", "cloud id", &stamp.information.cloud_id.to_string());
                row("", "build", &stamp.information.build());
                row("", "nodes", &nodes(&stamp.information));
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
        row("build", &stamp.build());
        row("nodes", &nodes(stamp));
        row("identity system", &stamp.identity_system.to_string());
        row("tenant", &or(&stamp.tenant_id));
        row("tenant name", &or(&stamp.tenant_name));
        row("region", &or(&stamp.region));
        row("domain", &or(&stamp.domain));
        row("admin Resource Manager", &or(&stamp.admin_arm_endpoint));
        row("tenant Resource Manager", &or(&stamp.tenant_arm_endpoint));
    }
}

fn nodes(stamp: &StampInformation) -> String {
    stamp.nodes.map_or("not known".into(), |nodes| nodes.to_string())
}

/// What failed comes last, beside the summary. On a terminal what may be done is one line, so that a screen holds it all.
fn prerequisite_lines(list: &[Prerequisite], terminal: bool) -> Vec<Line> {
    let is_action = |one: &&Prerequisite| one.verdict == Verdict::Ok && one.name.contains('/');
    let actions = list.iter().filter(is_action).count();
    let together = terminal && actions > 1;
    let mut ranked: Vec<&Prerequisite> = list.iter().filter(|one| !together || !is_action(one)).collect();
    ranked.sort_by_key(|one| match one.verdict {
        Verdict::Ok => 0,
        Verdict::NotKnown => 1,
        Verdict::Warning => 2,
        Verdict::Failed => 3,
    });
    let mut lines = Vec::new();
    if together {
        let text = format!("       permissions: {actions} actions allowed");
        lines.push(Line::of("  ").painted("ok", green()).then(&text));
    }
    for one in ranked {
        let (word, pad, style) = match one.verdict {
            Verdict::Ok => ("ok", "     ", green()),
            Verdict::Warning => ("warning", "", yellow()),
            Verdict::Failed => ("failed", " ", red().bold()),
            Verdict::NotKnown => ("unknown", "", dimmed()),
        };
        lines.push(Line::of("  ").painted(word, style).then(&format!("{pad}  {}: {}", one.name, one.detail)));
        if let Some(problem) = &one.problem {
            lines.push(Line::of(&format!("           {} {}", problem.code.id, problem.then())));
        }
    }
    lines
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
        Some(end) => until(end, at),
    }
}

/// A day and how far it is; the last year of the calendar stands for always.
fn until(end: Timestamp, at: Timestamp) -> String {
    if azsreg_model::finite(end).is_none() {
        return "never".into();
    }
    let days = end.duration_since(at).as_secs() / 86_400;
    let far = if end <= at { format!("{} ago", days_of(-days)) } else { format!("{} left", days_of(days)) };
    format!("{} ({far})", end.strftime("%Y-%m-%d"))
}

/// How a step ended.
pub(crate) fn step_line(step: &StepReport) -> Line {
    let (word, pad, style) = match step.state {
        StepState::Done => ("done", "     ", green()),
        StepState::AlreadyDone => ("already", "  ", green()),
        StepState::NotNeeded => ("no need", "  ", dimmed()),
    };
    Line::of("  ").painted(word, style).then(&format!("{pad} {:<18} {}", step.step, step.detail))
}

fn green() -> Style {
    Style::new().green()
}

fn yellow() -> Style {
    Style::new().yellow()
}

fn red() -> Style {
    Style::new().red()
}

fn dimmed() -> Style {
    Style::new().dimmed()
}

fn problem_lines(problem: &Problem) -> Vec<Line> {
    let line = |word: &str, text: &str| {
        let pad = " ".repeat(5usize.saturating_sub(word.len()));
        Line::of(&pad).painted(&format!("{word}:"), Style::new().bold()).then(&format!(" {text}"))
    };
    let head = Line::default().painted(&format!("error[{}]", problem.code.id), red().bold());
    let mut lines = vec![head.then(&format!(": {}", problem.message)), line("why", problem.why())];
    lines.extend(problem.details.iter().map(|detail| line("note", detail)));
    lines.push(line("next", problem.then()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{GUID, assert_fits, on_a_terminal};
    use azsreg_model::code;

    #[test]
    fn an_error_and_a_step_fit() {
        let message = format!("the sign-in does not see the subscription {GUID}; it sees {GUID} (azsreg lab)");
        let command = format!("azsreg register --subscription {GUID} --billing-model pay-as-you-use --plan");
        let mut problem = Problem::new(&code::SUBSCRIPTION_NOT_VISIBLE, message).next(command);
        problem.details = vec![format!("the account is operator@example.com of the tenant {GUID}")];
        let detail = format!("AzureStack-{GUID} for the stamp {GUID}");
        let step = StepReport { step: "service-principal", state: StepState::Done, detail };
        for width in [44, 80, 120] {
            let lines: Vec<String> = problem_lines(&problem).iter().map(|line| line.as_str().to_owned()).collect();
            let text = on_a_terminal(&lines, width);
            assert_fits(&text, width, 4);
            let hung = text.lines().skip_while(|row| !row.contains("why")).filter(|row| !row.contains("\u{1b}"));
            assert!(hung.into_iter().all(|row| row.starts_with("       ") || width == 44), "{text}");
            assert_fits(&on_a_terminal(&[step_line(&step).as_str()], width), width, 2);
        }
    }

    #[test]
    fn what_failed_stands_last_and_thirty_rows_hold_it_all() {
        let one = |name: &str, verdict, problem: Option<Problem>| Prerequisite {
            name: name.to_owned(),
            verdict,
            detail: format!("what was seen of {GUID}, said in as many words as most of them need"),
            problem,
        };
        let failed = Problem::new(&code::FORBIDDEN, "the caller lacks an action");
        let mut list = vec![
            one("subscription", Verdict::Failed, Some(failed.clone())),
            one("Azure AD Graph", Verdict::Warning, Some(failed)),
            one("name", Verdict::NotKnown, None),
            one("clock", Verdict::Ok, None),
            one("location", Verdict::Ok, None),
        ];
        list.extend((0..15).map(|at| one(&format!("Microsoft.AzureStack/registrations/{at}"), Verdict::Ok, None)));
        let plain = |terminal| {
            let lines = prerequisite_lines(&list, terminal);
            lines.iter().map(|line| anstream::adapter::strip_str(line.as_str()).to_string()).collect::<Vec<_>>()
        };
        for width in [44, 80, 120] {
            let text = on_a_terminal(&plain(true), width);
            assert_fits(&text, width, 5);
            assert!(text.contains("permissions: 15 actions allowed") && !text.contains("/registrations/"), "{text}");
            assert!(text.lines().count() <= 30, "{text}");
            let failure = text.lines().skip_while(|row| !row.contains("failed ")).count();
            assert!((2..=10).contains(&failure), "{text}");
        }
        let verdicts = |terminal| {
            let lines = plain(terminal).into_iter().filter(|line| !line.starts_with("    "));
            lines.map(|line| line.split_whitespace().next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(true), ["ok", "ok", "ok", "unknown", "warning", "failed"]);
        let file = verdicts(false);
        assert_eq!((file.len(), file.last().map(String::as_str)), (20, Some("failed")), "in a file each has its line");
    }
}
