//! The parameters of the privileged endpoint's cmdlets (`facts-protocol.md` section 2), and how arguments are bound to them.

use azsreg_psrp::clixml::Value;
use azsreg_psrp::messages::Command;

use crate::world::stamp::{CmdletError, Stamp};

/// What a parameter takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// One of these, without regard to case.
    OneOf(&'static [&'static str]),
    Switch,
    Number,
    Any,
}

pub(super) struct Parameter {
    pub(super) name: &'static str,
    kind: Kind,
    mandatory: bool,
    position: Option<usize>,
}

const fn parameter(name: &'static str, kind: Kind, mandatory: bool, position: Option<usize>) -> Parameter {
    Parameter { name, kind, mandatory, position }
}

const AS_JOB: Parameter = parameter("AsJob", Kind::Switch, false, None);
const MODELS: &[&str] = &["Capacity", "PayAsYouUse", "Development", "Custom", "Ruggedized"];
const CLOUDS: &[&str] = &["AzureCloud", "AzureChinaCloud", "AzureUSGovernment", "CustomCloud"];
/// Every cmdlet takes these and they change nothing here.
pub(super) const COMMON: &[&str] = &[
    "Verbose",
    "Debug",
    "ErrorAction",
    "WarningAction",
    "InformationAction",
    "ErrorVariable",
    "WarningVariable",
    "OutVariable",
    "OutBuffer",
];

/// The parameters of a cmdlet on this stamp; `None` if it has no such cmdlet.
pub(super) fn parameters(name: &str, stamp: &Stamp) -> Option<(&'static str, Vec<Parameter>)> {
    let cmdlet = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name))?;
    let list = match *cmdlet {
        "Get-AzureStackStampInformation" => vec![AS_JOB],
        "Get-Command" => vec![
            parameter("Name", Kind::Any, false, Some(0)),
            parameter("ListImported", Kind::Switch, false, None),
            parameter("CommandType", Kind::Any, false, None),
            parameter("Module", Kind::Any, false, None),
            parameter("ArgumentList", Kind::Any, false, None),
        ],
        "Get-ActionStatus" => vec![
            parameter("FunctionName", Kind::Text, false, Some(0)),
            parameter("ActionType", Kind::Text, false, Some(1)),
            AS_JOB,
        ],
        "Set-RegistrationKeyPair" => {
            if !stamp.has_key_pair() {
                return None;
            }
            vec![AS_JOB]
        }
        "New-AzureBridgeServicePrincipal" => vec![
            parameter("AzureEnvironment", Kind::OneOf(CLOUDS), true, Some(0)),
            parameter("TenantId", Kind::Text, true, Some(1)),
            parameter("RefreshToken", Kind::Text, true, Some(2)),
            parameter("TimeoutInSeconds", Kind::Number, false, Some(3)),
            AS_JOB,
        ],
        "New-RegistrationToken" => {
            let mut list = vec![
                parameter("BillingModel", Kind::OneOf(MODELS), true, Some(0)),
                parameter("AgreementNumber", Kind::Text, false, Some(1)),
                parameter("MarketplaceSyndicationEnabled", Kind::Switch, false, None),
                parameter("UsageReportingEnabled", Kind::Switch, false, None),
                AS_JOB,
            ];
            if stamp.knows_asset_tag() {
                list.push(parameter("MsAssetTag", Kind::Text, false, Some(2)));
            }
            if stamp.knows_token_version() {
                list.push(parameter("TokenVersion", Kind::OneOf(&["1.0", "3.0", "4.0", "6.0"]), false, None));
            }
            list
        }
        "New-AzureStackActivation" => vec![
            parameter("ActivationKey", Kind::Text, true, Some(0)),
            parameter("TimeoutInSeconds", Kind::Number, false, Some(1)),
            AS_JOB,
        ],
        "Remove-AzureStackActivation" => vec![parameter("TimeoutInSeconds", Kind::Number, false, Some(0)), AS_JOB],
        "Save-HCILicense" => {
            if !stamp.has_key_pair() {
                return None;
            }
            vec![parameter("License", Kind::Text, true, Some(0)), AS_JOB]
        }
        "Close-PrivilegedEndpoint" => vec![
            parameter("TranscriptsPathDestination", Kind::Text, false, Some(0)),
            parameter("Credential", Kind::Any, false, Some(1)),
        ],
        _ => return None,
    };
    Some((cmdlet, list))
}

pub(super) const NAMES: &[&str] = &[
    "Close-PrivilegedEndpoint",
    "Get-ActionStatus",
    "Get-AzureStackStampInformation",
    "Get-Command",
    "New-AzureBridgeServicePrincipal",
    "New-AzureStackActivation",
    "New-RegistrationToken",
    "Remove-AzureStackActivation",
    "Save-HCILicense",
    "Set-RegistrationKeyPair",
];

/// Arguments bound to parameters.
#[derive(Default)]
pub(super) struct Bound(Vec<(&'static str, Value)>);

impl Bound {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Value::display)
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        self.get(name).and_then(Value::bool).unwrap_or(false)
    }
}

fn binding(id: &'static str, message: String) -> CmdletError {
    CmdletError { id, exception: "System.Management.Automation.ParameterBindingException", category: 5, message }
}

pub(super) fn bind(cmdlet: &str, list: &[Parameter], command: &Command) -> Result<Bound, CmdletError> {
    let mut bound = Bound::default();
    let mut positional = Vec::new();
    for (name, value) in &command.arguments {
        let Some(name) = name else {
            positional.push(value);
            continue;
        };
        if COMMON.iter().any(|common| common.eq_ignore_ascii_case(name)) {
            continue;
        }
        let exact: Vec<&Parameter> = list.iter().filter(|p| p.name.eq_ignore_ascii_case(name)).collect();
        let start = |p: &&Parameter| p.name.get(..name.len()).is_some_and(|part| part.eq_ignore_ascii_case(name));
        let found = if exact.is_empty() { list.iter().filter(start).collect() } else { exact };
        let [parameter] = found[..] else {
            let (id, message) = if found.is_empty() {
                ("NamedParameterNotFound", format!("A parameter cannot be found that matches parameter name '{name}'."))
            } else {
                (
                    "AmbiguousParameter",
                    format!("Parameter cannot be processed because the parameter name '{name}' is ambiguous."),
                )
            };
            return Err(binding(id, message));
        };
        if bound.get(parameter.name).is_some() {
            return Err(binding(
                "ParameterAlreadyBound",
                format!("Cannot bind parameter because parameter '{name}' is specified more than once."),
            ));
        }
        bound.0.push((parameter.name, convert(cmdlet, parameter, value)?));
    }
    for value in positional {
        let mut free: Vec<&Parameter> =
            list.iter().filter(|p| p.position.is_some() && bound.get(p.name).is_none()).collect();
        free.sort_by_key(|p| p.position);
        let Some(parameter) = free.first() else {
            let shown = value.display().unwrap_or_default();
            return Err(binding(
                "PositionalParameterNotFound",
                format!("A positional parameter cannot be found that accepts argument '{shown}'."),
            ));
        };
        bound.0.push((parameter.name, convert(cmdlet, parameter, value)?));
    }
    let missing: Vec<&str> =
        list.iter().filter(|p| p.mandatory && bound.get(p.name).is_none()).map(|p| p.name).collect();
    if !missing.is_empty() {
        return Err(binding(
            "MissingMandatoryParameter",
            format!(
                "Cannot process command because of one or more missing mandatory parameters: {}.",
                missing.join(" ")
            ),
        ));
    }
    Ok(bound)
}

fn convert(cmdlet: &str, parameter: &Parameter, value: &Value) -> Result<Value, CmdletError> {
    let name = parameter.name;
    let bad = |what: &str| {
        binding(
            "ParameterArgumentTransformationError",
            format!(
                "Cannot process argument transformation on parameter '{name}'. Cannot convert value to type \"{what}\"."
            ),
        )
    };
    match parameter.kind {
        Kind::Any => Ok(value.clone()),
        Kind::Switch => match value {
            // A switch without a value comes as null.
            Value::Null => Ok(Value::Bool(true)),
            other => other.bool().map(Value::Bool).ok_or_else(|| bad("System.Management.Automation.SwitchParameter")),
        },
        Kind::Number => {
            let number = value.integer().or_else(|| value.text().and_then(|text| text.parse().ok()));
            number.map(Value::I64).ok_or_else(|| bad("System.Int32"))
        }
        Kind::Text => match value.display() {
            Some(text) if text.is_empty() && parameter.mandatory => Err(CmdletError {
                id: "ParameterArgumentValidationErrorEmptyStringNotAllowed",
                exception: "System.Management.Automation.ParameterBindingValidationException",
                category: 6,
                message: format!("Cannot bind argument to parameter '{name}' because it is an empty string."),
            }),
            Some(text) => Ok(Value::String(text)),
            None if *value == Value::Null && !parameter.mandatory => Ok(Value::String(String::new())),
            None if *value == Value::Null => Err(CmdletError {
                id: "ParameterArgumentValidationErrorNullNotAllowed",
                exception: "System.Management.Automation.ParameterBindingValidationException",
                category: 6,
                message: format!("Cannot bind argument to parameter '{name}' because it is null."),
            }),
            None => Err(bad("System.String")),
        },
        Kind::OneOf(set) => {
            let text = value.display().unwrap_or_default();
            let found = set.iter().find(|known| known.eq_ignore_ascii_case(&text));
            found.map(|known| Value::from(*known)).ok_or_else(|| {
                CmdletError::argument(format!(
                    "Cannot validate argument on parameter '{name}'. The argument \"{text}\" does not belong to the set \"{}\" specified by the ValidateSet attribute. Supply an argument that is in the set and then try the command again.",
                    set.join(",")
                ))
            })
        }
    }
    .inspect_err(|error| tracing::debug!(cmdlet, ?error, "argument refused"))
}
