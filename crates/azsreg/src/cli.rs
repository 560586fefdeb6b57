//! The command line. Every option has an environment variable; a secret is never a value on the line.

use std::path::PathBuf;
use std::time::Duration;

use azsreg_model::{BillingModel, NamedCloud};
use azsreg_pep::{Mechanism, PepAddress};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

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
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How to print
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "human",
        env = "AZSREG_OUTPUT",
        help_heading = "Global"
    )]
    pub(crate) output: Output,
    /// No progress, even on a terminal
    #[arg(long, global = true, env = "AZSREG_NO_PROGRESS", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Global")]
    pub(crate) no_progress: bool,
    /// Never ask: refuse instead
    #[arg(long, global = true, env = "AZSREG_NON_INTERACTIVE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Global")]
    pub(crate) non_interactive: bool,
    /// Write a log here (secrets redacted)
    #[arg(long, global = true, value_name = "FILE", env = "AZSREG_LOG_FILE", help_heading = "Global")]
    pub(crate) log_file: Option<PathBuf>,
    /// Show wire traffic on stderr (secrets redacted)
    #[arg(short, long, global = true, env = "AZSREG_VERBOSE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), help_heading = "Global")]
    pub(crate) verbose: bool,
    /// Where journals, locks and sign-ins are kept [default: the platform's state directory]
    #[arg(long, global = true, value_name = "DIR", env = "AZSREG_STATE_DIR", help_heading = "Global")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a connected stamp with Azure
    Register(Box<RegisterOptions>),
    /// Show both sides of a stamp's registration
    Status(Box<StatusOptions>),
    /// Ask a stamp
    #[command(subcommand)]
    Stamp(StampCommand),
    /// Sign in to Azure and keep the sign-in for further commands
    Login(LoginOptions),
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Start a lab; prints one line of JSON when it is ready and runs until interrupted
    Up(LabUpOptions),
    /// Print the variables that point azsreg at the running lab: eval "$(azsreg lab env)"
    Env(LabEnvOptions),
}

/// A secret as it was given: `@FILE`, `-`, or a variable's value.
#[derive(Clone)]
pub(crate) struct SecretArgument(pub(crate) String);

impl std::fmt::Debug for SecretArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretArgument")
    }
}

impl std::str::FromStr for SecretArgument {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "expected a number of seconds".to_owned())
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Privileged endpoint")]
pub(crate) struct PepOptions {
    /// An address of the privileged endpoint (repeatable; a stamp has three)
    #[arg(long, value_name = "HOST[:PORT]", env = "AZSREG_PEP", value_delimiter = ',', required = true)]
    pub(crate) pep: Vec<PepAddress>,
    /// The user, such as AZURESTACK\CloudAdmin
    #[arg(long, value_name = "DOMAIN\\USER", env = "AZSREG_PEP_USER")]
    pub(crate) pep_user: String,
    /// The password: @FILE, or - for standard input; asked for if not given
    #[arg(long, value_name = "@FILE", env = "AZSREG_PEP_PASSWORD", hide_env_values = true, allow_hyphen_values = true)]
    pub(crate) pep_password: Option<SecretArgument>,
    /// How to sign in to the endpoint: negotiate or ntlm
    #[arg(long, value_name = "MECHANISM", env = "AZSREG_PEP_AUTH", default_value = "negotiate")]
    pub(crate) pep_auth: Mechanism,
    /// The session configuration
    #[arg(long, value_name = "NAME", env = "AZSREG_PEP_CONFIGURATION", default_value = "PrivilegedEndpoint")]
    pub(crate) pep_configuration: String,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkOptions {
    /// Authorities to trust besides the system's (PEM)
    #[arg(long, value_name = "FILE", env = "AZSREG_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// How long to wait for a connection, in seconds
    #[arg(long, value_name = "SECONDS", env = "AZSREG_CONNECT_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub(crate) connect_timeout: Duration,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Azure")]
pub(crate) struct CloudOptions {
    /// AzureCloud, AzureUSGovernment or AzureChinaCloud [default: AzureCloud]
    #[arg(long, value_name = "NAME", env = "AZSREG_CLOUD")]
    pub(crate) cloud: Option<NamedCloud>,
    /// The Resource Manager of a custom cloud, which describes itself
    #[arg(long, value_name = "URL", env = "AZSREG_CLOUD_ENDPOINT")]
    pub(crate) cloud_endpoint: Option<String>,
    /// The directory of the subscription [default: Azure is asked]
    #[arg(long, value_name = "TENANT", env = "AZSREG_TENANT")]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sign-in to Azure (one of; the kept sign-in if none)")]
pub(crate) struct SignInOptions {
    /// A person, with a code on any device
    #[arg(long, env = "AZSREG_DEVICE_CODE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) device_code: bool,
    /// A person, in this machine's browser
    #[arg(long, env = "AZSREG_BROWSER", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) browser: bool,
    /// An application (with --client-secret or --client-certificate)
    #[arg(long, value_name = "ID", env = "AZSREG_CLIENT_ID")]
    pub(crate) client_id: Option<Uuid>,
    /// The application's secret: @FILE, or - for standard input
    #[arg(
        long,
        value_name = "@FILE",
        env = "AZSREG_CLIENT_SECRET",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) client_secret: Option<SecretArgument>,
    /// The application's certificate and private key, in one PEM file
    #[arg(long, value_name = "FILE", env = "AZSREG_CLIENT_CERTIFICATE")]
    pub(crate) client_certificate: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sign-in to the stamp's Resource Manager (to read the activation record back)")]
pub(crate) struct StampSignInOptions {
    /// An application of the stamp's directory
    #[arg(long, value_name = "ID", env = "AZSREG_STAMP_CLIENT_ID")]
    pub(crate) stamp_client_id: Option<Uuid>,
    /// Its secret: @FILE, or - for standard input
    #[arg(
        long,
        value_name = "@FILE",
        env = "AZSREG_STAMP_CLIENT_SECRET",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) stamp_client_secret: Option<SecretArgument>,
    /// An operator, with a code on any device
    #[arg(long, env = "AZSREG_STAMP_DEVICE_CODE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) stamp_device_code: bool,
}

/// How to reach both sides, Azure and the stamp.
#[derive(Debug, Clone, Args)]
pub(crate) struct SidesOptions {
    #[command(flatten)]
    pub(crate) pep: PepOptions,
    #[command(flatten)]
    pub(crate) cloud: CloudOptions,
    #[command(flatten)]
    pub(crate) sign_in: SignInOptions,
    #[command(flatten)]
    pub(crate) stamp_sign_in: StampSignInOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RegisterOptions {
    /// The subscription that pays
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION")]
    pub(crate) subscription: Uuid,
    /// How it is paid: pay-as-you-use, capacity, development, custom or ruggedized
    #[arg(long, value_name = "MODEL", env = "AZSREG_BILLING_MODEL")]
    pub(crate) billing_model: BillingModel,
    /// The registration's name [default: AzureStack-<cloud id>]
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME")]
    pub(crate) name: Option<String>,
    /// The agreement, for capacity billing
    #[arg(long, value_name = "NUMBER", env = "AZSREG_AGREEMENT_NUMBER")]
    pub(crate) agreement_number: Option<String>,
    /// The asset tag, for custom billing
    #[arg(long, value_name = "TAG", env = "AZSREG_MS_ASSET_TAG")]
    pub(crate) ms_asset_tag: Option<String>,
    /// The resource group
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack")]
    pub(crate) resource_group: String,
    /// The resource group's location [default: the cloud's]
    #[arg(long, value_name = "LOCATION", env = "AZSREG_LOCATION")]
    pub(crate) location: Option<String>,
    /// Whether usage is reported [default: on, but off for capacity and custom]
    #[arg(long, value_name = "SWITCH", value_enum, env = "AZSREG_USAGE_REPORTING")]
    pub(crate) usage_reporting: Option<Switch>,
    /// Whether marketplace items are offered
    #[arg(long, value_name = "SWITCH", value_enum, env = "AZSREG_MARKETPLACE", default_value = "on")]
    pub(crate) marketplace: Switch,
    /// Show what would be done and change nothing (exit 4 if there is something to do)
    #[arg(long, env = "AZSREG_PLAN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) plan: bool,
    /// A user's refresh token for the stamp, beside a client secret or certificate: @FILE or -
    #[arg(
        long,
        value_name = "@FILE",
        env = "AZSREG_BRIDGE_REFRESH_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) bridge_refresh_token: Option<SecretArgument>,
    #[command(flatten)]
    pub(crate) sides: SidesOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatusOptions {
    /// The subscription that pays
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION")]
    pub(crate) subscription: Uuid,
    /// The registration's name [default: found by the stamp's cloud id]
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME")]
    pub(crate) name: Option<String>,
    /// The resource group, with --name
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack")]
    pub(crate) resource_group: String,
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
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION")]
    pub(crate) subscription: Option<Uuid>,
    #[command(flatten)]
    pub(crate) cloud: CloudOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LogoutOptions {
    /// Only this directory's sign-in [default: all]
    #[arg(long, value_name = "TENANT", env = "AZSREG_TENANT")]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RehearseOptions {
    /// How long the simulated stamp takes to activate, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, env = "AZSREG_STAMP_DELAY")]
    pub(crate) stamp_delay: Duration,
    /// The seed of the simulated world
    #[arg(long, value_name = "N", default_value_t = 1, env = "AZSREG_LAB_SEED")]
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabUpOptions {
    /// How many stamps
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=500), env = "AZSREG_LAB_STAMPS")]
    pub(crate) stamps: u16,
    /// A stamp of these properties: build=1.2501.0.21,nodes=4,identity=aad|adfs,activation=SECONDS,name=NAME,connected=yes|no (repeatable)
    #[arg(long, value_name = "PROPERTIES", env = "AZSREG_LAB_STAMP", value_delimiter = ';')]
    pub(crate) stamp: Vec<String>,
    /// The seed of every random draw (keys and nonces excepted)
    #[arg(long, value_name = "N", default_value_t = 1, env = "AZSREG_LAB_SEED")]
    pub(crate) seed: u64,
    /// How much faster than real time the stamps' actions go
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, env = "AZSREG_LAB_TIME_SCALE")]
    pub(crate) time_scale: f64,
    /// Wait for somebody to approve device codes on the lab's page
    #[arg(long, env = "AZSREG_LAB_NO_AUTO_APPROVE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) no_auto_approve: bool,
    /// Milliseconds that each answer of a privileged endpoint waits
    #[arg(long, value_name = "MS", default_value_t = 0, hide = true)]
    pub(crate) pep_delay: u64,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabEnvOptions {
    /// Which stamp
    #[arg(long, value_name = "NAME", env = "AZSREG_LAB_ENV_STAMP")]
    pub(crate) stamp: Option<String>,
}
