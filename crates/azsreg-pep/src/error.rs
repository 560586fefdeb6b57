//! What can go wrong between here and a stamp, and what it means.

use azsreg_model::redact::of_server;
use azsreg_model::{Problem, aadsts_number, aadsts_problem, code};
use azsreg_operations::ports::{Class, PortError};
use azsreg_psrp::DecodeError;
use azsreg_psrp::messages::ErrorRecord;
use azsreg_psrp::wsman::{CODE_NO_CONFIGURATION, CODE_NO_SHELL, Fault, ResponseError};
use thiserror::Error;

/// A failure of the privileged endpoint or of the way to it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PepError {
    /// No address answers.
    #[error("none of {addresses} answers: {reason}")]
    Unreachable {
        /// All that were tried.
        addresses: String,
        /// The last one's words.
        reason: String,
    },
    /// The sign-in was refused.
    #[error("the privileged endpoint {address} refused the sign-in of {user}")]
    Refused {
        /// Which one.
        address: String,
        /// Who.
        user: String,
    },
    /// The certificate is not trusted.
    #[error("the certificate of {address} is not trusted: {reason}")]
    Certificate {
        /// Whose.
        address: String,
        /// Why.
        reason: String,
    },
    /// Plain HTTP, and the endpoint did not seal.
    #[error("{address} answered without sealing")]
    NotSealed {
        /// Which one.
        address: String,
    },
    /// The connection broke.
    #[error("the connection to the privileged endpoint broke: {reason}")]
    Dropped {
        /// How.
        reason: String,
    },
    /// The authentication library failed on this side.
    #[error("the sign-in could not be computed")]
    Security(#[source] sspi::Error),
    /// An HTTP status that WinRM doesn't give.
    #[error("the privileged endpoint answered with HTTP status {0}")]
    Status(u16),
    /// A fault of the service.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Bytes that can't be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A cmdlet ended with an error.
    #[error("{cmdlet} failed: {}", record.message)]
    Cmdlet {
        /// The cmdlet.
        cmdlet: String,
        /// The error, whole.
        record: Box<ErrorRecord>,
    },
    /// A cmdlet did not end in time.
    #[error("{cmdlet} did not end within {minutes} minutes")]
    TooLong {
        /// The cmdlet.
        cmdlet: String,
        /// How long was waited.
        minutes: u64,
    },
    /// A cmdlet's output lacks something.
    #[error("{cmdlet} gave no usable {member}")]
    Output {
        /// The cmdlet.
        cmdlet: &'static str,
        /// What is missing.
        member: &'static str,
    },
}

impl From<ResponseError> for PepError {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Fault(fault) => Self::Fault(fault),
            ResponseError::Decode(error) => Self::Decode(error),
        }
    }
}

impl PepError {
    /// Whether the session is of no use any more.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        match self {
            Self::Cmdlet { .. } | Self::Output { .. } => false,
            Self::Fault(fault) => fault.code == CODE_NO_SHELL,
            _ => true,
        }
    }
}

impl From<PepError> for PortError {
    fn from(error: PepError) -> Self {
        let message = match &error {
            // The other side's own words.
            PepError::Fault(_) => of_server(&error.to_string()).into_owned(),
            _ => error.to_string(),
        };
        let permanent = |entry| Self::permanent(Problem::new(entry, message.clone()));
        let passing = |entry| Self::new(Class::Transient, Problem::new(entry, message.clone()));
        match &error {
            PepError::Unreachable { .. } => permanent(&code::PEP_UNREACHABLE),
            PepError::Refused { .. } => Self::new(Class::Refused, Problem::new(&code::PEP_REFUSED, message)),
            PepError::Certificate { .. } => permanent(&code::PEP_CERTIFICATE),
            PepError::NotSealed { .. } => permanent(&code::PEP_NOT_SEALED),
            PepError::Dropped { .. } => passing(&code::PEP_DROPPED),
            PepError::Status(500..) => passing(&code::PEP_DROPPED),
            PepError::Security(source) => {
                let problem = Problem::new(&code::PEP_PROTOCOL, message).detail(source.to_string());
                Self::permanent(problem)
            }
            PepError::Status(_) | PepError::Decode(_) => permanent(&code::PEP_PROTOCOL),
            PepError::Fault(fault) if fault.code == CODE_NO_CONFIGURATION => {
                let problem = Problem::new(&code::PEP_CONFIGURATION, "the session configuration does not exist there");
                Self::permanent(problem.detail(fault.reason.clone()))
            }
            PepError::Fault(fault) if fault.code == CODE_NO_SHELL => passing(&code::PEP_DROPPED),
            PepError::Fault(fault) if fault.code == 2_150_859_173 || fault.subcode.ends_with("QuotaLimit") => {
                let text = "the privileged endpoint has no session left: others are open, or were left behind";
                Self::new(Class::Busy, Problem::new(&code::STAMP_BUSY, text).detail(fault.reason.clone()))
            }
            PepError::Fault(fault) if fault.code == 5 => {
                Self::new(Class::Refused, Problem::new(&code::PEP_REFUSED, message))
            }
            PepError::Fault(_) => permanent(&code::PEP_PROTOCOL),
            PepError::TooLong { .. } => passing(&code::STAMP_TIMEOUT),
            PepError::Output { cmdlet: "Get-AzureStackStampInformation", .. } => permanent(&code::STAMP_INFORMATION),
            PepError::Output { .. } => permanent(&code::PEP_PROTOCOL),
            PepError::Cmdlet { cmdlet, record } => of_cmdlet(cmdlet, record),
        }
    }
}

/// What a cmdlet's error means (`facts-errors.md` section 4).
fn of_cmdlet(cmdlet: &str, record: &ErrorRecord) -> PortError {
    let text = record.message.as_str();
    let has = |part: &str| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
    let id = record.id.split(',').next().unwrap_or_default();
    let said = |entry, message: String| {
        let mut problem = Problem::new(entry, message).detail(text);
        if !record.id.is_empty() {
            problem = problem.detail(format!("FullyQualifiedErrorId: {}", record.id));
        }
        problem
    };
    if let Some(number) = aadsts_number(text) {
        return PortError::new(Class::Refused, aadsts_problem(number, text, true));
    }
    if has("another action is in progress") {
        let run = of_server(text.rsplit(':').next().unwrap_or_default().trim());
        let problem = said(&code::STAMP_BUSY, format!("the stamp is busy with another action ({run})"));
        return PortError::new(Class::Busy, problem);
    }
    if matches!(
        id,
        "CommandNotFoundException" | "NamedParameterNotFound" | "MissingMandatoryParameter" | "ScriptsNotAllowed"
    ) {
        return PortError::permanent(said(&code::CMDLET_UNKNOWN, format!("the stamp refused {cmdlet}")));
    }
    if has("mandatory hardware info") || has("to get hardware info") {
        return PortError::new(
            Class::Transient,
            said(&code::HARDWARE_INFORMATION, "the stamp could not read the hardware of a host".into()),
        );
    }
    if has("execution timeout") {
        return PortError::new(Class::Transient, said(&code::STAMP_TIMEOUT, format!("{cmdlet} took too long")));
    }
    if has("authorization_requestdenied") || has("status 403") || has("insufficient privileges") {
        let problem = said(&code::FORBIDDEN, "the directory forbids the stamp to make or change its principal".into());
        return PortError::permanent(problem.cause(
            "The caller may not register applications, or is not the owner of the stamp's bridge application.",
        ));
    }
    if cmdlet == "New-AzureBridgeServicePrincipal" && (has("is disconnected") || has("unable to connect")) {
        let problem = said(&code::STAMP_ACTION_FAILED, "the stamp can't reach Azure to make its principal".into());
        return PortError::permanent(
            problem
                .cause("The stamp is disconnected, or a firewall or proxy stands between it and Azure.")
                .next("For a disconnected stamp: azsreg offline token. Otherwise open the way, then run the same command again: it resumes."),
        );
    }
    if cmdlet == "New-AzureStackActivation" && has("activation key") {
        return PortError::permanent(said(&code::ACTIVATION_REFUSED, "the stamp refused the activation key".into()));
    }
    if cmdlet == "Get-AzureStackStampInformation" {
        return PortError::permanent(said(&code::STAMP_INFORMATION, "the stamp's information can't be read".into()));
    }
    if cmdlet == "Remove-AzureStackActivation" {
        return PortError::permanent(said(&code::DEACTIVATION_FAILED, "the stamp could not be deactivated".into()));
    }
    if has("ActivateAzureBridge") {
        return PortError::new(Class::Transient, said(&code::STAMP_ACTION_FAILED, format!("{cmdlet} failed")));
    }
    PortError::permanent(said(&code::STAMP_ACTION_FAILED, format!("{cmdlet} failed")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use azsreg_model::redact::remember;
    use azsreg_psrp::messages::read_pipeline_state;

    /// What PowerShell 7.6 sends for `throw "TEXT"`, but for members that are of no interest here: the text is the exception's
    /// message, the target and the FullyQualifiedErrorId.
    const THROWN: &str = r#"<Obj RefId="0"><MS><I32 N="PipelineState">5</I32><Obj N="ExceptionAsErrorRecord" RefId="1"><TN RefId="0"><T>System.Management.Automation.ErrorRecord</T><T>System.Object</T></TN><ToString>TEXT</ToString><MS><Obj N="Exception" RefId="2"><TN RefId="1"><T>System.Management.Automation.RuntimeException</T><T>System.SystemException</T><T>System.Exception</T><T>System.Object</T></TN><ToString>System.Management.Automation.RuntimeException: TEXT</ToString><Props><S N="ErrorRecord">TEXT</S><B N="WasThrownFromThrowStatement">true</B><Nil N="TargetSite" /><S N="Message">TEXT</S><Nil N="InnerException" /><Nil N="HelpLink" /><Nil N="Source" /><I32 N="HResult">-2146233087</I32><Nil N="StackTrace" /></Props></Obj><S N="TargetObject">TEXT</S><S N="FullyQualifiedErrorId">TEXT</S><Nil N="InvocationInfo" /><I32 N="ErrorCategory_Category">14</I32><S N="ErrorCategory_Activity"></S><S N="ErrorCategory_Reason">RuntimeException</S><S N="ErrorCategory_TargetName">TEXT</S><S N="ErrorCategory_TargetType">String</S><S N="ErrorCategory_Message">OperationStopped: (TEXT:String) [], RuntimeException</S></MS></Obj></MS></Obj>"#;

    fn told(cmdlet: &str, thrown: &str) -> Problem {
        let escaped = thrown.replace('&', "&amp;").replace('<', "&lt;").replace('\n', "_x000A_");
        let (_, record) = read_pipeline_state(&THROWN.replace("TEXT", &escaped)).unwrap();
        let error = PepError::Cmdlet { cmdlet: cmdlet.into(), record: Box::new(record.unwrap()) };
        *PortError::from(error).problem
    }

    #[test]
    fn what_a_throw_quotes_of_a_secret_is_in_no_part_of_the_problem() {
        let token = "1.AVsAq3V7xYCANARYq3V7xYq3V7xYq3V7xY.AgABAAEAAAD";
        remember(token);
        remember("hunter2!");
        for cmdlet in ["New-AzureBridgeServicePrincipal", "New-AzureStackActivation", "Get-AzureStackStampInformation"]
        {
            for text in [
                format!("the token {token} is not good, nor is hunter2!"),
                format!("Cannot invoke action plan because another action is in progress: {token} hunter2!"),
                format!("AADSTS50034: {token} of 'hunter2!' does not exist"),
                format!("wrapped: {}\n{} hunter2!", &token[..20], &token[20..]),
            ] {
                let shown = format!("{:?}", told(cmdlet, &text));
                assert!(!shown.contains("CANARY") && !shown.contains("hunter2"), "{shown}");
                assert!(shown.contains("[redacted]"), "{shown}");
            }
        }
        let problem = told("New-AzureStackActivation", &format!("the token {token} is not good"));
        assert_eq!(
            problem.details,
            ["the token [redacted] is not good", "FullyQualifiedErrorId: the token [redacted] is not good"]
        );
    }
}
