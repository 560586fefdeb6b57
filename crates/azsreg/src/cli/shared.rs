//! Options that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{BoolishValueParser, choice, id, name, path, read, word};
use azsreg_model::{BillingModel, NamedCloud, TokenVersion};
use azsreg_pep::{Mechanism, PepAddress};
use clap::{ArgAction, Args, ValueEnum};
use uuid::Uuid;

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

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "expected a number of seconds".to_owned())
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Privileged endpoint")]
pub(crate) struct PepOptions {
    /// An address of the privileged endpoint (repeatable; a stamp has three)
    #[arg(long, value_name = "HOST[:PORT]", env = "AZSREG_PEP", value_delimiter = ',', value_parser = word::<PepAddress>())]
    pub(crate) pep: Vec<PepAddress>,
    /// The user, such as AZURESTACK\CloudAdmin
    #[arg(long, value_name = "DOMAIN\\USER", env = "AZSREG_PEP_USER", value_parser = name())]
    pub(crate) pep_user: Option<String>,
    /// The password: @FILE, or - for standard input; asked for if not given
    #[arg(long, value_name = "@FILE", env = "AZSREG_PEP_PASSWORD", hide_env_values = true, allow_hyphen_values = true)]
    pub(crate) pep_password: Option<SecretArgument>,
    /// A password that holds typographic quotation marks, dashes or no-break spaces: they are meant (no variable sets this)
    #[arg(long)]
    pub(crate) password_as_is: bool,
    /// How to sign in to the endpoint: negotiate or ntlm
    #[arg(long, value_name = "MECHANISM", env = "AZSREG_PEP_AUTH", default_value = "negotiate", value_parser = word::<Mechanism>())]
    pub(crate) pep_auth: Mechanism,
    /// The session configuration
    #[arg(long, value_name = "NAME", env = "AZSREG_PEP_CONFIGURATION", default_value = "PrivilegedEndpoint", value_parser = name())]
    pub(crate) pep_configuration: String,
    /// Close the session so that its transcript is delivered to this share (it may hold what was sent)
    #[arg(long, value_name = "\\\\HOST\\SHARE", env = "AZSREG_TRANSCRIPT_SHARE", value_parser = name())]
    pub(crate) transcript_share: Option<String>,
    /// Who may write to the share
    #[arg(long, value_name = "DOMAIN\\USER", env = "AZSREG_TRANSCRIPT_USER", requires = "transcript_share", value_parser = name())]
    pub(crate) transcript_user: Option<String>,
    /// That user's password: @FILE, or - for standard input
    #[arg(
        long,
        value_name = "@FILE",
        env = "AZSREG_TRANSCRIPT_PASSWORD",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) transcript_password: Option<SecretArgument>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkOptions {
    /// Authorities to trust besides the system's (PEM)
    #[arg(long, value_name = "FILE", env = "AZSREG_CA_FILE", value_parser = path())]
    pub(crate) ca_file: Option<PathBuf>,
    /// How long to wait for a connection, in seconds
    #[arg(long, value_name = "SECONDS", env = "AZSREG_CONNECT_TIMEOUT", default_value = "10", value_parser = read(seconds))]
    pub(crate) connect_timeout: Duration,
    /// How long an HTTPS answer may take, from the request to its last byte, in seconds
    #[arg(long, value_name = "SECONDS", env = "AZSREG_ANSWER_TIMEOUT", default_value = "120", value_parser = read(seconds))]
    pub(crate) answer_timeout: Duration,
    /// For tests on this machine: take http addresses too, on loopback alone (no variable sets this)
    #[arg(long)]
    pub(crate) allow_http: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Azure")]
pub(crate) struct CloudOptions {
    /// AzureCloud, AzureUSGovernment or AzureChinaCloud [default: AzureCloud]
    #[arg(long, value_name = "NAME", env = "AZSREG_CLOUD", value_parser = word::<NamedCloud>())]
    pub(crate) cloud: Option<NamedCloud>,
    /// The Resource Manager of a custom cloud, which describes itself
    #[arg(long, value_name = "URL", env = "AZSREG_CLOUD_ENDPOINT", value_parser = name())]
    pub(crate) cloud_endpoint: Option<String>,
    /// The directory of the subscription [default: Azure is asked]
    #[arg(long, value_name = "TENANT", env = "AZSREG_TENANT", value_parser = name())]
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
    #[arg(long, value_name = "ID", env = "AZSREG_CLIENT_ID", value_parser = id())]
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
    #[arg(long, value_name = "FILE", env = "AZSREG_CLIENT_CERTIFICATE", value_parser = path())]
    pub(crate) client_certificate: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sign-in to the stamp's Resource Manager (to read the activation record back)")]
pub(crate) struct StampSignInOptions {
    /// An application of the stamp's directory
    #[arg(long, value_name = "ID", env = "AZSREG_STAMP_CLIENT_ID", value_parser = id())]
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
    /// Its certificate and private key, in one PEM file: applications of AD FS have one
    #[arg(long, value_name = "FILE", env = "AZSREG_STAMP_CLIENT_CERTIFICATE", value_parser = path())]
    pub(crate) stamp_client_certificate: Option<PathBuf>,
    /// An operator, with a code on any device (where the stamp's directory offers that)
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

/// How to reach Azure alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct AzureOptions {
    #[command(flatten)]
    pub(crate) cloud: CloudOptions,
    #[command(flatten)]
    pub(crate) sign_in: SignInOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

/// How to reach a stamp alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct StampOptions {
    #[command(flatten)]
    pub(crate) pep: PepOptions,
    #[command(flatten)]
    pub(crate) stamp_sign_in: StampSignInOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

/// What is registered otherwise than before. A change is named on the line: a variable that was set for `register` must not
/// change how a stamp is billed.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeOptions {
    /// Another billing model: pay-as-you-use, capacity, development, custom or ruggedized
    #[arg(long, value_name = "MODEL", value_parser = word::<BillingModel>())]
    pub(crate) billing_model: Option<BillingModel>,
    /// The agreement, for capacity billing
    #[arg(long, value_name = "NUMBER", value_parser = name())]
    pub(crate) agreement_number: Option<String>,
    /// The asset tag, for custom billing
    #[arg(long, value_name = "TAG", value_parser = name())]
    pub(crate) ms_asset_tag: Option<String>,
    /// Whether usage is reported
    #[arg(long, value_name = "SWITCH", value_parser = choice::<Switch>())]
    pub(crate) usage_reporting: Option<Switch>,
    /// Whether marketplace items are offered
    #[arg(long, value_name = "SWITCH", value_parser = choice::<Switch>())]
    pub(crate) marketplace: Option<Switch>,
    /// The token version, in place of the one that the stamp's build calls for
    #[arg(long, value_name = "VERSION", env = "AZSREG_TOKEN_VERSION", value_parser = word::<TokenVersion>())]
    pub(crate) token_version: Option<TokenVersion>,
}

/// A registration by its name.
#[derive(Debug, Clone, Args)]
pub(crate) struct NamedOptions {
    /// The subscription that pays [default: as the stamp's record, or this machine's journal, has it]
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Option<Uuid>,
    /// The registration's name [default: found by the stamp's cloud id]
    #[arg(long, value_name = "NAME", env = "AZSREG_NAME", value_parser = name())]
    pub(crate) name: Option<String>,
    /// The resource group, with --name
    #[arg(long, value_name = "GROUP", env = "AZSREG_RESOURCE_GROUP", default_value = "azurestack", value_parser = name())]
    pub(crate) resource_group: String,
}

/// Looking before, and agreeing to what is lost.
#[derive(Debug, Clone, Args)]
pub(crate) struct CareOptions {
    /// Show what would be done and change nothing (exit 4 if there is something to do)
    #[arg(long, env = "AZSREG_PLAN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) plan: bool,
    /// Don't ask: agree to what is lost
    #[arg(short, long, env = "AZSREG_YES", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) yes: bool,
}

/// Looking before.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanOptions {
    /// Show what would be done and change nothing (exit 4 if there is something to do)
    #[arg(long, env = "AZSREG_PLAN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) plan: bool,
}

/// A user's refresh token for the stamp's principal.
#[derive(Debug, Clone, Args)]
pub(crate) struct BridgeOptions {
    /// A user's refresh token for the stamp, beside a client secret or certificate: @FILE or -. It has to be of the client
    /// 1950a258-227b-4e31-a9cf-717495945fc2, Azure PowerShell's: the stamp redeems it as that client, and one of another
    /// (such as the CLI's) is refused. The guide says where to get one (register-connected.md)
    #[arg(
        long,
        value_name = "@FILE",
        env = "AZSREG_BRIDGE_REFRESH_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) bridge_refresh_token: Option<SecretArgument>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}
