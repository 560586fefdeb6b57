//! The contents of PSRP messages (MS-PSRP 2.2.2), as far as commands with named arguments need them.

use uuid::Uuid;

use crate::DecodeError;
use crate::clixml::{Object, Value, from_xml, to_xml};

/// A runspace pool's state (MS-PSRP 2.2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PoolState {
    BeforeOpen = 0,
    Opening = 1,
    Opened = 2,
    Closed = 3,
    Closing = 4,
    Broken = 5,
    NegotiationSent = 6,
    NegotiationSucceeded = 7,
    Connecting = 8,
    Disconnected = 9,
}

/// A pipeline's state (MS-PSRP 2.2.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PipelineState {
    NotStarted = 0,
    Running = 1,
    Stopping = 2,
    Stopped = 3,
    Completed = 4,
    Failed = 5,
    Disconnected = 6,
}

impl PipelineState {
    /// Whether nothing more comes.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Completed | Self::Failed)
    }
}

/// A command of a pipeline with its arguments; an argument without a name is positional.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The cmdlet's name, or a script's text.
    pub name: String,
    /// Whether `name` is a script.
    pub is_script: bool,
    /// Arguments in order.
    pub arguments: Vec<(Option<String>, Value)>,
}

impl Command {
    /// A cmdlet without arguments.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), is_script: false, arguments: Vec::new() }
    }

    /// Adds a named argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.push((Some(name.to_owned()), value.into()));
        self
    }
}

/// An error record, with all its parts: never flattened to a string.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ErrorRecord {
    /// The exception's message.
    pub message: String,
    /// What is shown in its place, where there is one (`ErrorDetails`).
    pub details: String,
    /// What PowerShell recommends (`ErrorDetails`).
    pub advice: String,
    /// The messages of the exceptions inside it, the outer ones first.
    pub inner: Vec<String>,
    /// The exception's type, such as `System.Management.Automation.CommandNotFoundException`.
    pub exception: String,
    /// `FullyQualifiedErrorId`.
    pub id: String,
    /// The category's number (MS-PSRP 2.2.3.9).
    pub category: i32,
    /// The category's activity: the cmdlet.
    pub activity: String,
    /// The category's reason: the exception's short name.
    pub reason: String,
    /// The category's target name.
    pub target: String,
    /// The category's target type.
    pub target_type: String,
    /// What `CategoryInfo` prints.
    pub category_message: String,
}

/// A progress record (`reference/wire-pep.md` row 17).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgressRecord {
    /// What goes on.
    pub activity: String,
    /// Which activity.
    pub activity_id: i32,
    /// Where it is.
    pub status: String,
    /// What it does just now.
    pub operation: String,
    /// 0 to 100, or -1 for unknown.
    pub percent: i32,
    /// Seconds left, or -1 for unknown.
    pub seconds_remaining: i32,
    /// Whether it has ended.
    pub completed: bool,
}

/// A call of the server to the client's host: a prompt, for example.
#[derive(Debug, Clone, PartialEq)]
pub struct HostCall {
    /// The call's id; a void method has a negative one and waits for no answer.
    pub call: i64,
    /// The method's number (MS-PSRP 2.2.3.17).
    pub method: i32,
    /// The method's name.
    pub name: String,
}

/// SESSION_CAPABILITY. `protocol` is 2.3 for every version since PowerShell 5.
#[must_use]
pub fn session_capability(powershell: &str) -> String {
    to_xml(
        &Object::bare([
            ("protocolversion", Value::Version("2.3".into())),
            ("PSVersion", Value::Version(powershell.into())),
            ("SerializationVersion", Value::Version("1.1.0.1".into())),
        ])
        .into(),
    )
}

fn host_info() -> Object {
    Object::bare([
        ("_isHostNull", true),
        ("_isHostUINull", true),
        ("_isHostRawUINull", true),
        ("_useRunspaceHost", true),
    ])
}

/// INIT_RUNSPACEPOOL for one runspace and no host.
#[must_use]
pub fn init_runspace_pool() -> String {
    to_xml(
        &Object::bare([
            ("MinRunspaces", Value::I32(1)),
            ("MaxRunspaces", Value::I32(1)),
            (
                "PSThreadOptions",
                Object::enumeration("System.Management.Automation.Runspaces.PSThreadOptions", "Default", 0).into(),
            ),
            (
                "ApartmentState",
                Object::enumeration("System.Management.Automation.Runspaces.ApartmentState", "Unknown", 2).into(),
            ),
            ("HostInfo", host_info().into()),
            ("ApplicationArguments", Value::Null),
        ])
        .into(),
    )
}

/// CREATE_PIPELINE.
#[must_use]
pub fn create_pipeline(commands: &[Command]) -> String {
    let none = || -> Value {
        Object::enumeration("System.Management.Automation.Runspaces.PipelineResultTypes", "None", 0).into()
    };
    let list = |items: Vec<Value>| -> Value {
        let mut object = Object::list(items);
        object.types = vec![
            concat!(
                "System.Collections.Generic.List`1[[System.Management.Automation.PSObject, ",
                "System.Management.Automation, Version=3.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35]]"
            )
            .into(),
            "System.Object".into(),
        ];
        object.into()
    };
    let commands = commands
        .iter()
        .map(|command| {
            let arguments = command
                .arguments
                .iter()
                .map(|(name, value)| {
                    let name = name.clone().map_or(Value::Null, Value::String);
                    Object::bare([("N", name), ("V", value.clone())]).into()
                })
                .collect();
            let mut properties = vec![
                ("Cmd", Value::from(command.name.as_str())),
                ("Args", list(arguments)),
                ("IsScript", command.is_script.into()),
                ("UseLocalScope", Value::Null),
            ];
            for merge in [
                "MergeMyResult",
                "MergeToResult",
                "MergePreviousResults",
                "MergeError",
                "MergeWarning",
                "MergeVerbose",
                "MergeDebug",
                "MergeInformation",
            ] {
                properties.push((merge, none()));
            }
            Object::bare(properties).into()
        })
        .collect();
    let pipeline = Object::bare([
        ("IsNested", Value::Bool(false)),
        ("ExtraCmds", Value::Null),
        ("Cmds", list(commands)),
        ("History", Value::Null),
        ("RedirectShellErrorOutputPipe", Value::Bool(false)),
    ]);
    to_xml(
        &Object::bare([
            ("NoInput", Value::Bool(true)),
            (
                "ApartmentState",
                Object::enumeration("System.Management.Automation.Runspaces.ApartmentState", "Unknown", 2).into(),
            ),
            (
                "RemoteStreamOptions",
                Object::enumeration("System.Management.Automation.RemoteStreamOptions", "0", 0).into(),
            ),
            ("AddToHistory", Value::Bool(false)),
            ("HostInfo", host_info().into()),
            ("PowerShell", pipeline.into()),
            ("IsNested", Value::Bool(false)),
        ])
        .into(),
    )
}

/// The commands of a CREATE_PIPELINE. Argument names may come as `Name`, `-Name` or `-Name:`.
///
/// # Errors
/// Not a CREATE_PIPELINE.
pub fn read_create_pipeline(data: &str) -> Result<Vec<Command>, DecodeError> {
    let value = from_xml(data)?;
    let pipeline = value.get("PowerShell").ok_or(DecodeError::Missing("PowerShell"))?;
    let commands = pipeline.get("Cmds").and_then(Value::items).ok_or(DecodeError::Missing("Cmds"))?;
    commands
        .iter()
        .map(|command| {
            let name = command.get("Cmd").and_then(Value::text).ok_or(DecodeError::Missing("Cmd"))?;
            let arguments = command.get("Args").and_then(Value::items).unwrap_or_default();
            Ok(Command {
                name: name.to_owned(),
                is_script: command.get("IsScript").and_then(Value::bool).unwrap_or(false),
                arguments: arguments
                    .iter()
                    .map(|argument| {
                        let name = argument.get("N").and_then(Value::text);
                        let name = name.map(|n| n.trim_start_matches('-').trim_end_matches(':').to_owned());
                        (name, argument.get("V").cloned().unwrap_or(Value::Null))
                    })
                    .collect(),
            })
        })
        .collect()
}

/// RUNSPACEPOOL_STATE.
#[must_use]
pub fn pool_state(state: PoolState) -> String {
    to_xml(&Object::bare([("RunspaceState", Value::I32(state as i32))]).into())
}

/// The number and, if broken, the error of a RUNSPACEPOOL_STATE.
///
/// # Errors
/// Not a RUNSPACEPOOL_STATE.
pub fn read_pool_state(data: &str) -> Result<(i64, Option<ErrorRecord>), DecodeError> {
    let value = from_xml(data)?;
    let state = value.get("RunspaceState").and_then(Value::integer).ok_or(DecodeError::Missing("RunspaceState"))?;
    Ok((state, value.get("ExceptionAsErrorRecord").map(read_error_value)))
}

/// PIPELINE_STATE, with the terminating error if it failed.
#[must_use]
pub fn pipeline_state(state: PipelineState, error: Option<&ErrorRecord>) -> String {
    let mut properties = vec![("PipelineState", Value::I32(state as i32))];
    if let Some(error) = error {
        properties.push(("ExceptionAsErrorRecord", error_value(error)));
    }
    to_xml(&Object::bare(properties).into())
}

/// Reads a PIPELINE_STATE.
///
/// # Errors
/// Not a PIPELINE_STATE.
pub fn read_pipeline_state(data: &str) -> Result<(PipelineState, Option<ErrorRecord>), DecodeError> {
    let value = from_xml(data)?;
    let number = value.get("PipelineState").and_then(Value::integer).ok_or(DecodeError::Missing("PipelineState"))?;
    let state = match number {
        0 => PipelineState::NotStarted,
        1 => PipelineState::Running,
        2 => PipelineState::Stopping,
        3 => PipelineState::Stopped,
        4 => PipelineState::Completed,
        5 => PipelineState::Failed,
        6 => PipelineState::Disconnected,
        other => return Err(DecodeError::malformed("a pipeline state", &other.to_string())),
    };
    Ok((state, value.get("ExceptionAsErrorRecord").filter(|v| **v != Value::Null).map(read_error_value)))
}

/// The text of the commonest categories (MS-PSRP 2.2.3.9), as `CategoryInfo` prints them.
fn category_name(category: i32) -> &'static str {
    match category {
        1 => "OpenError",
        4 => "DeviceError",
        5 => "InvalidArgument",
        6 => "InvalidData",
        7 => "InvalidOperation",
        8 => "InvalidResult",
        9 => "InvalidType",
        13 => "ObjectNotFound",
        14 => "OperationStopped",
        15 => "OperationTimeout",
        17 => "ParserError",
        18 => "PermissionDenied",
        19 => "ResourceBusy",
        28 => "SecurityError",
        _ => "NotSpecified",
    }
}

fn error_value(error: &ErrorRecord) -> Value {
    let types = || vec![error.exception.clone(), "System.Exception".into(), "System.Object".into()];
    let within = error.inner.iter().rfold(Value::Null, |inside, message| {
        let adapted = vec![("Message".into(), Value::from(message.as_str())), ("InnerException".into(), inside)];
        Object { types: types(), text: Some(message.clone()), adapted, ..Object::default() }.into()
    });
    let exception = Object {
        types: types(),
        text: Some(format!("{}: {}", error.exception, error.message)),
        adapted: vec![("Message".into(), Value::from(error.message.as_str())), ("InnerException".into(), within)],
        ..Object::default()
    };
    let category_message = if error.category_message.is_empty() {
        format!(
            "{}: ({}:{}) [{}], {}",
            category_name(error.category),
            error.target,
            error.target_type,
            error.activity,
            error.reason
        )
    } else {
        error.category_message.clone()
    };
    let details = [("ErrorDetails_Message", &error.details), ("ErrorDetails_RecommendedAction", &error.advice)];
    let details = details.into_iter().filter(|(_, text)| !text.is_empty());
    let mut object = Object {
        types: vec!["System.Management.Automation.ErrorRecord".into(), "System.Object".into()],
        text: Some(error.shown().to_owned()),
        extended: vec![
            ("Exception".into(), exception.into()),
            ("TargetObject".into(), if error.target.is_empty() { Value::Null } else { error.target.as_str().into() }),
            ("FullyQualifiedErrorId".into(), error.id.as_str().into()),
            ("InvocationInfo".into(), Value::Null),
            ("ErrorCategory_Category".into(), Value::I32(error.category)),
            ("ErrorCategory_Activity".into(), error.activity.as_str().into()),
            ("ErrorCategory_Reason".into(), error.reason.as_str().into()),
            ("ErrorCategory_TargetName".into(), error.target.as_str().into()),
            ("ErrorCategory_TargetType".into(), error.target_type.as_str().into()),
            ("ErrorCategory_Message".into(), category_message.into()),
            ("SerializeExtendedInfo".into(), Value::Bool(false)),
        ],
        ..Object::default()
    };
    object.extended.extend(details.map(|(name, text)| (name.to_owned(), text.as_str().into())));
    object.into()
}

impl ErrorRecord {
    /// Roughly how many bytes of memory it holds.
    pub(crate) fn weight(&self) -> usize {
        let texts =
            [&self.message, &self.details, &self.advice, &self.exception, &self.id, &self.activity, &self.reason];
        let texts = texts.into_iter().chain([&self.target, &self.target_type, &self.category_message]);
        size_of::<Self>() + texts.chain(&self.inner).map(|text| size_of::<String>() + text.len()).sum::<usize>()
    }

    /// What PowerShell itself shows of it.
    #[must_use]
    pub fn shown(&self) -> &str {
        if self.details.is_empty() { &self.message } else { &self.details }
    }

    /// All places where its cause may stand: what is shown first, each text once.
    #[must_use]
    pub fn words(&self) -> Vec<&str> {
        let all = [self.shown(), &self.message].into_iter().chain(self.inner.iter().map(String::as_str));
        let mut words: Vec<&str> = Vec::new();
        for word in all.chain([self.advice.as_str()]).map(str::trim).filter(|word| !word.is_empty()) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words
    }

    /// All texts that may quote what was sent.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let own = [&mut self.message, &mut self.details, &mut self.advice, &mut self.target, &mut self.id];
        own.into_iter().chain([&mut self.category_message]).chain(&mut self.inner)
    }
}

/// ERROR_RECORD.
#[must_use]
pub fn error_record(error: &ErrorRecord) -> String {
    to_xml(&error_value(error))
}

/// Reads an ERROR_RECORD.
///
/// # Errors
/// Not CLIXML.
pub fn read_error_record(data: &str) -> Result<ErrorRecord, DecodeError> {
    Ok(read_error_value(&from_xml(data)?))
}

fn read_error_value(value: &Value) -> ErrorRecord {
    let text = |name: &str| value.get(name).and_then(Value::text).unwrap_or_default().to_owned();
    let exception = value.get("Exception");
    let message =
        exception.and_then(|e| e.get("Message")).and_then(Value::text).or_else(|| value.text()).unwrap_or_default();
    let mut within = Vec::new();
    if let Some(exception) = exception {
        inner(exception, &mut within);
    }
    let kind = exception.and_then(Value::object).and_then(|e| e.types.first().cloned()).unwrap_or_default();
    ErrorRecord {
        message: message.to_owned(),
        details: text("ErrorDetails_Message"),
        advice: text("ErrorDetails_RecommendedAction"),
        inner: within,
        exception: kind.strip_prefix("Deserialized.").unwrap_or(&kind).to_owned(),
        id: text("FullyQualifiedErrorId"),
        category: value.get("ErrorCategory_Category").and_then(Value::integer).unwrap_or(0) as i32,
        activity: text("ErrorCategory_Activity"),
        reason: text("ErrorCategory_Reason"),
        target: text("ErrorCategory_TargetName"),
        target_type: text("ErrorCategory_TargetType"),
        category_message: text("ErrorCategory_Message"),
    }
}

/// The messages of the exceptions inside an exception. A value has no more levels than its reader takes.
fn inner(exception: &Value, messages: &mut Vec<String>) {
    for name in ["InnerException", "InnerExceptions", "SerializedRemoteException"] {
        let Some(value) = exception.get(name) else { continue };
        for one in value.items().unwrap_or(std::slice::from_ref(value)) {
            // Below the depth that is carried there is its text alone.
            let message = one.get("Message").and_then(Value::text).or_else(|| one.text()).unwrap_or_default();
            if !message.is_empty() && !messages.iter().any(|known| known == message) {
                messages.push(message.to_owned());
            }
            inner(one, messages);
        }
    }
}

/// VERBOSE_RECORD, WARNING_RECORD or DEBUG_RECORD.
#[must_use]
pub fn informational_record(message: &str) -> String {
    to_xml(
        &Object {
            text: Some(message.into()),
            extended: vec![
                ("InformationalRecord_Message".into(), message.into()),
                ("InformationalRecord_SerializeInvocationInfo".into(), Value::Bool(false)),
            ],
            ..Object::default()
        }
        .into(),
    )
}

/// The message of a VERBOSE_RECORD, WARNING_RECORD or DEBUG_RECORD.
///
/// # Errors
/// Not CLIXML.
pub fn read_informational_record(data: &str) -> Result<String, DecodeError> {
    let value = from_xml(data)?;
    let message = value.get("InformationalRecord_Message").and_then(Value::text).or_else(|| value.text());
    Ok(message.unwrap_or_default().to_owned())
}

/// The text of an INFORMATION_RECORD: a line of Write-Host, a text, or an object's text form.
///
/// # Errors
/// Not CLIXML.
pub fn read_information_record(data: &str) -> Result<String, DecodeError> {
    let value = from_xml(data)?;
    let said = value.get("MessageData");
    let text =
        said.and_then(|said| said.get("Message").and_then(Value::text).map(str::to_owned).or_else(|| said.display()));
    Ok(text.unwrap_or_default())
}

/// PROGRESS_RECORD.
#[must_use]
pub fn progress_record(progress: &ProgressRecord) -> String {
    let kind = if progress.completed { ("Completed", 1) } else { ("Processing", 0) };
    to_xml(
        &Object::bare([
            ("Activity", Value::from(progress.activity.as_str())),
            ("ActivityId", progress.activity_id.into()),
            ("StatusDescription", progress.status.as_str().into()),
            (
                "CurrentOperation",
                if progress.operation.is_empty() { Value::Null } else { progress.operation.as_str().into() },
            ),
            ("ParentActivityId", (-1).into()),
            ("PercentComplete", progress.percent.into()),
            ("Type", Object::enumeration("System.Management.Automation.ProgressRecordType", kind.0, kind.1).into()),
            ("SecondsRemaining", progress.seconds_remaining.into()),
        ])
        .into(),
    )
}

/// Reads a PROGRESS_RECORD.
///
/// # Errors
/// Not CLIXML.
pub fn read_progress_record(data: &str) -> Result<ProgressRecord, DecodeError> {
    let value = from_xml(data)?;
    let text = |name: &str| value.get(name).and_then(Value::text).unwrap_or_default().to_owned();
    let number = |name: &str| value.get(name).and_then(Value::integer).unwrap_or(-1) as i32;
    Ok(ProgressRecord {
        activity: text("Activity"),
        activity_id: number("ActivityId"),
        status: text("StatusDescription"),
        operation: text("CurrentOperation"),
        percent: number("PercentComplete"),
        seconds_remaining: number("SecondsRemaining"),
        completed: number("Type") == 1,
    })
}

/// Reads a host call.
///
/// # Errors
/// Not a host call.
pub fn read_host_call(data: &str) -> Result<HostCall, DecodeError> {
    let value = from_xml(data)?;
    let method = value.get("mi").ok_or(DecodeError::Missing("mi"))?;
    Ok(HostCall {
        call: value.get("ci").and_then(Value::integer).ok_or(DecodeError::Missing("ci"))?,
        method: method.integer().ok_or(DecodeError::Missing("mi"))? as i32,
        name: method.text().unwrap_or_default().to_owned(),
    })
}

/// The answer that declines a host call: an error, so that the server does not hang on us.
#[must_use]
pub fn decline_host_call(call: &HostCall) -> String {
    let error = ErrorRecord {
        message: format!("{} is not available: this client runs without a host.", call.name),
        exception: "System.Management.Automation.Host.HostException".into(),
        id: "HostFunctionNotImplemented".into(),
        category: 7,
        reason: "HostException".into(),
        ..ErrorRecord::default()
    };
    to_xml(
        &Object::bare([
            ("ci", Value::I64(call.call)),
            (
                "mi",
                Object::enumeration(
                    "System.Management.Automation.Remoting.RemoteHostMethodId",
                    &call.name,
                    call.method,
                )
                .into(),
            ),
            ("me", error_value(&error)),
        ])
        .into(),
    )
}

/// APPLICATION_PRIVATE_DATA with the version table that clients look for.
#[must_use]
pub fn application_private_data(powershell: &str) -> String {
    use crate::clixml::Content;
    let dictionary = |entries: Vec<(Value, Value)>| Object {
        types: vec![
            "System.Management.Automation.PSPrimitiveDictionary".into(),
            "System.Collections.Hashtable".into(),
            "System.Object".into(),
        ],
        content: Content::Dictionary(entries),
        ..Object::default()
    };
    let table = dictionary(vec![
        ("PSVersion".into(), Value::Version(powershell.into())),
        ("PSRemotingProtocolVersion".into(), Value::Version("2.3".into())),
        ("SerializationVersion".into(), Value::Version("1.1.0.1".into())),
    ]);
    let data = dictionary(vec![("PSVersionTable".into(), table.into())]);
    to_xml(&Object::bare([("ApplicationPrivateData", data)]).into())
}

/// RUNSPACE_AVAILABILITY: the answer to a call about runspaces.
#[must_use]
pub fn runspace_availability(call: i64, answer: Value) -> String {
    to_xml(&Object::bare([("SetMinMaxRunspacesResponse", answer), ("ci", Value::I64(call))]).into())
}

/// The call id of a pool-level message, if it has one.
///
/// # Errors
/// Not CLIXML.
pub fn read_call_id(data: &str) -> Result<Option<i64>, DecodeError> {
    Ok(from_xml(data)?.get("ci").and_then(Value::integer))
}

/// A one-member message such as PUBLIC_KEY (`PublicKey`) or ENCRYPTED_SESSION_KEY (`EncryptedSessionKey`).
#[must_use]
pub fn one_text(member: &str, text: &str) -> String {
    to_xml(&Object::bare([(member, text)]).into())
}

/// The member of a one-member message.
///
/// # Errors
/// Not CLIXML, or without that member.
pub fn read_one_text(data: &str, member: &'static str) -> Result<String, DecodeError> {
    let value = from_xml(data)?;
    Ok(value.get(member).and_then(Value::text).ok_or(DecodeError::Missing(member))?.to_owned())
}

/// A nil pipeline id means the pool.
#[must_use]
pub fn pool_level() -> Uuid {
    Uuid::nil()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CREATE_PIPELINE as pypsrp 0.9.1 writes it, shortened to what matters.
    #[test]
    fn a_pipeline_of_pypsrp_is_read() {
        let data = r#"<Obj RefId="0"><MS><B N="NoInput">true</B><Obj RefId="4" N="PowerShell"><MS><B N="IsNested">false</B><Nil N="ExtraCmds" /><Obj RefId="5" N="Cmds"><TN RefId="2"><T>System.Collections.Generic.List`1[[System.Management.Automation.PSObject, System.Management.Automation, Version=1.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35]]</T><T>System.Object</T></TN><LST><Obj RefId="6"><MS><S N="Cmd">Get-X</S><B N="IsScript">false</B><Nil N="UseLocalScope" /><Obj RefId="10" N="Args"><TNRef RefId="2" /><LST><Obj RefId="11"><MS><S N="N">A</S><S N="V">b</S></MS></Obj><Obj RefId="12"><MS><S N="N">-Sw:</S><B N="V">true</B></MS></Obj><Obj RefId="13"><MS><S N="N">Flag</S><Nil N="V" /></MS></Obj><Obj RefId="14"><MS><Nil N="N" /><I32 N="V">5</I32></MS></Obj></LST></Obj></MS></Obj></LST></Obj></MS></Obj></MS></Obj>"#;
        let commands = read_create_pipeline(data).unwrap();
        let expected = Command {
            name: "Get-X".into(),
            is_script: false,
            arguments: vec![
                (Some("A".into()), "b".into()),
                (Some("Sw".into()), true.into()),
                (Some("Flag".into()), Value::Null),
                (None, 5.into()),
            ],
        };
        assert_eq!(commands, [expected]);
    }

    #[test]
    fn our_pipeline_is_read_back() {
        let command = Command::new("New-RegistrationToken").with("BillingModel", "Capacity").with("AsJob", true);
        assert_eq!(read_create_pipeline(&create_pipeline(std::slice::from_ref(&command))).unwrap(), [command]);
    }

    #[test]
    fn errors_keep_all_their_parts() {
        let error = ErrorRecord {
            message: "The term 'X' is not recognized.".into(),
            details: "'X' is missing here.".into(),
            advice: "Look for X.".into(),
            inner: vec!["outer".into(), "innermost".into()],
            exception: "System.Management.Automation.CommandNotFoundException".into(),
            id: "CommandNotFoundException".into(),
            category: 13,
            activity: "X".into(),
            reason: "CommandNotFoundException".into(),
            target: "X".into(),
            target_type: "String".into(),
            category_message: "ObjectNotFound: (X:String) [], CommandNotFoundException".into(),
        };
        assert_eq!(read_error_record(&error_record(&error)).unwrap(), error);
        let (state, carried) = read_pipeline_state(&pipeline_state(PipelineState::Failed, Some(&error))).unwrap();
        assert_eq!((state, carried), (PipelineState::Failed, Some(error)));
    }
}
