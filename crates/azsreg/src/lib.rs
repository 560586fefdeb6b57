//! The command `azsreg`: arguments in, one operation, one view out.
//!
//! Nothing else knows a terminal. Arguments become a request of the model, the operation reports in the model's words, and
//! a view (human or JSON) shows the report. What a command prints on stdout is data, the rest goes to stderr.

mod advice;
mod ask;
mod cli;
mod clock;
mod commands;
mod document;
mod door;
mod fold;
mod interrupt;
mod machine;
mod misplaced;
mod rows;
mod secrets;
mod stamps;
mod state;
mod table;
mod view;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode as Code;

use azsreg_model::{BillingModel, ExitCode, Problem, code};
use azsreg_operations::files;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use cli::{Cli, Command};
use view::View;

/// What a command ended with, when not well.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) problems: Vec<Problem>,
    pub(crate) exit: ExitCode,
    pub(crate) step: Option<&'static str>,
    pub(crate) steps: Vec<azsreg_model::StepReport>,
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self { exit: problem.code.exit, problems: vec![problem], step: None, steps: Vec::new() }
    }
}

impl From<azsreg_operations::Failure> for Ended {
    fn from(failure: azsreg_operations::Failure) -> Self {
        Self { problems: failure.problems, exit: failure.exit, step: failure.step, steps: failure.steps }
    }
}

impl From<azsreg_operations::ports::PortError> for Ended {
    fn from(error: azsreg_operations::ports::PortError) -> Self {
        (*error.problem).into()
    }
}

/// Runs the command with these arguments.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Code {
    let given: Vec<OsString> = arguments.into_iter().collect();
    misplaced::look(&given);
    let stamps::Line { arguments, way } = match stamps::at(given.clone()) {
        Ok(line) => line,
        Err(problem) => return refused(problem, &given),
    };
    let matches = match without_empty(Cli::command()).try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return usage(&error, &arguments),
    };
    let secrets = secrets::Sources::of(&matches).at(way);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let view = View::new(cli.global.output);
    let ended = watch::start_log(&cli.global).map_err(Ended::from).and_then(|()| dispatch(&cli, &view, &secrets));
    let exit = match ended {
        Ok(exit) => exit,
        Err(mut ended) => {
            watch::end();
            ended.problems.iter_mut().for_each(without_descriptors);
            if secrets.way().is_some() {
                let (advice, subscription) = (advice::Advice::of(&secrets), secrets.subscription());
                ended.problems.iter_mut().for_each(|problem| advice.about(problem, secrets.way(), subscription));
            }
            ended.problems.iter_mut().for_each(misplaced::shorten);
            for problem in &ended.problems {
                tracing::error!(code = problem.code.id, step = ended.step, details = ?problem.details, "{}", problem.message);
            }
            view.failure(&ended);
            ended.exit
        }
    };
    let exit = match door::lost() {
        Some(lost) => unwritten(&lost, exit, only_shows(&cli.command)),
        None => exit,
    };
    Code::from(u8::from(exit))
}

/// An empty variable counts as not set.
pub(crate) fn without_empty(command: clap::Command) -> clap::Command {
    let empty =
        |arg: &clap::Arg| arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|v| v.is_empty()));
    command
        .mut_args(|arg| if empty(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty)
}

/// So many files and sockets a command opens at a time, roughly: the runtime's, those of both sides, the lock and the journal;
/// those of a simulated world in the same process beside them.
fn descriptors(command: &Command) -> usize {
    match command {
        Command::Lab(cli::LabCommand::Up(options)) => 96 + 16 * usize::from(options.stamps).max(options.stamp.len()),
        Command::Lab(cli::LabCommand::Compare(_)) | Command::Rehearse(_) => 96,
        Command::Status(options) if options.web => 96,
        _ => 32,
    }
}

/// A way that can't be opened because nothing can be opened any more is no way that is closed.
fn without_descriptors(problem: &mut Problem) {
    if files::says_no_descriptors(&problem.message) {
        let message = std::mem::take(&mut problem.message);
        let details = std::mem::take(&mut problem.details);
        *problem = Problem::new(&code::TOO_MANY_FILES, message);
        problem.details = details;
    }
}

/// Says on stderr what stdout did not take. What an operation did stays done: its exit code stands. Where the output is all that
/// was asked for, it is missing.
fn unwritten(lost: &door::Lost, exit: ExitCode, output_is_all: bool) -> ExitCode {
    let problem =
        Problem::new(&code::STATE_UNWRITABLE, format!("the output could not be written in full: {}", lost.why))
            .cause("Standard output goes to a full disk, or to what takes no more.");
    let failed = exit == ExitCode::Done && output_is_all;
    let next = if failed {
        "Make room, then run the same command again."
    } else {
        "Make room. What was done is done: azsreg status"
    };
    View::new(cli::Output::Human).failure(&Ended { exit: ExitCode::Done, ..problem.next(next).into() });
    if !lost.lines.is_empty() {
        door::Line::of("The output was:").tell();
        lost.lines.iter().flat_map(|text| text.lines()).for_each(|line| door::Line::of(line).tell());
    }
    if lost.more {
        door::Line::of("There was more.").tell();
    }
    if failed { ExitCode::Failed } else { exit }
}

/// Whether a command changes nothing: what it prints is all that it does.
fn only_shows(command: &Command) -> bool {
    use cli::{AlertsCommand, CustomerCommand, LabCommand, MarketplaceCommand, OfflineCommand};
    use cli::{RoleCommand, StampCommand};
    match command {
        Command::Status(_)
        | Command::Check(_)
        | Command::List(_)
        | Command::Usage(_)
        | Command::Explain(_)
        | Command::Whoami
        | Command::Stamp(StampCommand::Info(_))
        | Command::Lab(LabCommand::Env(_) | LabCommand::Compare(_))
        | Command::Alerts(AlertsCommand::List(_))
        | Command::Customer(CustomerCommand::List(_))
        | Command::Role(RoleCommand::Show(_))
        | Command::Offline(OfflineCommand::Inspect(_)) => true,
        Command::Marketplace(command) => matches!(
            command,
            MarketplaceCommand::List(_)
                | MarketplaceCommand::Show(_)
                | MarketplaceCommand::Downloaded(_)
                | MarketplaceCommand::Verify(_)
        ),
        _ => false,
    }
}

/// The reference of commands and options, as Markdown: generated from what `--help` is made of.
#[must_use]
pub fn commands_reference() -> String {
    fn walk(text: &mut String, command: &clap::Command, path: &str) {
        let name = format!("{path} {}", command.get_name()).trim().to_owned();
        if command.is_hide_set() || command.get_name() == "help" {
            return;
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("\n## {name}\n\n{about}\n"));
        let mut rows = String::new();
        for argument in command.get_arguments().filter(|a| !a.is_hide_set() && !a.is_global_set()) {
            let id = argument.get_id().as_str();
            if ["help", "version"].contains(&id) {
                continue;
            }
            let values: Vec<String> =
                argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
            let takes = argument.get_action().takes_values();
            let value = if takes { values.join(" ") } else { String::new() };
            let shown = match argument.get_long() {
                Some(long) => format!("`--{long} {value}`").replace(" `", "`"),
                None => format!("`{value}`"),
            };
            let variable = argument.get_env().map(|env| format!("`{}`", env.to_string_lossy())).unwrap_or_default();
            let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('\n', " ");
            let defaults: Vec<String> =
                argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
            if takes && !defaults.is_empty() {
                help.push_str(&format!(" [default: {}]", defaults.join(", ")));
            }
            rows.push_str(&format!("| {} | {variable} | {} |\n", shown.replace('|', "\\|"), help.replace('|', "\\|")));
        }
        if !rows.is_empty() {
            text.push_str(&format!("\n| option | variable | meaning |\n|---|---|---|\n{rows}"));
        }
        for inner in command.get_subcommands() {
            walk(text, inner, &name);
        }
    }
    let mut command = Cli::command();
    command.build();
    let mut text = String::from("# Commands\n\nGenerated from the code. `--help` prints the same.\n");
    walk(&mut text, &command, "");
    text
}

fn dispatch(cli: &Cli, view: &View, secrets: &secrets::Sources) -> Result<ExitCode, Ended> {
    let global = &cli.global;
    if global.output == cli::Output::Prometheus && !matches!(cli.command, Command::Status(_)) {
        let problem = Problem::new(&code::BAD_ARGUMENT, "-o prometheus is for azsreg status alone");
        return Err(problem.next("Use -o json.").into());
    }
    let rows = matches!(cli.command, Command::Usage(cli::UsageCommand::Show(_) | cli::UsageCommand::Compare(_)));
    if global.output == cli::Output::Csv && !rows {
        let problem = Problem::new(&code::BAD_ARGUMENT, "-o csv is for azsreg usage show and compare alone");
        return Err(problem.next("Use -o json.").into());
    }
    let name = format!("{:?}", cli.command);
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), os = std::env::consts::OS, command = name, "azsreg");
    // One thread: an operation is a line of steps, and the lab beside it answers in between.
    let block = |future: std::pin::Pin<Box<dyn Future<Output = Result<ExitCode, Ended>> + '_>>| {
        // The runtime itself does not survive the want of one.
        files::room_for(descriptors(&cli.command))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Problem::new(&code::STATE_UNWRITABLE, format!("no runtime: {error}")))?;
        runtime.block_on(future)
    };
    machine::look(global, &cli.command, secrets)?;
    match &cli.command {
        Command::Register(options) => block(Box::pin(commands::register::run(global, options, view, secrets))),
        Command::Offline(command) => block(Box::pin(commands::offline::run(global, command, view, secrets))),
        Command::Status(options) => block(Box::pin(commands::status::run(global, options, view, secrets))),
        Command::Check(options) => block(Box::pin(commands::check::run(global, options, view, secrets))),
        Command::List(options) => block(Box::pin(commands::status::list(global, options, view, secrets))),
        Command::Renew(options) => block(Box::pin(commands::register::renew(global, options, view, secrets))),
        Command::Set(options) => block(Box::pin(commands::register::set(global, options, view, secrets))),
        Command::ChangeSubscription(options) => {
            block(Box::pin(commands::register::change_subscription(global, options, view, secrets)))
        }
        Command::Move(options) => block(Box::pin(commands::moving::relocate(global, options, view, secrets))),
        Command::Repair(options) => block(Box::pin(commands::moving::repair(global, options, view, secrets))),
        Command::Unregister(options) => block(Box::pin(commands::unregister::run(global, options, view, secrets))),
        Command::Adopt(options) => block(Box::pin(commands::register::adopt(global, options, view, secrets))),
        Command::Marketplace(command) => block(Box::pin(commands::marketplace::run(global, command, view, secrets))),
        Command::Alerts(command) => block(Box::pin(commands::alerts::run(global, command, view, secrets))),
        Command::Usage(command) => block(Box::pin(commands::usage::run(global, command, view, secrets))),
        Command::Customer(command) => block(Box::pin(commands::customer::run(global, command, view, secrets))),
        Command::Role(command) => block(Box::pin(commands::role::run(global, command, view, secrets))),
        Command::Explain(options) => commands::explain::run(options, view),
        Command::Stamp(cli::StampCommand::Info(options)) => {
            block(Box::pin(commands::stamp::info(global, options, view, secrets)))
        }
        Command::Stamp(cli::StampCommand::HciLicense(options)) => {
            block(Box::pin(commands::stamp::hci_license(global, options, view, secrets)))
        }
        Command::Login(options) => block(Box::pin(commands::login::login(global, options, view))),
        Command::Forget(options) => commands::forget::run(global, options, view),
        Command::Logout(options) => commands::login::logout(global, options, view),
        Command::Whoami => commands::login::whoami(global, view),
        Command::Rehearse(options) => block(Box::pin(commands::rehearse::run(global, options, view))),
        Command::Lab(cli::LabCommand::Up(options)) => block(Box::pin(commands::lab::up(global, options, view))),
        Command::Lab(cli::LabCommand::Env(options)) => commands::lab::env(global, options, view),
        Command::Lab(cli::LabCommand::Clock(cli::LabClockCommand::Advance(options))) => {
            commands::lab::advance(global, options, view)
        }
        Command::Lab(cli::LabCommand::Compare(options)) => {
            block(Box::pin(commands::transcript::compare(options, view)))
        }
    }
}

/// What clap refuses, in our form; help and version as clap writes them.
fn usage(error: &clap::Error, arguments: &[OsString]) -> Code {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let _ = error.print();
        return Code::from(if error.use_stderr() { 2 } else { 0 });
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    let mut next = None;
    // What is alike is not what was meant: only a slip of the keyboard is named, and nothing of it is run.
    let unknown = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
    for line in lines {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            next = (!unknown).then(|| format!("{}  (azsreg help shows all)", usage));
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            if !unknown || is_slip(tip, error) {
                message.push_str(&format!(" ({tip})"));
            }
        } else if !line.starts_with("For more information") && next.is_none() {
            message.push_str(&format!(" {line}"));
        }
    }
    if std::error::Error::source(error).is_some_and(|source| source.is::<cli::Holds>()) {
        return refused(Problem::new(&code::ODD_CHARACTER, message + &from_variable(error, arguments)), arguments);
    }
    if error.kind() == ErrorKind::MissingRequiredArgument {
        let also: String = also_missing(arguments).iter().map(|option| format!(" {option}")).collect();
        message.push_str(&also);
        next = next.map(|usage| usage.replacen("  (azsreg help", &format!("{also}  (azsreg help"), 1));
    }
    let problem = Problem::new(&code::BAD_ARGUMENT, message);
    // Without a usage line the help is that of the command that was meant.
    let words = || meant(arguments).map_or("azsreg".to_owned(), |(_, _, words)| words);
    let next = next.unwrap_or_else(|| format!("{} --help", words()));
    refused(problem.next(next), arguments)
}

/// The command that the words name, as far as they can be understood: itself, what it was given, and how it is written.
fn meant(arguments: &[OsString]) -> Option<(clap::Command, ArgMatches, String)> {
    let mut command = without_empty(Cli::command()).ignore_errors(true);
    let mut matches = command.try_get_matches_from_mut(arguments).ok()?;
    let mut words = "azsreg".to_owned();
    while let Some((name, inner)) = matches.remove_subcommand() {
        let Some(found) = command.find_subcommand(&name).cloned() else { break };
        words.push_str(&format!(" {name}"));
        (command, matches) = (found, inner);
    }
    Some((command, matches, words))
}

/// Whether the word that was refused is one of a tip's quoted words, but for a slip or two.
fn is_slip(tip: &str, error: &clap::Error) -> bool {
    let refused =
        [ContextKind::InvalidArg, ContextKind::InvalidSubcommand].into_iter().find_map(|kind| error.get(kind));
    let Some(ContextValue::String(word)) = refused else { return false };
    let word = word.split('=').next().unwrap_or(word);
    let near = |offer: &str| {
        word.len() > 4 && offer.starts_with(word)
            || strsim::osa_distance(word, offer) <= 1 + usize::from(word.len() > 8)
    };
    tip.split('\'').skip(1).step_by(2).any(near)
}

/// What a command needs besides what clap misses, so that all of it is named at once.
fn also_missing(arguments: &[OsString]) -> Vec<&'static str> {
    let Some((command, matches, _)) = meant(arguments) else { return Vec::new() };
    let option = |id: &str| command.get_arguments().find(|argument| argument.get_id() == id);
    let missing = |id: &str| option(id).is_some() && !matches.contains_id(id);
    let mut also = Vec::new();
    // Of a stamp that is gone nothing is asked.
    let gone = option("orphan").and_then(|_| matches.get_one::<cli::Orphan>("orphan")) == Some(&cli::Orphan::Azure);
    if !gone {
        let asks = cli::Global::from_arg_matches(&matches).is_ok_and(|global| ask::is_there(&global));
        let needed = [("pep", "--pep <HOST[:PORT]>"), ("pep_user", "--pep-user <DOMAIN\\USER>")];
        also.extend(needed.into_iter().filter(|(id, _)| missing(id)).map(|(_, option)| option));
        if missing("pep_password") && !asks {
            also.push("--pep-password <@FILE>");
        }
    }
    // What changes a registration knows its agreement and its asset tag.
    let of_model = option("billing_model").filter(|model| model.is_required_set());
    let of_model = match of_model.and_then(|_| matches.get_one::<BillingModel>("billing_model")) {
        Some(BillingModel::Capacity) => Some(("agreement_number", "--agreement-number <NUMBER>")),
        Some(BillingModel::Custom) => Some(("ms_asset_tag", "--ms-asset-tag <TAG>")),
        _ => None,
    };
    also.extend(of_model.filter(|(id, _)| missing(id)).map(|(_, option)| option));
    also
}

/// The variable that a refused value is from, where the line does not have its option.
fn from_variable(error: &clap::Error, arguments: &[OsString]) -> String {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return String::new() };
    let option = named.split(' ').next().unwrap_or_default();
    let on_line =
        |word: &OsString| word.to_str().is_some_and(|word| word == option || word.starts_with(&format!("{option}=")));
    let mut command = &Cli::command();
    let mut path = vec![command];
    for word in arguments.iter().skip(1) {
        let Some(inner) = command.find_subcommand(word) else { continue };
        command = inner;
        path.push(inner);
    }
    let mut all = path.iter().flat_map(|command| command.get_arguments());
    let found = all.find(|argument| argument.get_long().is_some_and(|long| option == format!("--{long}")));
    match found.and_then(clap::Arg::get_env) {
        Some(variable) if !arguments.iter().any(on_line) => format!(" (from {})", variable.to_string_lossy()),
        _ => String::new(),
    }
}

/// Refuses from the words alone, in the form that they ask for.
fn refused(mut problem: Problem, arguments: &[OsString]) -> Code {
    misplaced::shorten(&mut problem);
    let exit = problem.code.exit;
    let asked = arguments.iter().any(|a| a == "json" || a == "--output=json" || a == "-ojson");
    let json = asked || std::env::var_os("AZSREG_OUTPUT").is_some_and(|output| output == "json");
    View::new(if json { cli::Output::Json } else { cli::Output::Human }).failure(&problem.into());
    Code::from(u8::from(exit))
}
