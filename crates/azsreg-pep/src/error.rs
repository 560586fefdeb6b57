//! What can go wrong between here and a stamp, and what it means.

use azsreg_model::redact::of_server;
use azsreg_model::{Problem, code};
use azsreg_operations::ports::{Class, PortError};
use azsreg_psrp::DecodeError;
use azsreg_psrp::wsman::{CODE_MAX_SHELLS, CODE_NO_CONFIGURATION, CODE_NO_SHELL, Fault, ResponseError};
use thiserror::Error;

use crate::address::PepAddress;
use crate::failure::Failure;
use crate::session::ACCESS_DENIED;

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
        /// Whether that was earlier in this process: nothing was sent now.
        before: bool,
    },
    /// The proof of the password was sent, and what became of it is not known.
    #[error("the privileged endpoint {address} took the sign-in of {user} and did not say what became of it: {reason}")]
    Unproven {
        /// Which one.
        address: String,
        /// Who.
        user: String,
        /// What came in place of an answer.
        reason: String,
        /// Whether that was earlier in this process: nothing was sent now.
        before: bool,
    },
    /// The endpoint takes back what makes a sign-in safe. Nothing of the password was sent.
    #[error("{address} does not offer {lacks}")]
    Weak {
        /// Which one.
        address: String,
        /// What.
        lacks: String,
    },
    /// An answer is not signed as the password gives it.
    #[error("an answer of {address} is not signed by the stamp")]
    NotGenuine {
        /// Which one.
        address: String,
    },
    /// More than we take.
    #[error("{address} went over the limit of {limit}: {what}")]
    Over {
        /// Which one.
        address: String,
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Nothing came.
    #[error("{address} gave no answer to {asked} within {seconds} s")]
    Silent {
        /// Which one.
        address: String,
        /// What was asked.
        asked: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The certificate is not trusted, or there is nothing to trust.
    #[error("{}", .0.message)]
    Untrusted(Box<Problem>),
    /// The account is known there, and not admitted.
    #[error("{address} does not admit {user}: {reason}")]
    NotAllowed {
        /// Which one.
        address: String,
        /// Who.
        user: String,
        /// What it said.
        reason: String,
    },
    /// It does not sign in with NTLM. Nothing of the password was sent.
    #[error("{address} does not take NTLM: {came}")]
    NoNtlm {
        /// Which one.
        address: String,
        /// What shows it.
        came: String,
    },
    /// TLS where plain HTTP was spoken, or the other way round.
    #[error("{address} {came}")]
    Scheme {
        /// Which one.
        address: PepAddress,
        /// What came.
        came: String,
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
        /// Whether it is certain that the endpoint did not take the request.
        untaken: bool,
    },
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
    #[error("{cmdlet} failed: {}", failure.record.shown())]
    Cmdlet {
        /// The cmdlet.
        cmdlet: String,
        /// What it said, whole.
        failure: Box<Failure>,
    },
    /// A cmdlet did not end in time.
    #[error("{cmdlet} did not end within {minutes} minutes at {address}")]
    TooLong {
        /// Where.
        address: String,
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

/// What an error leaves of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// All of it: the next command goes there.
    Session,
    /// The shell alone: the connection is of no use any more.
    Shell,
    /// A shell that is of no use any more.
    Remains,
    /// Nothing that could be closed.
    Nothing,
}

impl From<ResponseError> for PepError {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Fault(fault) => Self::Fault(fault),
            ResponseError::Decode(error) => Self::Decode(error),
        }
    }
}

impl From<Problem> for PepError {
    fn from(problem: Problem) -> Self {
        Self::Untrusted(Box::new(problem))
    }
}

impl PepError {
    /// What becomes of the session that it came from.
    pub(crate) fn leaves(&self) -> Leaves {
        match self {
            Self::Cmdlet { .. } | Self::Output { .. } => Leaves::Session,
            Self::Fault(fault) if fault.code == CODE_NO_SHELL => Leaves::Nothing,
            Self::Fault(_) => Leaves::Session,
            Self::Dropped { .. } | Self::Silent { .. } | Self::Status(_) => Leaves::Shell,
            Self::Decode(_) | Self::TooLong { .. } => Leaves::Remains,
            // Whoever answers so is not the stamp, or is not to be asked again.
            _ => Leaves::Nothing,
        }
    }

    /// Whether it is certain that the endpoint did not take the request.
    pub(crate) fn is_untaken(&self) -> bool {
        matches!(self, Self::Dropped { untaken: true, .. })
    }
}

impl From<PepError> for PortError {
    fn from(error: PepError) -> Self {
        let message = match &error {
            // The other side's own words.
            PepError::Fault(_) | PepError::NotAllowed { .. } => of_server(&error.to_string()).into_owned(),
            _ => error.to_string(),
        };
        let permanent = |entry| Self::permanent(Problem::new(entry, message.clone()));
        let passing = |entry| Self::new(Class::Transient, Problem::new(entry, message.clone()));
        match &error {
            PepError::Unreachable { .. } => permanent(&code::PEP_UNREACHABLE),
            PepError::Refused { before, .. } => {
                let counted = if *before {
                    "That was earlier in this run: the password was not sent to it again."
                } else {
                    "The attempt counts against the account. azsreg makes no second one in this run."
                };
                Self::new(Class::Refused, Problem::new(&code::PEP_REFUSED, message).detail(counted))
            }
            PepError::Unproven { before, .. } => {
                let counted = if *before {
                    "That was earlier in this run: the password was not sent to it again."
                } else {
                    "The attempt may have counted against the account. azsreg makes no second one in this run."
                };
                Self::new(Class::Refused, Problem::new(&code::PEP_UNPROVEN, message).detail(counted))
            }
            PepError::Weak { .. } => Self::new(Class::Refused, Problem::new(&code::PEP_WEAK, message)),
            PepError::NotGenuine { .. } => Self::new(Class::Refused, Problem::new(&code::PEP_NOT_GENUINE, message)),
            PepError::Over { .. } => permanent(&code::PEP_OVER_LIMIT),
            PepError::Decode(DecodeError::Limit { .. }) => permanent(&code::PEP_OVER_LIMIT),
            PepError::Silent { .. } => passing(&code::PEP_SILENT),
            PepError::Untrusted(problem) => Self::permanent((**problem).clone()),
            PepError::NotAllowed { .. } => Self::new(Class::Refused, Problem::new(&code::PEP_NOT_ALLOWED, message)),
            PepError::NoNtlm { .. } => Self::new(Class::Refused, Problem::new(&code::PEP_NO_NTLM, message)),
            PepError::Scheme { address, .. } => Self::permanent(of_scheme(address, message)),
            PepError::NotSealed { .. } => permanent(&code::PEP_NOT_SEALED),
            PepError::Dropped { .. } => passing(&code::PEP_DROPPED),
            PepError::Status(500..) => passing(&code::PEP_DROPPED),
            PepError::Status(_) => Self::permanent(Problem::new(&code::PEP_PROTOCOL, message).cause(
                "WinRM does not answer so: another service, or something in between, answers at this address.",
            )),
            PepError::Decode(_) => permanent(&code::PEP_PROTOCOL),
            PepError::Fault(fault) if fault.code == CODE_NO_CONFIGURATION => {
                let problem = Problem::new(&code::PEP_CONFIGURATION, "the session configuration does not exist there");
                Self::permanent(problem.detail(fault.reason.clone()))
            }
            PepError::Fault(fault) if fault.code == CODE_NO_SHELL => passing(&code::PEP_DROPPED),
            PepError::Fault(fault) if no_session(fault) => {
                Self::new(Class::Busy, Problem::new(&code::PEP_SESSIONS_USED, NO_SESSION).detail(fault.reason.clone()))
            }
            PepError::Fault(fault) if fault.code == ACCESS_DENIED => {
                Self::new(Class::Refused, Problem::new(&code::PEP_NOT_ALLOWED, message))
            }
            PepError::Fault(_) => Self::permanent(Problem::new(&code::PEP_PROTOCOL, message).cause(
                "It is WinRM, and it refuses the request for the reason that it gives.",
            ).next("Mend what it complains of, or name another ERCS machine with --pep.")),
            PepError::TooLong { .. } => passing(&code::STAMP_TIMEOUT),
            PepError::Output { cmdlet: "Get-AzureStackStampInformation", .. } => permanent(&code::STAMP_INFORMATION),
            // The session's seal shows that it is the stamp.
            PepError::Output { .. } => Self::permanent(Problem::new(&code::PEP_PROTOCOL, message).cause(
                "The stamp answered, and the answer lacks what azsreg needs: its build is of a kind that azsreg does not know.",
            ).next("Please report this with the stamp's build (azsreg stamp info) and the output of the same command with -v.")),
            PepError::Cmdlet { cmdlet, failure } => failure.meaning(cmdlet),
        }
    }
}

/// What is said while a session is waited for.
pub(crate) const NO_SESSION: &str = "no session left at the privileged endpoint: others are open, or were left behind";

/// Whether the account has as many shells as it may have.
pub(crate) fn no_session(fault: &Fault) -> bool {
    fault.code == CODE_MAX_SHELLS || fault.subcode.ends_with("QuotaLimit")
}

/// Which scheme goes with which port.
fn of_scheme(address: &PepAddress, message: String) -> Problem {
    let PepAddress { tls, host, port } = address;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let problem = Problem::new(&code::PEP_SCHEME, message);
    match (tls, port) {
        (true, 5985) => problem
            .cause("5985 is WinRM's port for http; https is at 5986.")
            .next(format!("Use --pep {host} (http at 5985: azsreg seals what it sends), or --pep https://{host}:5986.")),
        (false, 5986) => problem
            .cause("5986 is WinRM's port for https; http is at 5985.")
            .next(format!("Use --pep https://{host}:5986, or --pep {host} (http at 5985: azsreg seals what it sends).")),
        (true, port) => problem
            .cause("What answers at this port does not speak TLS.")
            .next(format!("If it is WinRM for http: --pep http://{host}:{port}. A stamp's https is at 5986: --pep https://{host}:5986.")),
        (false, port) => problem
            .cause("What answers at this port speaks TLS.")
            .next(format!("If it is WinRM for https: --pep https://{host}:{port}. A stamp's http is at 5985: --pep {host}.")),
    }
}
