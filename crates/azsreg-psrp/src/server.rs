//! The server's side of PowerShell remoting: any number of shells, without a socket.
//!
//! [`Server::handle`] takes one request and says what to answer and what to do. A Receive that finds nothing waits:
//! the caller asks [`Server::poll`] again when something was pushed, and answers [`Server::timed_out`] when the
//! client's OperationTimeout has passed. Output goes in with [`Server::push`].

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use uuid::Uuid;

use crate::clixml::{Value, to_xml};
use crate::fragment::{Defragmenter, Fragmenter};
use crate::message::{Destination, Message, kind};
use crate::messages::{self, Command, ErrorRecord, PipelineState, PoolState, ProgressRecord};
use crate::session_key::SessionKey;
use crate::wsman::{self, Fault, Incoming, action};
use crate::xml::escape;
use crate::{DecodeError, xml::Element};

/// A server holds this many shells; the next is refused (`MaxShellsPerUser` of MS-WSMV 2.2.4.42 is 30).
pub const MAX_SHELLS: usize = 30;
/// A shell that was asked for nothing for so long is ended (two hours: `IdleTimeout` of WinRM).
const IDLE: Duration = Duration::from_secs(7_200);
/// A shell holds this many pipelines (`MaxConcurrentCommandsPerShell` of WinRM). One that has ended counts until its client
/// closes it.
const MAX_PIPELINES: usize = 1_000;

/// What to answer now.
#[derive(Debug)]
pub enum Handled {
    /// This envelope, with HTTP status 200.
    Reply(String),
    /// This fault, with HTTP status 500.
    Fault(String),
    /// Nothing yet: poll this.
    Wait(Receive),
}

/// A Receive that waits.
#[derive(Debug, Clone)]
pub struct Receive {
    message_id: String,
    shell: Uuid,
    command: Option<Uuid>,
    max_envelope: usize,
    /// How long the client lets it wait.
    pub timeout: Duration,
}

/// What to do beside answering.
#[derive(Debug)]
pub enum Effect {
    /// Run these commands; their output goes in with [`Server::push`].
    Run {
        /// The shell.
        shell: Uuid,
        /// The pipeline.
        pipeline: Uuid,
        /// The commands.
        commands: Vec<Command>,
    },
    /// The client has stopped this pipeline; it is already shown as stopped.
    Stop {
        /// The shell.
        shell: Uuid,
        /// The pipeline.
        pipeline: Uuid,
    },
    /// The client has deleted this shell.
    Closed {
        /// The shell.
        shell: Uuid,
    },
}

/// What a pipeline says.
#[derive(Debug, Clone)]
pub enum Push {
    /// An output object.
    Output(Value),
    /// A non-terminating error.
    Error(ErrorRecord),
    /// A line of the verbose stream.
    Verbose(String),
    /// A line of the warning stream.
    Warning(String),
    /// A progress record.
    Progress(ProgressRecord),
    /// The end, with the terminating error if it failed.
    End(PipelineState, Option<ErrorRecord>),
}

struct Pipeline {
    input: Defragmenter,
    output: VecDeque<Vec<u8>>,
    begun: bool,
    ended: bool,
}

struct Shell {
    /// The pool's id in message headers; a client may name its shell otherwise.
    pool: Uuid,
    powershell: String,
    /// When it was last asked for something.
    used: Instant,
    input: Defragmenter,
    fragmenter: Fragmenter,
    fragment_limit: usize,
    output: VecDeque<Vec<u8>>,
    pipelines: HashMap<Uuid, Pipeline>,
    session_key: Option<SessionKey>,
}

impl Shell {
    fn cut(&mut self, kind: u32, pipeline: Uuid, data: String) -> Vec<Vec<u8>> {
        let message = Message { destination: Destination::Client, kind, pool: self.pool, pipeline, data };
        self.fragmenter.cut(&message.encode(), self.fragment_limit)
    }

    fn push_pool(&mut self, kind: u32, data: String) {
        let fragments = self.cut(kind, Uuid::nil(), data);
        self.output.extend(fragments);
    }
}

/// The shells of one endpoint.
pub struct Server {
    configuration: String,
    powershell: String,
    url: String,
    shells: HashMap<Uuid, Shell>,
}

impl Server {
    /// An endpoint that knows one session configuration and claims a version of PowerShell.
    #[must_use]
    pub fn new(url: &str, configuration: &str, powershell: &str) -> Self {
        Self {
            configuration: configuration.to_owned(),
            powershell: powershell.to_owned(),
            url: url.to_owned(),
            shells: HashMap::new(),
        }
    }

    /// Takes one request.
    pub fn handle(&mut self, envelope: &str) -> (Handled, Vec<Effect>) {
        let mut effects = Vec::new();
        let incoming = match Incoming::decode(envelope) {
            Ok(incoming) => incoming,
            Err(error) => return (Handled::Fault(malformed(&error).encode("uuid:0")), effects),
        };
        let handled = match self.act(&incoming, &mut effects) {
            Ok(handled) => handled,
            Err(Refusal::Fault(fault)) => Handled::Fault(fault.encode(&incoming.message_id)),
            Err(Refusal::Decode(error)) => Handled::Fault(malformed(&error).encode(&incoming.message_id)),
        };
        (handled, effects)
    }

    fn act(&mut self, incoming: &Incoming, effects: &mut Vec<Effect>) -> Result<Handled, Refusal> {
        let relates = incoming.message_id.as_str();
        let reply = |name: &str, body: &str| Ok(Handled::Reply(wsman::respond(name, relates, body)));
        match incoming.action.as_str() {
            action::CREATE => {
                let body = self.create(incoming)?;
                reply("http://schemas.xmlsoap.org/ws/2004/09/transfer/CreateResponse", &body)
            }
            action::GET if incoming.resource_uri.starts_with(wsman::CONFIG_URI) => reply(
                "http://schemas.xmlsoap.org/ws/2004/09/transfer/GetResponse",
                r#"<cfg:Config xmlns:cfg="http://schemas.microsoft.com/wbem/wsman/1/config"><cfg:MaxEnvelopeSizekb>500</cfg:MaxEnvelopeSizekb></cfg:Config>"#,
            ),
            action::GET => {
                let id = self.selected(incoming)?.0;
                let body = format!(
                    "<rsp:Shell><rsp:ShellId>{}</rsp:ShellId><rsp:State>Connected</rsp:State></rsp:Shell>",
                    upper(id)
                );
                reply("http://schemas.xmlsoap.org/ws/2004/09/transfer/GetResponse", &body)
            }
            action::COMMAND => {
                let (id, shell) = self.selected(incoming)?;
                let line = incoming.body.child("CommandLine").ok_or(DecodeError::Missing("CommandLine"))?;
                let pipeline = command_id(line)?.ok_or(DecodeError::Missing("CommandId"))?;
                if shell.pipelines.len() >= MAX_PIPELINES || shell.pipelines.contains_key(&pipeline) {
                    return Err(DecodeError::Limit { what: "number of pipelines", limit: MAX_PIPELINES }.into());
                }
                shell.pipelines.insert(
                    pipeline,
                    Pipeline { input: Defragmenter::default(), output: VecDeque::new(), begun: false, ended: false },
                );
                let arguments = line.child("Arguments").ok_or(DecodeError::Missing("Arguments"))?;
                let taken = wsman::base64_of(arguments)
                    .map_err(Refusal::from)
                    .and_then(|bytes| shell.take(id, Some(pipeline), &bytes, effects));
                if let Err(refusal) = taken {
                    shell.pipelines.remove(&pipeline);
                    return Err(refusal);
                }
                let body = format!(
                    "<rsp:CommandResponse><rsp:CommandId>{}</rsp:CommandId></rsp:CommandResponse>",
                    upper(pipeline)
                );
                reply("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandResponse", &body)
            }
            action::SEND => {
                let (id, shell) = self.selected(incoming)?;
                let send = incoming.body.child("Send").ok_or(DecodeError::Missing("Send"))?;
                for stream in send.children.iter().filter(|child| child.name == "Stream") {
                    let pipeline = command_id(stream)?;
                    shell.take(id, pipeline, &wsman::base64_of(stream)?, effects)?;
                }
                reply("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/SendResponse", "<rsp:SendResponse/>")
            }
            action::RECEIVE => {
                let (id, _) = self.selected(incoming)?;
                let stream =
                    incoming.body.at(&["Receive", "DesiredStream"]).ok_or(DecodeError::Missing("DesiredStream"))?;
                let receive = Receive {
                    message_id: incoming.message_id.clone(),
                    shell: id,
                    command: command_id(stream)?,
                    max_envelope: incoming.max_envelope,
                    timeout: incoming.timeout,
                };
                Ok(match self.poll(&receive) {
                    Some(reply) => reply,
                    None => Handled::Wait(receive),
                })
            }
            action::SIGNAL => {
                let (id, shell) = self.selected(incoming)?;
                let signal = incoming.body.child("Signal").ok_or(DecodeError::Missing("Signal"))?;
                let pipeline = command_id(signal)?.ok_or(DecodeError::Missing("CommandId"))?;
                let code = signal.text_at(&["Code"]).unwrap_or_default();
                if shell.pipelines.get(&pipeline).is_some_and(|p| !p.ended) {
                    effects.push(Effect::Stop { shell: id, pipeline });
                }
                // As PowerShell does: this code to the letter stops the pipeline, any other closes its command.
                if code == wsman::SIGNAL_STOP {
                    self.push(id, pipeline, Push::End(PipelineState::Stopped, None));
                } else {
                    shell.pipelines.remove(&pipeline);
                }
                reply("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/SignalResponse", "<rsp:SignalResponse/>")
            }
            action::DELETE => {
                let (id, _) = self.selected(incoming)?;
                self.shells.remove(&id);
                effects.push(Effect::Closed { shell: id });
                reply("http://schemas.xmlsoap.org/ws/2004/09/transfer/DeleteResponse", "")
            }
            other => Err(Refusal::Fault(Fault {
                code: 2_150_858_752,
                subcode: "a:ActionNotSupported".into(),
                reason: format!("The action {other} is not supported by this endpoint."),
            })),
        }
    }

    fn create(&mut self, incoming: &Incoming) -> Result<String, Refusal> {
        let name = incoming.resource_uri.strip_prefix(wsman::POWERSHELL_URI).unwrap_or_default();
        if !name.eq_ignore_ascii_case(&self.configuration) {
            return Err(Refusal::Fault(Fault {
                code: wsman::CODE_NO_CONFIGURATION,
                subcode: "w:InvalidParameter".into(),
                reason: format!(
                    "The WS-Management service cannot process the request. Cannot find the {name} session configuration \
                     in the WSMan: drive on this computer."
                ),
            }));
        }
        // Windows makes no room for a new shell: one that was left behind goes when it was idle for long enough.
        self.shells.retain(|_, shell| shell.used.elapsed() < IDLE);
        if self.shells.len() >= MAX_SHELLS {
            return Err(Refusal::Fault(Fault {
                code: wsman::CODE_MAX_SHELLS,
                subcode: "w:QuotaLimit".into(),
                reason: format!(
                    "The WS-Management service cannot process the request. This user is allowed a maximum number of \
                     {MAX_SHELLS} concurrent shells, which has been exceeded. Close existing shells or raise the quota \
                     for this user."
                ),
            }));
        }
        let version = incoming.options.iter().find(|(name, _)| name.eq_ignore_ascii_case("protocolversion"));
        if !version.is_some_and(|(_, version)| version.starts_with("2.")) {
            return Err(DecodeError::Missing("a protocolversion of 2.x").into());
        }
        let creation = incoming.body.at(&["Shell", "creationXml"]).ok_or(DecodeError::Missing("creationXml"))?;
        let requested = incoming.body.child("Shell").and_then(|shell| shell.attribute("ShellId"));
        let mut input = Defragmenter::default();
        let messages = input
            .push(&wsman::base64_of(creation)?)?
            .iter()
            .map(|bytes| Message::decode(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let first = messages.first().ok_or(DecodeError::Missing("SESSION_CAPABILITY"))?;
        if first.kind != kind::SESSION_CAPABILITY {
            return Err(DecodeError::Protocol("a pool that does not begin with SESSION_CAPABILITY").into());
        }
        let pool = first.pool;
        let id = match requested {
            Some(id) => id.parse().map_err(|_| DecodeError::malformed("a ShellId", id))?,
            None => pool,
        };
        let limit = wsman::fragment_limit(incoming.max_envelope).min(32 << 10);
        if self.shells.contains_key(&id) {
            return Err(DecodeError::Protocol("a ShellId that is in use").into());
        }
        let mut shell = Shell {
            pool,
            powershell: self.powershell.clone(),
            used: Instant::now(),
            input,
            fragmenter: Fragmenter::default(),
            fragment_limit: limit,
            output: VecDeque::new(),
            pipelines: HashMap::new(),
            session_key: None,
        };
        shell.push_pool(kind::SESSION_CAPABILITY, messages::session_capability("2.0"));
        for message in &messages[1..] {
            shell.pool_message(message)?;
        }
        self.shells.insert(id, shell);
        let shown = upper(id);
        Ok(format!(
            concat!(
                r#"<x:ResourceCreated xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer"><a:Address>{url}</a:Address>"#,
                r#"<a:ReferenceParameters><w:ResourceURI>{uri}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{id}</w:Selector>"#,
                r#"</w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>{id}</rsp:ShellId>"#,
                r#"<rsp:ResourceUri>{uri}</rsp:ResourceUri><rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut>"#,
                r#"<rsp:InputStreams>stdin pr</rsp:InputStreams><rsp:OutputStreams>stdout</rsp:OutputStreams>"#,
                r#"<rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime><rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"#
            ),
            url = escape(&self.url),
            uri = escape(&incoming.resource_uri),
            id = shown,
        ))
    }

    fn selected(&mut self, incoming: &Incoming) -> Result<(Uuid, &mut Shell), Refusal> {
        let id = incoming.shell_id.ok_or(DecodeError::Missing("the ShellId selector"))?;
        match self.shells.get_mut(&id) {
            Some(shell) => {
                shell.used = Instant::now();
                Ok((id, shell))
            }
            None => Err(no_shell(id)),
        }
    }

    /// The answer to a waiting Receive, if there is something to say.
    pub fn poll(&mut self, receive: &Receive) -> Option<Handled> {
        let Some(shell) = self.shells.get_mut(&receive.shell) else {
            return Some(Handled::Fault(no_shell_fault(receive.shell).encode(&receive.message_id)));
        };
        let mut ended = false;
        let queue = match receive.command {
            None => &mut shell.output,
            Some(command) => match shell.pipelines.get_mut(&command) {
                None => {
                    return Some(Handled::Fault(no_shell_fault(command).encode(&receive.message_id)));
                }
                Some(pipeline) => {
                    ended = pipeline.ended;
                    &mut pipeline.output
                }
            },
        };
        if queue.is_empty() && !ended {
            return None;
        }
        let budget = wsman::fragment_limit(receive.max_envelope);
        let mut bytes = Vec::new();
        while let Some(next) = queue.front() {
            if !bytes.is_empty() && bytes.len() + next.len() > budget {
                break;
            }
            bytes.extend(queue.pop_front().unwrap_or_default());
        }
        let done = ended && queue.is_empty();
        let command = receive.command.map_or(String::new(), |id| format!(" CommandId=\"{}\"", upper(id)));
        let mut body = format!(
            r#"<rsp:ReceiveResponse><rsp:Stream Name="stdout"{command}>{}</rsp:Stream>"#,
            BASE64_STANDARD.encode(&bytes)
        );
        if receive.command.is_some() {
            let state = if done { wsman::STATE_DONE } else { wsman::STATE_RUNNING };
            body.push_str(&format!(r#"<rsp:CommandState{command} State="{state}"></rsp:CommandState>"#));
        }
        body.push_str("</rsp:ReceiveResponse>");
        Some(Handled::Reply(wsman::respond(
            "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/ReceiveResponse",
            &receive.message_id,
            &body,
        )))
    }

    /// The fault for a Receive whose time is up.
    #[must_use]
    pub fn timed_out(receive: &Receive) -> Handled {
        let fault = Fault {
            code: wsman::CODE_TIMED_OUT,
            subcode: "w:TimedOut".into(),
            reason: "The WS-Management service cannot complete the operation within the time specified in \
                     OperationTimeout."
                .into(),
        };
        Handled::Fault(fault.encode(&receive.message_id))
    }

    /// Adds to what a pipeline says. Nothing happens if its client is gone.
    pub fn push(&mut self, id: Uuid, pipeline: Uuid, push: Push) {
        let Some(shell) = self.shells.get_mut(&id) else { return };
        if shell.pipelines.get(&pipeline).is_none_or(|p| p.ended) {
            return;
        }
        let ends = matches!(push, Push::End(..));
        let (kind, data) = match push {
            Push::Output(value) => (kind::PIPELINE_OUTPUT, to_xml(&value)),
            Push::Error(error) => (kind::ERROR_RECORD, messages::error_record(&error)),
            Push::Verbose(text) => (kind::VERBOSE_RECORD, messages::informational_record(&text)),
            Push::Warning(text) => (kind::WARNING_RECORD, messages::informational_record(&text)),
            Push::Progress(progress) => (kind::PROGRESS_RECORD, messages::progress_record(&progress)),
            Push::End(state, error) => (kind::PIPELINE_STATE, messages::pipeline_state(state, error.as_ref())),
        };
        let fragments = shell.cut(kind, pipeline, data);
        if let Some(pipeline) = shell.pipelines.get_mut(&pipeline) {
            pipeline.output.extend(fragments);
            pipeline.ended |= ends;
        }
    }

    /// How many shells are open, and how many commands are in them: running, or ended and not closed.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        (self.shells.len(), self.shells.values().map(|shell| shell.pipelines.len()).sum())
    }

    /// The text of a secure string that came over this shell.
    #[must_use]
    pub fn reveal(&self, shell: Uuid, secure_string: &[u8]) -> Option<String> {
        self.shells.get(&shell)?.session_key.as_ref()?.reveal(secure_string).ok()
    }
}

impl Shell {
    fn take(
        &mut self,
        id: Uuid,
        pipeline: Option<Uuid>,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let input = match pipeline {
            None => &mut self.input,
            Some(id) => &mut self.pipelines.get_mut(&id).ok_or_else(|| no_shell(id))?.input,
        };
        for bytes in input.push(bytes)? {
            let message = Message::decode(&bytes)?;
            match (pipeline, message.kind) {
                (Some(pipeline), kind::CREATE_PIPELINE | kind::GET_COMMAND_METADATA)
                    if self.pipelines.get_mut(&pipeline).is_some_and(|p| std::mem::replace(&mut p.begun, true)) =>
                {
                    return Err(DecodeError::Protocol("a second beginning of a pipeline").into());
                }
                (Some(pipeline), kind::CREATE_PIPELINE) => {
                    let commands = messages::read_create_pipeline(&message.data)?;
                    effects.push(Effect::Run { shell: id, pipeline, commands });
                }
                (Some(pipeline), kind::GET_COMMAND_METADATA) => {
                    let command = Command::new("Get-Command");
                    effects.push(Effect::Run { shell: id, pipeline, commands: vec![command] });
                }
                // Input and host answers of a pipeline: no cmdlet here reads any.
                (Some(_), _) => {}
                (None, _) => self.pool_message(&message)?,
            }
        }
        Ok(())
    }

    fn pool_message(&mut self, message: &Message) -> Result<(), Refusal> {
        match message.kind {
            kind::INIT_RUNSPACEPOOL => {
                self.push_pool(kind::APPLICATION_PRIVATE_DATA, messages::application_private_data(&self.powershell));
                self.push_pool(kind::RUNSPACEPOOL_STATE, messages::pool_state(PoolState::Opened));
            }
            kind::PUBLIC_KEY => {
                let key = match self.session_key.take() {
                    Some(key) => key,
                    None => SessionKey::generate()?,
                };
                let text = key.encrypted_for(&messages::read_one_text(&message.data, "PublicKey")?)?;
                self.session_key = Some(key);
                self.push_pool(kind::ENCRYPTED_SESSION_KEY, messages::one_text("EncryptedSessionKey", &text));
            }
            kind::GET_AVAILABLE_RUNSPACES | kind::SET_MAX_RUNSPACES | kind::SET_MIN_RUNSPACES => {
                let call = messages::read_call_id(&message.data)?.ok_or(DecodeError::Missing("ci"))?;
                let answer =
                    if message.kind == kind::GET_AVAILABLE_RUNSPACES { Value::I64(1) } else { Value::Bool(true) };
                self.push_pool(kind::RUNSPACE_AVAILABILITY, messages::runspace_availability(call, answer));
            }
            kind::RESET_RUNSPACE_STATE => {
                let call = messages::read_call_id(&message.data)?.ok_or(DecodeError::Missing("ci"))?;
                let answer = messages::runspace_availability(call, Value::Bool(true));
                self.push_pool(kind::RUNSPACE_AVAILABILITY, answer);
            }
            _ => {}
        }
        Ok(())
    }
}

enum Refusal {
    Fault(Fault),
    Decode(DecodeError),
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

fn no_shell(id: Uuid) -> Refusal {
    Refusal::Fault(no_shell_fault(id))
}

fn no_shell_fault(id: Uuid) -> Fault {
    Fault {
        code: wsman::CODE_NO_SHELL,
        subcode: "w:InvalidSelectors".into(),
        reason: format!(
            "The request for the Windows Remote Shell with ShellId {} failed because the shell was not found on the \
             server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the server.",
            upper(id)
        ),
    }
}

fn malformed(error: &DecodeError) -> Fault {
    Fault { code: 2_150_858_817, subcode: "w:SchemaValidationError".into(), reason: error.to_string() }
}

fn command_id(element: &Element) -> Result<Option<Uuid>, DecodeError> {
    element
        .attribute("CommandId")
        .map(|id| id.parse().map_err(|_| DecodeError::malformed("a CommandId", id)))
        .transpose()
}

fn upper(id: Uuid) -> String {
    id.to_string().to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Event, Pool};

    fn exchange(server: &mut Server, sent: &str) -> (String, Vec<Effect>) {
        match server.handle(sent) {
            (Handled::Reply(text) | Handled::Fault(text), effects) => (text, effects),
            (Handled::Wait(receive), effects) => match Server::timed_out(&receive) {
                Handled::Fault(text) => (text, effects),
                other => panic!("{other:?}"),
            },
        }
    }

    fn opened() -> (Server, Pool) {
        let mut server = Server::new("http://x/wsman", "PrivilegedEndpoint", "5.1.14393.0");
        let mut pool = Pool::new("http://x/wsman", "PrivilegedEndpoint", Duration::from_secs(20));
        let sent = pool.open();
        let (answer, _) = exchange(&mut server, &sent.envelope);
        pool.opened(&sent, &answer).unwrap();
        let sent = pool.receive(None);
        let (answer, _) = exchange(&mut server, &sent.envelope);
        assert_eq!(pool.received(&sent, &answer).unwrap(), [Event::PoolOpened]);
        (server, pool)
    }

    #[test]
    fn a_command_larger_than_an_envelope_runs_and_its_large_output_comes_back() {
        let (mut server, mut pool) = opened();
        let large = "x".repeat(400_000);
        let command = Command::new("New-AzureStackActivation").with("ActivationKey", large.as_str());
        let (pipeline, requests) = pool.command(&[command]);
        assert!(requests.len() > 2);
        let mut effects = Vec::new();
        for request in &requests {
            assert!(request.envelope.len() <= 153_600);
            let (answer, new) = exchange(&mut server, &request.envelope);
            pool.acknowledged(request, &answer).unwrap();
            effects.extend(new);
        }
        let [Effect::Run { shell, pipeline: ran, commands }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(*ran, pipeline);
        assert_eq!(commands[0].arguments[0].1, Value::from(large.as_str()));

        let sent = pool.receive(Some(pipeline));
        let (answer, _) = exchange(&mut server, &sent.envelope);
        assert_eq!(pool.received(&sent, &answer).unwrap(), [], "a timeout is no event");

        server.push(*shell, pipeline, Push::Output(large.as_str().into()));
        server.push(*shell, pipeline, Push::Warning("careful".into()));
        server.push(*shell, pipeline, Push::End(PipelineState::Completed, None));
        let mut events = Vec::new();
        while !matches!(events.last(), Some(Event::PipelineEnded(..))) {
            let sent = pool.receive(Some(pipeline));
            let (answer, _) = exchange(&mut server, &sent.envelope);
            assert!(answer.len() <= 153_600);
            events.extend(pool.received(&sent, &answer).unwrap());
        }
        assert_eq!(events[0], Event::Output(large.as_str().into()));
        assert_eq!(events[1], Event::Warning("careful".into()));
        let sent = pool.close();
        let (answer, effects) = exchange(&mut server, &sent.envelope);
        pool.acknowledged(&sent, &answer).unwrap();
        assert!(matches!(effects[..], [Effect::Closed { .. }]));
    }

    #[test]
    fn a_wrong_configuration_and_a_vanished_shell_are_faults() {
        let (mut server, pool) = opened();
        let mut other = Pool::new("http://x/wsman", "Microsoft.PowerShell", Duration::from_secs(20));
        let sent = other.open();
        let (answer, _) = exchange(&mut server, &sent.envelope);
        assert!(
            other
                .opened(&sent, &answer)
                .unwrap_err()
                .to_string()
                .contains("Microsoft.PowerShell session configuration")
        );
        let sent = pool.close();
        exchange(&mut server, &sent.envelope);
        let sent = pool.receive(None);
        let (answer, _) = exchange(&mut server, &sent.envelope);
        assert!(answer.contains("2150858843"));
    }

    /// The codes are written out: a constant that is wrong on both sides would hide itself.
    #[test]
    fn one_code_stops_and_every_other_closes_the_command() {
        let terminate = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/Terminate";
        for (code, stops) in [
            ("powershell/signal/crtl_c", true),
            ("http://schemas.microsoft.com/powershell/signal/crtl_c", false),
            ("powershell/signal/ctrl_c", false),
            (terminate, false),
        ] {
            let (mut server, mut pool) = opened();
            let (pipeline, requests) = pool.command(&[Command::new("Get-Command")]);
            exchange(&mut server, &requests[0].envelope);
            let sent = pool.stop(pipeline).envelope;
            assert!(sent.contains("<rsp:Code>powershell/signal/crtl_c</rsp:Code>"), "{sent}");
            let (_, effects) = exchange(
                &mut server,
                &sent.replace("<rsp:Code>powershell/signal/crtl_c<", &format!("<rsp:Code>{code}<")),
            );
            assert!(matches!(effects[..], [Effect::Stop { .. }]), "{code}");
            let sent = pool.receive(Some(pipeline));
            let (answer, _) = exchange(&mut server, &sent.envelope);
            let received = pool.received(&sent, &answer);
            if stops {
                assert_eq!(received.unwrap(), [Event::PipelineEnded(PipelineState::Stopped, None)], "{code}");
            } else {
                assert!(matches!(received, Err(crate::wsman::ResponseError::Fault(_))), "{code}: {received:?}");
            }
            // What has stopped counts until it is closed.
            assert_eq!(server.open(), (1, usize::from(stops)), "{code}");
            let sent = pool.terminate(pipeline).envelope;
            assert!(sent.contains(&format!("<rsp:Code>{terminate}</rsp:Code>")), "{sent}");
            exchange(&mut server, &sent);
            assert_eq!(server.open(), (1, 0), "{code}");
        }
    }

    #[test]
    fn a_stopped_pipeline_ends_as_stopped() {
        let (mut server, mut pool) = opened();
        let (pipeline, requests) = pool.command(&[Command::new("Get-Command")]);
        exchange(&mut server, &requests[0].envelope);
        let sent = pool.stop(pipeline);
        let (_, effects) = exchange(&mut server, &sent.envelope);
        assert!(matches!(effects[..], [Effect::Stop { .. }]));
        let sent = pool.receive(Some(pipeline));
        let (answer, _) = exchange(&mut server, &sent.envelope);
        assert_eq!(pool.received(&sent, &answer).unwrap(), [Event::PipelineEnded(PipelineState::Stopped, None)]);
    }
}
