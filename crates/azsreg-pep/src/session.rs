//! A session of the privileged endpoint: a runspace pool over one connection.

use std::time::Duration;

use azsreg_model::redact;
use azsreg_psrp::client::{Event, Outgoing, Pool};
use azsreg_psrp::clixml::{Object, Value};
use azsreg_psrp::messages::{Command, ErrorRecord, PipelineState, ProgressRecord};
use azsreg_psrp::wsman::ResponseError;
use azsreg_tls::Authorities;
use tokio::time::Instant;
use uuid::Uuid;

use crate::address::PepAddress;
use crate::auth::{Credentials, Mechanism};
use crate::connection::Connection;
use crate::error::PepError;
use crate::failure::Failure;
use crate::stamp::secrets_of;
use crate::wire::Wire;

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
    /// Authorities besides the system's.
    pub authorities: Authorities,
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

/// Windows's error number for it, which a fault carries.
pub(crate) const ACCESS_DENIED: u32 = 5;
/// How long one request may take on the server; it then says that it has nothing yet.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);
/// A socket that gives nothing for three times that is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// A shell that is not deleted ends by itself: that answer is not worth a long wait.
const CLOSING: Duration = Duration::from_secs(15);
/// How long a session may take to open.
const OPENING: Duration = Duration::from_secs(120);
/// How long a cmdlet that only reads may take altogether, and how long an action. The stamp's own limit for an action is
/// half an hour.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(45 * 60));

/// How long it may take to stop what reads and to delete its shell, where the command is over.
pub(crate) const STOPPING: Duration = Duration::from_secs(2);

/// What a command gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Invocation {
    /// Output objects.
    pub output: Vec<Value>,
    /// Non-terminating errors.
    pub errors: Vec<ErrorRecord>,
    /// The lines of the verbose, warning and information streams, as a console shows them.
    pub said: Vec<String>,
}

impl Invocation {
    /// The output's objects of a form, the items of lists among them.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Value> {
        self.output.iter().flat_map(|value| value.items().unwrap_or(std::slice::from_ref(value)))
    }

    fn fails(self, cmdlet: String, record: ErrorRecord) -> PepError {
        PepError::Cmdlet { cmdlet, failure: Box::new(Failure::new(record, self.errors, self.said)) }
    }
}

/// A cmdlet that has not ended.
struct Running {
    pipeline: Uuid,
    cmdlet: String,
}

/// Whether a cmdlet only reads: it can be stopped at any time.
fn reads(cmdlet: &str) -> bool {
    cmdlet.starts_with("Get-")
}

/// An open session. Close it: a shell that is left costs the stamp one of its few.
pub struct Session {
    connection: Connection,
    pool: Pool,
    /// Empty answers in a row that came at once.
    idle: u32,
    /// [`PATIENCE`], but in tests.
    patience: (Duration, Duration),
    /// Whether the pool takes commands.
    open: bool,
    running: Option<Running>,
}

impl Session {
    /// Connects, signs in and opens a runspace pool.
    ///
    /// # Errors
    /// No address answers, the sign-in is refused, or the configuration is not there.
    pub async fn open(options: &Options) -> Result<Self, PepError> {
        let mut session = Self::connect(options).await?;
        session.begin().await?;
        Ok(session)
    }

    /// Connects and signs in: there is no shell yet.
    pub(crate) async fn connect(options: &Options) -> Result<Self, PepError> {
        let connection = Connection::open(options).await?;
        let url = connection.address().url();
        let pool = Pool::new(&url, &options.configuration, OPERATION_TIMEOUT);
        Ok(Self { connection, pool, idle: 0, patience: PATIENCE, open: false, running: None })
    }

    /// Opens the runspace pool.
    pub(crate) async fn begin(&mut self) -> Result<(), PepError> {
        let sent = self.pool.open();
        let answer = self.exchange(&sent).await?;
        match self.pool.opened(&sent, &answer) {
            Err(ResponseError::Fault(fault)) if fault.code == ACCESS_DENIED => {
                return Err(self.connection.not_allowed(fault.reason));
            }
            opened => opened?,
        }
        let deadline = Instant::now() + OPENING;
        loop {
            for event in self.receive(None).await? {
                match event {
                    Event::PoolOpened => {
                        self.open = true;
                        return Ok(());
                    }
                    Event::PoolEnded(error) => {
                        let record = error.unwrap_or_default();
                        return Err(Invocation::default().fails("opening the session".into(), record));
                    }
                    // One answer may hold many of them, and each is a call of its own.
                    Event::HostCall(_) if Instant::now() > deadline => break,
                    Event::HostCall(call) => self.decline(None, &call).await?,
                    _ => {}
                }
            }
            if Instant::now() > deadline {
                return Err(self.too_long("opening the session".into(), OPENING));
            }
        }
    }

    /// Whether it was left in the middle of something: a request without its answer, or a cmdlet without its end.
    pub(crate) fn is_amid(&self) -> bool {
        self.running.is_some() || self.connection.is_spent()
    }

    /// Whether the next command can go there as it is.
    pub(crate) fn is_ready(&self) -> bool {
        self.running.is_none() && self.connection.is_usable()
    }

    /// The cmdlet that goes on, where it changes the stamp: it is safer to let it end by itself than to stop it in the middle.
    pub(crate) fn changes(&self) -> Option<&str> {
        self.running.as_ref().map(|running| running.cmdlet.as_str()).filter(|cmdlet| !reads(cmdlet))
    }

    /// Whether it takes commands.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether there is something to delete.
    pub(crate) fn has_shell(&self) -> bool {
        self.pool.is_open()
    }

    /// Whether a command has begun that has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Goes on with the shell, over a new connection where the old one is of no use, and stops what only read.
    pub(crate) async fn mend(&mut self, options: &Options) -> Result<(), PepError> {
        if !self.connection.is_usable() {
            // The shell is at this one.
            let addresses = vec![self.connection.address().clone()];
            self.connection = Connection::open(&Options { addresses, ..options.clone() }).await?;
        }
        if let Some(Running { pipeline, .. }) = self.running.take() {
            for sent in [self.pool.stop(pipeline), self.pool.terminate(pipeline)] {
                match self.tell(&sent).await {
                    // It has ended meanwhile.
                    Err(PepError::Fault(fault)) => tracing::debug!(%fault, "nothing to stop"),
                    told => told?,
                }
            }
        }
        Ok(())
    }

    /// Stops what only reads, and deletes the shell.
    pub(crate) async fn abandon(mut self, options: &Options) -> Result<(), PepError> {
        if !self.has_shell() {
            return Ok(());
        }
        self.mend(options).await?;
        match self.delete().await {
            // Let go while nothing was asked. To delete it twice does no harm.
            Err(PepError::Dropped { .. }) => {
                self.mend(options).await?;
                self.delete().await
            }
            deleted => deleted,
        }
    }

    /// How the connection came about.
    pub(crate) fn wire(&self) -> Wire {
        Wire { protocol: self.pool.protocol().map(str::to_owned), ..self.connection.wire.clone() }
    }

    fn too_long(&self, cmdlet: String, patience: Duration) -> PepError {
        let address = self.connection.address().to_string();
        PepError::TooLong { address, cmdlet, minutes: patience.as_secs() / 60 }
    }

    async fn exchange(&mut self, sent: &Outgoing) -> Result<String, PepError> {
        self.connection.exchange(&sent.envelope, sent.what, SILENCE).await
    }

    /// Sends what is only acknowledged.
    async fn tell(&mut self, sent: &Outgoing) -> Result<(), PepError> {
        let answer = self.exchange(sent).await?;
        Ok(self.pool.acknowledged(sent, &answer)?)
    }

    async fn receive(&mut self, pipeline: Option<Uuid>) -> Result<Vec<Event>, PepError> {
        let asked = Instant::now();
        let sent = self.pool.receive(pipeline);
        let answer = self.exchange(&sent).await?;
        let events = self.pool.received(&sent, &answer)?;
        // A server that has nothing waits before it says so. One that does not wait would be asked without a pause.
        let at_once = events.is_empty() && asked.elapsed() < OPERATION_TIMEOUT / 20;
        self.idle = if at_once { self.idle + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(10) * self.idle.min(100)).await;
        Ok(events)
    }

    async fn decline(
        &mut self,
        pipeline: Option<Uuid>,
        call: &azsreg_psrp::messages::HostCall,
    ) -> Result<(), PepError> {
        tracing::debug!(method = call.name, "declined a host call");
        if call.call < 0 {
            return Ok(());
        }
        for sent in self.pool.decline(pipeline, call) {
            self.tell(&sent).await?;
        }
        Ok(())
    }

    /// Runs one command to its end. `progress` is told of progress, and of the information stream, as it comes.
    ///
    /// # Errors
    /// A terminating error, whole; or the connection broke, and the stamp may go on with the work.
    pub async fn invoke(
        &mut self,
        command: Command,
        progress: &dyn Fn(&ProgressRecord),
    ) -> Result<Invocation, PepError> {
        let cmdlet = command.name.clone();
        let (pipeline, requests) = self.pool.command(std::slice::from_ref(&command));
        // Said before the first byte goes out: whoever gives up in between can't know how far it came.
        self.running = Some(Running { pipeline, cmdlet: cmdlet.clone() });
        for sent in &requests {
            let told = self.tell(sent).await;
            if told.as_ref().is_err_and(|error| error.is_untaken() || matches!(error, PepError::Fault(_))) {
                self.running = None;
            }
            told?;
        }
        let result = self.outcome(pipeline, cmdlet, &secrets_of(&command), progress).await;
        if self.open && self.is_ready() {
            // A command that has ended counts against the shell's quota until it is closed.
            let sent = self.pool.terminate(pipeline);
            let told = self.connection.exchange(&sent.envelope, sent.what, CLOSING).await;
            if let Err(error) = told.and_then(|answer| Ok(self.pool.acknowledged(&sent, &answer)?)) {
                tracing::debug!(%error, "the command was not closed");
            }
        }
        result
    }

    async fn outcome(
        &mut self,
        pipeline: Uuid,
        cmdlet: String,
        secrets: &[String],
        progress: &dyn Fn(&ProgressRecord),
    ) -> Result<Invocation, PepError> {
        let patience = if reads(&cmdlet) { self.patience.0 } else { self.patience.1 };
        let deadline = Instant::now() + patience;
        let mut result = Invocation::default();
        let plain = |text: String| {
            let plain = redact::of_server(&text).into_owned();
            secrets.iter().fold(plain, |text, secret| text.replace(secret.as_str(), "[redacted]"))
        };
        loop {
            for event in self.receive(Some(pipeline)).await? {
                match event {
                    Event::Output(value) => result.output.push(value),
                    Event::Error(record) => result.errors.push(record),
                    Event::Warning(text) => {
                        let text = plain(text);
                        tracing::warn!(cmdlet, "{text}");
                        result.said.push(format!("WARNING: {text}"));
                    }
                    Event::Verbose(text) => {
                        let text = plain(text);
                        tracing::debug!(cmdlet, "{text}");
                        result.said.push(format!("VERBOSE: {text}"));
                    }
                    Event::Information(text) if text.trim().is_empty() => {}
                    Event::Information(text) => {
                        let text = plain(text);
                        tracing::info!(cmdlet, "{text}");
                        let activity = cmdlet.clone();
                        let (percent, seconds_remaining) = (-1, -1);
                        progress(&ProgressRecord {
                            activity,
                            status: text.clone(),
                            percent,
                            seconds_remaining,
                            ..ProgressRecord::default()
                        });
                        result.said.push(text);
                    }
                    Event::Debug(text) => tracing::trace!(cmdlet, "{}", plain(text)),
                    Event::Progress(record) => progress(&record),
                    // One answer may hold many of them, and each is a call of its own.
                    Event::HostCall(_) if Instant::now() > deadline => break,
                    Event::HostCall(call) => self.decline(Some(pipeline), &call).await?,
                    Event::PipelineEnded(state, error) => {
                        self.running = None;
                        if state == PipelineState::Completed {
                            return Ok(result);
                        }
                        let record = error.unwrap_or_else(|| ErrorRecord {
                            message: format!("the pipeline ended as {state:?} without an error"),
                            ..ErrorRecord::default()
                        });
                        return Err(result.fails(cmdlet, record));
                    }
                    Event::PoolEnded(_) => {
                        (self.running, self.open) = (None, false);
                        let reason = "the stamp closed the session".into();
                        return Err(PepError::Dropped { reason, untaken: false });
                    }
                    Event::PoolOpened => {}
                }
            }
            if Instant::now() > deadline {
                return Err(self.too_long(cmdlet, patience));
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
            self.tell(&sent).await?;
        }
        let deadline = Instant::now() + SILENCE;
        let password = loop {
            if let Some(value) = self.pool.secure_string(credentials.password.expose_secret())? {
                break value;
            }
            if Instant::now() > deadline {
                return Err(self.too_long("the exchange of a session key".into(), SILENCE));
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
        self.delete().await
    }

    async fn delete(&mut self) -> Result<(), PepError> {
        let sent = self.pool.close();
        let answer = self.connection.exchange(&sent.envelope, sent.what, CLOSING).await?;
        Ok(self.pool.acknowledged(&sent, &answer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::{challenge, connect_to, ok, read};
    use azsreg_psrp::server::{Handled, Server};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn a_stamp_that_never_ends_a_command_is_given_up_and_asked_with_pauses() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in [challenge(), ok("")] {
                read(&mut theirs).await;
                theirs.write_all(answer.as_bytes()).await.unwrap();
            }
            let mut server = Server::new("https://192.0.2.2:1/wsman", "PrivilegedEndpoint", "5.1.17763.0");
            while let Some(body) = read(&mut theirs).await {
                count.fetch_add(1, Ordering::Relaxed);
                let (handled, _) = server.handle(&String::from_utf8(body).unwrap());
                // "Nothing yet" at once, in place of after twenty seconds.
                let handled = if let Handled::Wait(receive) = handled { Server::timed_out(&receive) } else { handled };
                let (Handled::Reply(text) | Handled::Fault(text)) = handled else { panic!("still nothing") };
                theirs.write_all(ok(&text).as_bytes()).await.unwrap();
            }
        });
        let connection = connect_to(ours, 4).await.unwrap();
        let pool = Pool::new(&connection.address().url(), "PrivilegedEndpoint", OPERATION_TIMEOUT);
        let patience = (Duration::from_millis(700), Duration::from_secs(60));
        let mut session = Session { connection, pool, idle: 0, patience, open: true, running: None };
        let sent = session.pool.open();
        let answer = session.exchange(&sent).await.unwrap();
        session.pool.opened(&sent, &answer).unwrap();
        let error = session.invoke(Command::new("Get-X"), &|_| {}).await.unwrap_err();
        assert_eq!(error.to_string(), "Get-X did not end within 0 minutes at https://192.0.2.1:4");
        let asked = asked.load(Ordering::Relaxed);
        assert!((5..40).contains(&asked), "{asked} requests in less than a second");
    }
}
