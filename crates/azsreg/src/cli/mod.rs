//! The command line. Every option has an environment variable; a secret is never a value on the line.

mod alerts;
mod customer;
mod marketplace;
mod offline;
mod shared;
mod usage;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use azsreg_model::{BillingModel, TokenVersion};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

pub(crate) use alerts::*;
pub(crate) use customer::*;
pub(crate) use marketplace::*;
pub(crate) use offline::*;
use shared::seconds;
pub(crate) use shared::*;
pub(crate) use usage::*;
use values::{BoolishValueParser, choice, id, name, path, read, text, word};
pub(crate) use values::{Holds, path_in};

/// Registers Azure Stack systems with Azure, and can be killed at any moment without losing anything.
#[derive(Debug, Parser)]
#[command(name = "azsreg", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Human,
    /// For programs: one JSON document on stdout.
    Json,
    /// For a textfile collector: metrics of `status`.
    Prometheus,
    /// For a spreadsheet: the rows of `usage`.
    Csv,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How to print
    #[arg(
        short,
        long,
        global = true,
        value_parser = choice::<Output>(),
        default_value = "human",
        env = "AZSREG_OUTPUT",
        help_heading = "Global"
    )]
    pub(crate) output: Output,
    /// No progress: no line on a terminal, no lines of steps and waits elsewhere
    #[arg(long, global = true, env = "AZSREG_NO_PROGRESS", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Global")]
    pub(crate) no_progress: bool,
    /// Never ask: refuse instead
    #[arg(long, global = true, env = "AZSREG_NON_INTERACTIVE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Global")]
    pub(crate) non_interactive: bool,
    /// Write a log here, or go on with one (secrets redacted)
    #[arg(long, global = true, value_name = "FILE", env = "AZSREG_LOG_FILE", help_heading = "Global", value_parser = path())]
    pub(crate) log_file: Option<PathBuf>,
    /// Show wire traffic on stderr (secrets redacted)
    #[arg(short, long, global = true, env = "AZSREG_VERBOSE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Global")]
    pub(crate) verbose: bool,
    /// Where journals, locks and sign-ins are kept [default: the platform's state directory]
    #[arg(long, global = true, value_name = "DIR", env = "AZSREG_STATE_DIR", help_heading = "Global", value_parser = path())]
    pub(crate) state_dir: Option<PathBuf>,
    /// Go on from what both sides say where the journal of an interrupted run is damaged; the file stays as it is
    #[arg(long, global = true, action = ArgAction::SetTrue, help_heading = "Global")]
    pub(crate) without_journal: bool,
    /// Refuse a registration token or activation key of a form that azsreg does not know; else a warning, and it is passed on
    #[arg(long, global = true, env = "AZSREG_STRICT", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Global")]
    pub(crate) strict: bool,
    /// The stamp of this name in the state directory's stamps.json, in place of --pep and its sign-ins
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global", value_parser = text())]
    pub(crate) at: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a connected stamp with Azure
    Register(Box<RegisterOptions>),
    /// Register a disconnected stamp, one visit after the other
    #[command(subcommand)]
    Offline(OfflineCommand),
    /// Show both sides of a stamp's registration
    Status(Box<StatusOptions>),
    /// Look at everything that registering needs, and change nothing
    Check(Box<CheckOptions>),
    /// List the registrations of a subscription
    List(Box<ListOptions>),
    /// Renew a registration: another year, another number of nodes
    Renew(Box<RenewOptions>),
    /// Change billing model, agreement number or features in place
    Set(Box<SetOptions>),
    /// Register in another subscription in place of this one
    ChangeSubscription(Box<ChangeSubscriptionOptions>),
    /// Move a registration to another resource group
    Move(Box<MoveOptions>),
    /// Mend lock, role and activation of the registration that exists
    Repair(Box<RepairOptions>),
    /// Remove a registration: the stamp's side first, then Azure's
    Unregister(Box<UnregisterOptions>),
    /// Take over a stamp that PowerShell registered: read and keep, change nothing
    Adopt(Box<AdoptOptions>),
    /// Marketplace items: on a connected stamp, or carried to a disconnected one
    #[command(subcommand)]
    Marketplace(MarketplaceCommand),
    /// The stamp's alerts that have to do with its registration
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// What tenants use: as the stamp recorded it, and what Azure has of it
    #[command(subcommand)]
    Usage(UsageCommand),
    /// Customers of a cloud solution provider: whose usage is shown under which subscription
    #[command(subcommand)]
    Customer(CustomerCommand),
    /// The least-privilege role for people who register stamps
    #[command(subcommand)]
    Role(RoleCommand),
    /// Ask a stamp
    #[command(subcommand)]
    Stamp(StampCommand),
    /// Explain a code, or what went wrong in a log of the PowerShell module
    Explain(ExplainOptions),
    /// Sign in to Azure and keep the sign-in for further commands
    Login(LoginOptions),
    /// Forget a stamp on this machine: its journals become an archive, Azure and the stamp stay as they are
    Forget(ForgetOptions),
    /// Forget a kept sign-in
    Logout(LogoutOptions),
    /// Show the kept sign-ins
    Whoami,
    /// Rehearse a registration against a simulated Azure and stamp, in this process
    Rehearse(RehearseOptions),
    /// A simulated Azure and stamps, to try things out
    #[command(subcommand)]
    Lab(LabCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum StampCommand {
    /// Print the stamp's information
    Info(StampInfoOptions),
    /// Save an HCI licence that Microsoft support sent
    HciLicense(HciLicenseOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Print the role and the condition of its assignment
    Show(RoleShowOptions),
    /// Make the role in a subscription, or bring it up to date
    Create(Box<RoleCreateOptions>),
    /// Give somebody the role, with its condition
    Assign(Box<RoleAssignOptions>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Start a lab; prints one line of JSON when it is ready and runs until interrupted
    Up(LabUpOptions),
    /// Print the variables that point azsreg at the running lab: eval "$(azsreg lab env)"
    Env(LabEnvOptions),
    /// Move the running lab's clock
    #[command(subcommand)]
    Clock(LabClockCommand),
    /// Say which rows of COMPAT.md a transcript of a real stamp (azsreg check --transcript) confirms, and where the lab differs
    Compare(LabCompareOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabClockCommand {
    /// Forward by so many seconds, minutes, hours or days, such as 366d
    Advance(LabClockOptions),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RegisterOptions {
    /// The subscription that pays
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// How it is paid: pay-as-you-use, capacity, development, custom or ruggedized
    #[arg(long, value_name = "MODEL", env = "AZSREG_BILLING_MODEL", value_parser = word::<BillingModel>())]
    pub(crate) billing_model: BillingModel,
    /// The registration's name [default: AzureStack-<cloud id>]
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME", value_parser = name())]
    pub(crate) name: Option<String>,
    /// The agreement, for capacity billing
    #[arg(long, value_name = "NUMBER", env = "AZSREG_AGREEMENT_NUMBER", value_parser = name())]
    pub(crate) agreement_number: Option<String>,
    /// The asset tag, for custom billing
    #[arg(long, value_name = "TAG", env = "AZSREG_MS_ASSET_TAG", value_parser = name())]
    pub(crate) ms_asset_tag: Option<String>,
    /// The resource group
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack", value_parser = name())]
    pub(crate) resource_group: String,
    /// The resource group's location [default: the cloud's]
    #[arg(long, value_name = "LOCATION", env = "AZSREG_LOCATION", value_parser = name())]
    pub(crate) location: Option<String>,
    /// Whether usage is reported [default: on, but off for capacity and custom]
    #[arg(long, value_name = "SWITCH", value_parser = choice::<Switch>(), env = "AZSREG_USAGE_REPORTING")]
    pub(crate) usage_reporting: Option<Switch>,
    /// Whether marketplace items are offered
    #[arg(long, value_name = "SWITCH", value_parser = choice::<Switch>(), env = "AZSREG_MARKETPLACE", default_value = "on")]
    pub(crate) marketplace: Switch,
    /// The token version, in place of the one that the stamp's build calls for
    #[arg(long, value_name = "VERSION", env = "AZSREG_TOKEN_VERSION", value_parser = word::<TokenVersion>())]
    pub(crate) token_version: Option<TokenVersion>,
    /// Show what would be done and change nothing (exit 4 if there is something to do)
    #[arg(long, env = "AZSREG_PLAN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) plan: bool,
    #[command(flatten)]
    pub(crate) bridge: BridgeOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SetOptions {
    /// The subscription that pays [default: as the stamp's record, or this machine's journal, has it]
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    #[command(flatten)]
    pub(crate) change: ChangeOptions,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) bridge: BridgeOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RenewOptions {
    /// The subscription that pays [default: as the stamp's record, or this machine's journal, has it]
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    /// Another name, beside an expired registration that stays as an orphan [default: the same name]
    #[arg(long, value_name = "NAME", value_parser = name())]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) change: ChangeOptions,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) bridge: BridgeOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeSubscriptionOptions {
    /// The subscription that pays now [default: as the stamp's record, or this machine's journal, has it]
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    /// The subscription that shall pay
    #[arg(long, value_name = "ID", env = "AZSREG_TO_SUBSCRIPTION", value_parser = id())]
    pub(crate) to_subscription: Uuid,
    /// The resource group there [default: the same name]
    #[arg(long, value_name = "GROUP", env = "AZSREG_TO_RESOURCE_GROUP", value_parser = name())]
    pub(crate) to_resource_group: Option<String>,
    /// Its location [default: the cloud's]
    #[arg(long, value_name = "LOCATION", env = "AZSREG_TO_LOCATION", value_parser = name())]
    pub(crate) to_location: Option<String>,
    /// The registration's name there [default: the same name]
    #[arg(long, value_name = "NAME", env = "AZSREG_TO_NAME", value_parser = name())]
    pub(crate) to_name: Option<String>,
    #[command(flatten)]
    pub(crate) change: ChangeOptions,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) bridge: BridgeOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Orphan {
    /// The stamp is gone: Azure's side alone (with --name).
    Azure,
    /// The registration is gone: the stamp's side alone.
    Stamp,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UnregisterOptions {
    #[command(flatten)]
    pub(crate) named: NamedOptions,
    /// Clean up one side where the other is gone
    #[arg(long, value_parser = choice::<Orphan>(), env = "AZSREG_ORPHAN")]
    pub(crate) orphan: Option<Orphan>,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MoveOptions {
    #[command(flatten)]
    pub(crate) named: NamedOptions,
    /// The resource group to move to
    #[arg(long, value_name = "GROUP", env = "AZSREG_TO_RESOURCE_GROUP", value_parser = name())]
    pub(crate) to_resource_group: String,
    /// The subscription to move to; both have to be of the same partner [default: the same]
    #[arg(long, value_name = "ID", env = "AZSREG_TO_SUBSCRIPTION", value_parser = id())]
    pub(crate) to_subscription: Option<Uuid>,
    /// The location of the resource group, if it has to be made [default: the cloud's]
    #[arg(long, value_name = "LOCATION", env = "AZSREG_TO_LOCATION", value_parser = name())]
    pub(crate) to_location: Option<String>,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepairOptions {
    #[command(flatten)]
    pub(crate) named: NamedOptions,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AdoptOptions {
    /// The subscription that pays [default: as the stamp's record, or this machine's journal, has it]
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    #[command(flatten)]
    pub(crate) change: ChangeOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckOptions {
    /// The subscription that shall pay
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// How it shall be paid: pay-as-you-use, capacity, development, custom or ruggedized
    #[arg(long, value_name = "MODEL", env = "AZSREG_BILLING_MODEL", default_value = "pay-as-you-use", value_parser = word::<BillingModel>())]
    pub(crate) billing_model: BillingModel,
    /// The registration's name [default: AzureStack-<cloud id>]
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME", value_parser = name())]
    pub(crate) name: Option<String>,
    /// The resource group
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack", value_parser = name())]
    pub(crate) resource_group: String,
    /// The resource group's location [default: the cloud's]
    #[arg(long, value_name = "LOCATION", env = "AZSREG_LOCATION", value_parser = name())]
    pub(crate) location: Option<String>,
    /// Show how both sides answer to reading calls, without ids and secrets, and write it to this file if you agree
    #[arg(long, value_name = "FILE", env = "AZSREG_TRANSCRIPT", value_parser = path())]
    pub(crate) transcript: Option<PathBuf>,
    /// With --transcript: leave the privileged endpoint silent for so many seconds, and see whether the connection is kept;
    /// 180 takes three minutes
    #[arg(long, value_name = "SECONDS", env = "AZSREG_SILENT_FOR", requires = "transcript", value_parser = read(seconds))]
    pub(crate) silent_for: Option<Duration>,
    /// With --transcript: write it without showing it first
    #[arg(short, long, env = "AZSREG_YES", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) bridge: BridgeOptions,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ListOptions {
    /// The subscription
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RoleShowOptions {
    /// A subscription where it may be assigned (repeatable)
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_delimiter = ',', value_parser = id())]
    pub(crate) subscription: Vec<Uuid>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RoleCreateOptions {
    /// The subscription
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// Change a role of this name that holds other actions
    #[arg(long, env = "AZSREG_UPDATE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) update: bool,
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RoleAssignOptions {
    /// The subscription
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// Who gets it: the object id of a user, group or service principal
    #[arg(long, value_name = "OBJECT-ID", env = "AZSREG_TO", value_parser = id())]
    pub(crate) to: Uuid,
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainOptions {
    /// A code such as AZR4007 [default: all of them]
    #[arg(value_parser = name())]
    pub(crate) code: Option<String>,
    /// A log of the PowerShell module, as it lies under C:\MASLogs\Registration
    #[arg(long, value_name = "FILE", conflicts_with = "code", value_parser = path())]
    pub(crate) from_log: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HciLicenseOptions {
    /// The licence's text: @FILE, or - for standard input
    #[arg(value_name = "@FILE", allow_hyphen_values = true)]
    pub(crate) license: SecretArgument,
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    #[command(flatten)]
    pub(crate) pep: PepOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabClockOptions {
    /// How far: a number with s, m, h or d
    pub(crate) by: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabCompareOptions {
    /// The transcript
    #[arg(value_parser = path())]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatusOptions {
    /// The subscription that pays [default: as the stamp's record, or this machine's journal, has it]
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    /// The registration's name [default: found by the stamp's cloud id]
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME", value_parser = name())]
    pub(crate) name: Option<String>,
    /// The resource group, with --name
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack", value_parser = name())]
    pub(crate) resource_group: String,
    /// For monitoring: exit 3 unless it is registered on both sides, 8 if it has expired or expires within --within days, 1
    /// if a side can't be read
    #[arg(long, env = "AZSREG_CHECK", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) check: bool,
    /// With --check: how many days count as soon
    #[arg(long, value_name = "DAYS", env = "AZSREG_WITHIN", default_value_t = 30, value_parser = word::<u16>())]
    pub(crate) within: u16,
    /// All stamps that this machine knows, by its journals and stamps.json, as a page in the browser
    #[arg(long, conflicts_with_all = ["check", "name"])]
    pub(crate) web: bool,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StampInfoOptions {
    #[command(flatten)]
    pub(crate) pep: PepOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LoginOptions {
    /// In this machine's browser instead of with a code
    #[arg(long, env = "AZSREG_BROWSER", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) browser: bool,
    /// The subscription, to find its directory by
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    #[command(flatten)]
    pub(crate) cloud: CloudOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ForgetOptions {
    /// Which: its cloud id, or its name in stamps.json
    #[arg(value_name = "STAMP", value_parser = name())]
    pub(crate) stamp: String,
    #[command(flatten)]
    pub(crate) care: CareOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LogoutOptions {
    /// Only this directory's sign-in [default: all]
    #[arg(long, value_name = "TENANT", env = "AZSREG_TENANT", value_parser = name())]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RehearseOptions {
    /// How long the simulated stamp takes to activate, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = read(seconds), env = "AZSREG_STAMP_DELAY")]
    pub(crate) stamp_delay: Duration,
    /// The seed of the simulated world [default: another each time]
    #[arg(long, value_name = "N", env = "AZSREG_LAB_SEED")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabUpOptions {
    /// How many stamps
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=500), env = "AZSREG_LAB_STAMPS")]
    pub(crate) stamps: u16,
    /// A stamp of these properties: build=1.2501.0.21,nodes=4,identity=aad|adfs,activation=SECONDS,name=NAME,connected=yes|no,tenants=N (repeatable)
    #[arg(long, value_name = "PROPERTIES", env = "AZSREG_LAB_STAMP", value_delimiter = ';', value_parser = name())]
    pub(crate) stamp: Vec<String>,
    /// The seed of every random draw (keys and nonces excepted) [default: another each time; a world that is kept has its own]
    #[arg(long, value_name = "N", env = "AZSREG_LAB_SEED")]
    pub(crate) seed: Option<u64>,
    /// How much faster than real time the stamps' actions go
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, env = "AZSREG_LAB_TIME_SCALE")]
    pub(crate) time_scale: f64,
    /// Wait for somebody to approve device codes on the lab's page
    #[arg(long, env = "AZSREG_LAB_NO_AUTO_APPROVE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) no_auto_approve: bool,
    /// Keep the world here, across restarts
    #[arg(long, value_name = "DIR", env = "AZSREG_LAB_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Milliseconds that each answer of a privileged endpoint waits
    #[arg(long, value_name = "MS", default_value_t = 0, hide = true)]
    pub(crate) pep_delay: u64,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabEnvOptions {
    /// Which stamp
    #[arg(long, value_name = "NAME", env = "AZSREG_LAB_ENV_STAMP", value_parser = name())]
    pub(crate) stamp: Option<String>,
}
