//! A session of the privileged endpoint: a runspace pool over one connection.

use std::time::Duration;

use azsreg_model::redact;
use azsreg_psrp::client::{Event, Outgoing, Pool};
use azsreg_psrp::clixml::{Object, Value};
use azsreg_psrp::messages::{Command, ErrorRecord, PipelineState, ProgressRecord};
use tokio::time::Instant;

use crate::address::PepAddress;
use crate::auth::{Credentials, Mechanism};
use crate::connection::Connection;
use crate::error::PepError;

/// How to reach a privileged endpoint.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its addresses, the preferred one first.
    pub addresses: Vec<PepAddress>,
    /// Who signs in.
    pub credentials: Credentials,
    /// How.
    pub mechanism: Mechanism,
    /// The session configuration.
    pub configuration: String,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// Authorities besides the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Where the session's transcript goes when it is closed.
    pub transcript: Option<Transcript>,
}

/// A share that the stamp writes the session's transcript to, and who may write there.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// Such as `\\\\host\\share`.
    pub share: String,
    /// Who.
    pub credentials: Credentials,
}

/// How long one request may take on the server; it then says that it has nothing yet.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);
/// How much longer we wait for that answer.
const GRACE: Duration = Duration::from_secs(30);
/// How long a cmdlet may take altogether. The stamp's own limit is half an hour.
const CMDLET_MINUTES: u64 = 45;

/// What a command gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Invocation {
    /// Output objects.
    pub output: Vec<Value>,
    /// Non-terminating errors.
    pub errors: Vec<ErrorRecord>,
    /// The warning stream.
    pub warnings: Vec<String>,
    /// The verbose stream.
    pub verbose: Vec<String>,
}

/// An open session. Close it: a shell that is left costs the stamp one of its few.
pub struct Session {
    connection: Connection,
    pool: Pool,
}

impl Session {
    /// Connects, signs in and opens a runspace pool.
    ///
    /// # Errors
    /// No address answers, the sign-in is refused, or the configuration is not there.
    pub async fn open(options: &Options) -> Result<Self, PepError> {
        let connection = Connection::open(options).await?;
        let url = connection.address().url();
        let pool = Pool::new(&url, &options.configuration, OPERATION_TIMEOUT);
        let mut session = Self { connection, pool };
        let sent = session.pool.open();
        let answer = session.exchange(&sent).await?;
        session.pool.opened(&sent, &answer)?;
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            for event in session.receive(None).await? {
                match event {
                    Event::PoolOpened => return Ok(session),
                    Event::PoolEnded(error) => {
                        let record = error.unwrap_or_default();
                        return Err(PepError::Cmdlet {
                            cmdlet: "opening the session".into(),
                            record: Box::new(record),
                        });
                    }
                    Event::HostCall(call) => session.decline(None, &call).await?,
                    _ => {}
                }
            }
            if Instant::now() > deadline {
                return Err(PepError::TooLong { cmdlet: "opening the session".into(), minutes: 2 });
            }
        }
    }

    async fn exchange(&mut self, sent: &Outgoing) -> Result<String, PepError> {
        self.connection.exchange(&sent.envelope, OPERATION_TIMEOUT + GRACE).await
    }

    async fn receive(&mut self, pipeline: Option<uuid::Uuid>) -> Result<Vec<Event>, PepError> {
        let sent = self.pool.receive(pipeline);
        let answer = self.exchange(&sent).await?;
        Ok(self.pool.received(&sent, &answer)?)
    }

    async fn decline(
        &mut self,
        pipeline: Option<uuid::Uuid>,
        call: &azsreg_psrp::messages::HostCall,
    ) -> Result<(), PepError> {
        tracing::debug!(method = call.name, "declined a host call");
        if call.call < 0 {
            return Ok(());
        }
        for sent in self.pool.decline(pipeline, call) {
            let answer = self.exchange(&sent).await?;
            self.pool.acknowledged(&sent, &answer)?;
        }
        Ok(())
    }

    /// Runs one command to its end. `progress` is told of progress as it comes.
    ///
    /// # Errors
    /// A terminating error, whole; or the connection broke, and the stamp may go on with the work.
    pub async fn invoke(
        &mut self,
        command: Command,
        progress: &dyn Fn(&ProgressRecord),
    ) -> Result<Invocation, PepError> {
        let name = command.name.clone();
        let (pipeline, requests) = self.pool.command(std::slice::from_ref(&command));
        for sent in &requests {
            let answer = self.exchange(sent).await?;
            self.pool.acknowledged(sent, &answer)?;
        }
        let deadline = Instant::now() + Duration::from_secs(CMDLET_MINUTES * 60);
        let mut result = Invocation::default();
        loop {
            for event in self.receive(Some(pipeline)).await? {
                match event {
                    Event::Output(value) => result.output.push(value),
                    Event::Error(record) => result.errors.push(record),
                    Event::Warning(text) => {
                        let text = redact::of_server(&text).into_owned();
                        tracing::warn!(cmdlet = name, "{text}");
                        result.warnings.push(text);
                    }
                    Event::Verbose(text) => {
                        let text = redact::of_server(&text).into_owned();
                        tracing::debug!(cmdlet = name, "{text}");
                        result.verbose.push(text);
                    }
                    Event::Debug(text) => tracing::trace!(cmdlet = name, "{}", redact::of_server(&text)),
                    Event::Progress(record) => progress(&record),
                    Event::HostCall(call) => self.decline(Some(pipeline), &call).await?,
                    Event::PipelineEnded(PipelineState::Completed, _) => return Ok(result),
                    Event::PipelineEnded(state, error) => {
                        let record = error.unwrap_or_else(|| ErrorRecord {
                            message: format!("the pipeline ended as {state:?} without an error"),
                            ..ErrorRecord::default()
                        });
                        return Err(PepError::Cmdlet { cmdlet: name, record: Box::new(record) });
                    }
                    Event::PoolEnded(_) => {
                        return Err(PepError::Dropped { reason: "the stamp closed the session".into() });
                    }
                    Event::PoolOpened => {}
                }
            }
            if Instant::now() > deadline {
                return Err(PepError::TooLong { cmdlet: name, minutes: CMDLET_MINUTES });
            }
        }
    }

    /// A credential as a cmdlet takes it: the password under the session key.
    ///
    /// # Errors
    /// The endpoint gave no key in time, or the connection broke.
    pub async fn credential(&mut self, credentials: &Credentials) -> Result<Value, PepError> {
        use secrecy::ExposeSecret as _;
        for sent in self.pool.exchange_key()? {
            let answer = self.exchange(&sent).await?;
            self.pool.acknowledged(&sent, &answer)?;
        }
        let deadline = Instant::now() + OPERATION_TIMEOUT + GRACE;
        let password = loop {
            if let Some(value) = self.pool.secure_string(credentials.password.expose_secret())? {
                break value;
            }
            if Instant::now() > deadline {
                return Err(PepError::TooLong { cmdlet: "the session key".into(), minutes: 1 });
            }
            self.receive(None).await?;
        };
        Ok(Object {
            types: vec!["System.Management.Automation.PSCredential".into(), "System.Object".into()],
            adapted: vec![("UserName".into(), credentials.user.as_str().into()), ("Password".into(), password)],
            ..Object::default()
        }
        .into())
    }

    /// Deletes the shell.
    ///
    /// # Errors
    /// The endpoint did not take it; the shell ends by itself after its idle time.
    pub async fn close(mut self) -> Result<(), PepError> {
        let sent = self.pool.close();
        let answer = self.exchange(&sent).await?;
        Ok(self.pool.acknowledged(&sent, &answer)?)
    }
}
