//! The client's side of one runspace pool, without a socket.
//!
//! The caller asks for a request, sends it, and hands the answer back:
//! [`open`](Pool::open) → [`opened`](Pool::opened) → [`receive`](Pool::receive) until [`Event::PoolOpened`] →
//! [`command`](Pool::command) → `receive` until [`Event::PipelineEnded`] → [`close`](Pool::close).
//! Pool-level traffic stays on the shell, a pipeline's on its command (`reference/wire-pep.md` rows 9 and 10).

use std::collections::HashMap;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use uuid::Uuid;

use crate::clixml::{Value, from_xml};
use crate::fragment::{Defragmenter, Fragmenter};
use crate::message::{Destination, Message, kind};
use crate::messages::{self, Command, ErrorRecord, HostCall, PipelineState, PoolState, ProgressRecord};
use crate::session_key::{Exchange, SessionKey};
use crate::wsman::{self, Request, ResponseError, action};
use crate::{DecodeError, xml::Element};

/// What a receive brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The pool takes commands from now on.
    PoolOpened,
    /// The pool is broken or closed by the server.
    PoolEnded(Option<ErrorRecord>),
    /// An output object.
    Output(Value),
    /// A non-terminating error.
    Error(ErrorRecord),
    /// A line of the verbose stream.
    Verbose(String),
    /// A line of the warning stream.
    Warning(String),
    /// A line of the debug stream.
    Debug(String),
    /// A line of the information stream: what Write-Host writes is there.
    Information(String),
    /// A progress record.
    Progress(ProgressRecord),
    /// The server calls the client's host; see [`Pool::decline`].
    HostCall(HostCall),
    /// The pipeline has ended, with the terminating error if it failed.
    PipelineEnded(PipelineState, Option<ErrorRecord>),
}

impl Event {
    /// Roughly how many bytes of memory it holds. Progress is told and let go.
    fn weight(&self) -> usize {
        let text = match self {
            Self::Output(value) => return value.weight(),
            Self::PoolOpened | Self::Progress(_) => return 0,
            Self::Verbose(text) | Self::Warning(text) | Self::Debug(text) | Self::Information(text) => text.len(),
            Self::HostCall(call) => call.name.len(),
            Self::Error(record) | Self::PipelineEnded(_, Some(record)) | Self::PoolEnded(Some(record)) => {
                record.weight()
            }
            Self::PipelineEnded(_, None) | Self::PoolEnded(None) => 0,
        };
        text + size_of::<Self>()
    }
}

/// A request to send: the envelope and the id that its answer must relate to.
#[derive(Debug)]
pub struct Outgoing {
    /// The envelope.
    pub envelope: String,
    /// Its message id.
    pub id: Uuid,
    /// What it asks, for a person.
    pub what: &'static str,
}

/// What a command may bring at most; the pool's own traffic has the same limits. Over them the server is refused: none of
/// the cmdlets that are asked for here gives a hundredth of it.
mod limit {
    /// Bytes of messages.
    pub(super) const BYTES: usize = 64 << 20;
    /// Bytes of memory that the output takes.
    pub(super) const HELD: usize = 32 << 20;
    /// Messages.
    pub(super) const MESSAGES: usize = 100_000;
    /// Pieces of output of commands that nobody asked for.
    pub(super) const STRANGERS: usize = 16;
}

/// What has come since the last command.
#[derive(Debug, Default)]
struct Spent {
    bytes: usize,
    held: usize,
    messages: usize,
    strangers: usize,
}

impl Spent {
    fn add(spent: &mut usize, more: usize, what: &'static str, limit: usize) -> Result<(), DecodeError> {
        *spent = spent.saturating_add(more);
        if *spent > limit { Err(DecodeError::Limit { what, limit }) } else { Ok(()) }
    }
}

/// One runspace pool as its client sees it.
#[derive(Debug)]
pub struct Pool {
    id: Uuid,
    session: Uuid,
    url: String,
    resource_uri: String,
    shell: Option<String>,
    /// The version of the protocol that the server named.
    protocol: Option<String>,
    timeout: Duration,
    max_envelope: usize,
    fragmenter: Fragmenter,
    streams: HashMap<Uuid, Defragmenter>,
    exchange: Option<Exchange>,
    key: Option<SessionKey>,
    /// The last command's id: none but its output and the pool's own is taken.
    current: Option<Uuid>,
    spent: Spent,
}

impl Pool {
    /// A pool of the session configuration `configuration` at `url`, not yet opened.
    #[must_use]
    pub fn new(url: &str, configuration: &str, timeout: Duration) -> Self {
        Self {
            id: Uuid::new_v4(),
            session: Uuid::new_v4(),
            url: url.to_owned(),
            resource_uri: format!("{}{configuration}", wsman::POWERSHELL_URI),
            shell: None,
            protocol: None,
            timeout,
            max_envelope: wsman::DEFAULT_MAX_ENVELOPE,
            fragmenter: Fragmenter::default(),
            streams: HashMap::new(),
            exchange: None,
            key: None,
            current: None,
            spent: Spent::default(),
        }
    }

    fn request(&self, action: &str, options: &[(&str, &str, bool)], body: &str) -> Outgoing {
        let id = Uuid::new_v4();
        let envelope = Request {
            action,
            resource_uri: &self.resource_uri,
            to: &self.url,
            message_id: id,
            session_id: self.session,
            shell_id: self.shell.as_deref(),
            options,
            timeout: self.timeout,
            max_envelope: self.max_envelope,
            body,
        }
        .encode();
        let what = match action {
            action::CREATE => "the request for a session",
            action::COMMAND => "a command",
            action::SEND => "the input of a command",
            action::RECEIVE => "the question for output",
            action::SIGNAL => "a signal",
            _ => "the request to close the session",
        };
        Outgoing { envelope, id, what }
    }

    fn message(&mut self, kind: u32, pipeline: Uuid, data: String) -> Vec<Vec<u8>> {
        let message = Message { destination: Destination::Server, kind, pool: self.id, pipeline, data };
        self.fragmenter.cut(&message.encode(), wsman::fragment_limit(self.max_envelope))
    }

    /// The request that creates the shell and carries the pool's first messages.
    pub fn open(&mut self) -> Outgoing {
        let mut first = self.message(kind::SESSION_CAPABILITY, Uuid::nil(), messages::session_capability("2.0"));
        first.extend(self.message(kind::INIT_RUNSPACEPOOL, Uuid::nil(), messages::init_runspace_pool()));
        let body = format!(
            concat!(
                r#"<rsp:Shell ShellId="{}"><rsp:InputStreams>stdin pr</rsp:InputStreams>"#,
                r#"<rsp:OutputStreams>stdout</rsp:OutputStreams>"#,
                r#"<creationXml xmlns="http://schemas.microsoft.com/powershell">{}</creationXml></rsp:Shell>"#
            ),
            self.id.to_string().to_uppercase(),
            BASE64_STANDARD.encode(first.concat()),
        );
        self.request(action::CREATE, &[("protocolversion", "2.3", true)], &body)
    }

    /// Takes the answer to [`open`](Self::open).
    ///
    /// # Errors
    /// A fault, or an answer that names no shell.
    pub fn opened(&mut self, sent: &Outgoing, answer: &str) -> Result<(), ResponseError> {
        let body = wsman::response(answer, sent.id)?;
        let selected = body
            .at(&["ResourceCreated", "ReferenceParameters", "SelectorSet"])
            .and_then(|set| set.children.iter().find(|s| s.attribute("Name") == Some("ShellId")))
            .map(|s| s.text.trim())
            .or_else(|| body.text_at(&["Shell", "ShellId"]))
            .ok_or(DecodeError::Missing("the ShellId of the created shell"))?;
        self.shell = Some(selected.to_owned());
        Ok(())
    }

    /// Whether the shell exists and has to be deleted at the end.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shell.is_some()
    }

    /// The version of the protocol that the server named, once the pool is open.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Asks for what the pool (`None`) or a pipeline has to say.
    #[must_use]
    pub fn receive(&self, pipeline: Option<Uuid>) -> Outgoing {
        let command = pipeline.map_or(String::new(), |id| format!(" CommandId=\"{}\"", id.to_string().to_uppercase()));
        let body = format!("<rsp:Receive><rsp:DesiredStream{command}>stdout</rsp:DesiredStream></rsp:Receive>");
        self.request(action::RECEIVE, &[("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "True", false)], &body)
    }

    /// Takes the answer to [`receive`](Self::receive). A timeout fault is no event: ask again.
    ///
    /// # Errors
    /// Another fault, or messages that cannot be read.
    pub fn received(&mut self, sent: &Outgoing, answer: &str) -> Result<Vec<Event>, ResponseError> {
        let body = match wsman::response(answer, sent.id) {
            Err(ResponseError::Fault(fault)) if fault.is_timeout() => return Ok(Vec::new()),
            other => other?,
        };
        let response = body.child("ReceiveResponse").ok_or(DecodeError::Missing("ReceiveResponse"))?;
        let mut events = Vec::new();
        for stream in response.children.iter().filter(|child| child.name == "Stream") {
            let pipeline = command_id(stream)?;
            let bytes = wsman::base64_of(stream)?;
            Spent::add(&mut self.spent.bytes, bytes.len(), "output of one command in bytes", limit::BYTES)?;
            if !pipeline.is_nil() && self.current != Some(pipeline) {
                let what = "output of commands that were not asked for";
                Spent::add(&mut self.spent.strangers, 1, what, limit::STRANGERS)?;
                continue;
            }
            for bytes in self.streams.entry(pipeline).or_default().push(&bytes)? {
                let what = "number of messages of one command";
                Spent::add(&mut self.spent.messages, 1, what, limit::MESSAGES)?;
                let message = Message::decode(&bytes)?;
                if message.kind == kind::SESSION_CAPABILITY {
                    self.protocol = from_xml(&message.data)?.get("protocolversion").and_then(Value::display);
                }
                if message.kind == kind::ENCRYPTED_SESSION_KEY {
                    let text = messages::read_one_text(&message.data, "EncryptedSessionKey")?;
                    if let Some(exchange) = self.exchange.take() {
                        self.key = Some(exchange.session_key(&text)?);
                    }
                    continue;
                }
                if let Some(event) = event(&message)? {
                    let what = "output of one command in bytes of memory";
                    Spent::add(&mut self.spent.held, event.weight(), what, limit::HELD)?;
                    events.push(event);
                }
            }
        }
        // A command that ends without a PIPELINE_STATE was ended by the service itself.
        let state = response.child("CommandState");
        let done = state.is_some_and(|state| state.attribute("State") == Some(wsman::STATE_DONE));
        let of_command = state.is_some_and(|state| state.attribute("CommandId").is_some());
        if done && of_command && !events.iter().any(|event| matches!(event, Event::PipelineEnded(..))) {
            events.push(Event::PipelineEnded(PipelineState::Stopped, None));
        }
        Ok(events)
    }

    /// The requests that start a pipeline: Command with the first fragment, Send for each further one.
    pub fn command(&mut self, commands: &[Command]) -> (Uuid, Vec<Outgoing>) {
        let pipeline = Uuid::new_v4();
        self.current = Some(pipeline);
        self.spent = Spent::default();
        self.streams.retain(|id, _| id.is_nil());
        let data = messages::create_pipeline(commands);
        let mut fragments = self.message(kind::CREATE_PIPELINE, pipeline, data).into_iter();
        let id = pipeline.to_string().to_uppercase();
        let first = BASE64_STANDARD.encode(fragments.next().unwrap_or_default());
        let body = format!(
            r#"<rsp:CommandLine CommandId="{id}"><rsp:Command /><rsp:Arguments>{first}</rsp:Arguments></rsp:CommandLine>"#
        );
        let mut requests = vec![self.request(action::COMMAND, &[("WINRS_SKIP_CMD_SHELL", "FALSE", false)], &body)];
        requests.extend(fragments.map(|fragment| self.send("stdin", Some(pipeline), &fragment)));
        (pipeline, requests)
    }

    fn send(&self, stream: &str, pipeline: Option<Uuid>, fragment: &[u8]) -> Outgoing {
        let command = pipeline.map_or(String::new(), |id| format!(" CommandId=\"{}\"", id.to_string().to_uppercase()));
        let body = format!(
            r#"<rsp:Send><rsp:Stream Name="{stream}"{command}>{}</rsp:Stream></rsp:Send>"#,
            BASE64_STANDARD.encode(fragment)
        );
        self.request(action::SEND, &[], &body)
    }

    /// The requests that decline a host call, so that the server never waits for a person who isn't there.
    pub fn decline(&mut self, pipeline: Option<Uuid>, call: &HostCall) -> Vec<Outgoing> {
        let kind = if pipeline.is_some() { kind::PIPELINE_HOST_RESPONSE } else { kind::RUNSPACEPOOL_HOST_RESPONSE };
        let fragments = self.message(kind, pipeline.unwrap_or_default(), messages::decline_host_call(call));
        fragments.iter().map(|fragment| self.send("pr", pipeline, fragment)).collect()
    }

    /// The requests that ask for a session key; the answer comes with a [`receive`](Self::receive) of the pool.
    ///
    /// # Errors
    /// No key pair could be made.
    pub fn exchange_key(&mut self) -> Result<Vec<Outgoing>, DecodeError> {
        let exchange = Exchange::generate()?;
        let text = messages::one_text("PublicKey", &exchange.public_key()?);
        self.exchange = Some(exchange);
        let fragments = self.message(kind::PUBLIC_KEY, Uuid::nil(), text);
        Ok(fragments.iter().map(|fragment| self.send("stdin", None, fragment)).collect())
    }

    /// A secure string under the session key; `None` before there is one.
    ///
    /// # Errors
    /// The cipher failed.
    pub fn secure_string(&self, text: &str) -> Result<Option<Value>, DecodeError> {
        self.key.as_ref().map(|key| key.seal(text).map(Value::SecureString)).transpose()
    }

    /// The request that stops a pipeline. It goes on until it says that it has stopped.
    #[must_use]
    pub fn stop(&self, pipeline: Uuid) -> Outgoing {
        self.signal(pipeline, wsman::SIGNAL_STOP)
    }

    /// The request that closes a pipeline's command: each that has ended wants one.
    #[must_use]
    pub fn terminate(&self, pipeline: Uuid) -> Outgoing {
        self.signal(pipeline, wsman::SIGNAL_TERMINATE)
    }

    fn signal(&self, pipeline: Uuid, code: &str) -> Outgoing {
        let body = format!(
            r#"<rsp:Signal CommandId="{}"><rsp:Code>{code}</rsp:Code></rsp:Signal>"#,
            pipeline.to_string().to_uppercase()
        );
        self.request(action::SIGNAL, &[], &body)
    }

    /// The request that deletes the shell.
    #[must_use]
    pub fn close(&self) -> Outgoing {
        self.request(action::DELETE, &[], "")
    }

    /// Checks an answer of which only the absence of a fault matters (Command, Send, Signal, Delete).
    ///
    /// # Errors
    /// A fault, or an answer to another request.
    pub fn acknowledged(&self, sent: &Outgoing, answer: &str) -> Result<(), ResponseError> {
        wsman::response(answer, sent.id).map(drop)
    }
}

fn command_id(stream: &Element) -> Result<Uuid, DecodeError> {
    match stream.attribute("CommandId") {
        None => Ok(Uuid::nil()),
        Some(id) => id.parse().map_err(|_| DecodeError::malformed("a CommandId", id)),
    }
}

fn event(message: &Message) -> Result<Option<Event>, DecodeError> {
    let data = message.data.as_str();
    Ok(Some(match message.kind {
        kind::RUNSPACEPOOL_STATE => match messages::read_pool_state(data)? {
            (state, _) if state == PoolState::Opened as i64 => Event::PoolOpened,
            (state, error) if state == PoolState::Broken as i64 || state == PoolState::Closed as i64 => {
                Event::PoolEnded(error)
            }
            _ => return Ok(None),
        },
        // Null output can be an empty message (`reference/wire-pep.md` row 18).
        kind::PIPELINE_OUTPUT if data.is_empty() => Event::Output(Value::Null),
        kind::PIPELINE_OUTPUT => Event::Output(from_xml(data)?),
        kind::ERROR_RECORD => Event::Error(messages::read_error_record(data)?),
        kind::VERBOSE_RECORD => Event::Verbose(messages::read_informational_record(data)?),
        kind::WARNING_RECORD => Event::Warning(messages::read_informational_record(data)?),
        kind::DEBUG_RECORD => Event::Debug(messages::read_informational_record(data)?),
        kind::INFORMATION_RECORD => Event::Information(messages::read_information_record(data)?),
        kind::PROGRESS_RECORD => Event::Progress(messages::read_progress_record(data)?),
        kind::RUNSPACEPOOL_HOST_CALL | kind::PIPELINE_HOST_CALL => Event::HostCall(messages::read_host_call(data)?),
        kind::PIPELINE_STATE => {
            let (state, error) = messages::read_pipeline_state(data)?;
            if !state.is_final() {
                return Ok(None);
            }
            Event::PipelineEnded(state, error)
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sent: &Outgoing, streams: &str) -> String {
        wsman::respond(
            "urn:x",
            &format!("uuid:{}", sent.id),
            &format!("<rsp:ReceiveResponse>{streams}</rsp:ReceiveResponse>"),
        )
    }

    fn stream(command: Uuid, messages: &[(u32, &str)]) -> String {
        let mut cutter = Fragmenter::default();
        let mut bytes = Vec::new();
        for (kind, data) in messages {
            let message = Message {
                destination: Destination::Client,
                kind: *kind,
                pool: Uuid::nil(),
                pipeline: command,
                data: (*data).to_owned(),
            };
            bytes.extend(cutter.cut(&message.encode(), 32 << 10).concat());
        }
        format!(r#"<rsp:Stream Name="stdout" CommandId="{command}">{}</rsp:Stream>"#, BASE64_STANDARD.encode(bytes))
    }

    fn pool() -> Pool {
        Pool::new("http://stamp:5985/wsman", "PrivilegedEndpoint", Duration::from_secs(20))
    }

    /// Asks until it is refused, and tells what for.
    fn refused(pool: &mut Pool, mut streams: impl FnMut() -> String) -> &'static str {
        for _ in 0..10_000 {
            let sent = pool.receive(None);
            match pool.received(&sent, &answer(&sent, &streams())) {
                Ok(_) => {}
                Err(ResponseError::Decode(DecodeError::Limit { what, .. })) => return what,
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("never refused")
    }

    #[test]
    fn output_without_end_is_refused() {
        // A small text that is a large value: fifty thousand references to one word.
        let bomb = format!(
            r#"<Obj RefId="0"><LST><Obj RefId="1"><ToString>w</ToString></Obj>{}</LST></Obj>"#,
            r#"<Ref RefId="1"/>"#.repeat(20_000)
        );
        let mut pool = pool();
        let (command, _) = pool.command(&[Command::new("Get-X")]);
        let what = refused(&mut pool, || stream(command, &[(kind::PIPELINE_OUTPUT, &bomb)]));
        assert_eq!(what, "output of one command in bytes of memory");

        let word = messages::informational_record("w");
        let many: Vec<(u32, &str)> = (0..1_000).map(|_| (kind::PROGRESS_RECORD, "<Obj/>")).collect();
        let (command, _) = pool.command(&[Command::new("Get-X")]);
        let what = refused(&mut pool, || stream(command, &many));
        assert_eq!(what, "number of messages of one command");
        // A new command begins anew.
        let (command, _) = pool.command(&[Command::new("Get-X")]);
        let sent = pool.receive(Some(command));
        let events = pool.received(&sent, &answer(&sent, &stream(command, &[(kind::WARNING_RECORD, &word)]))).unwrap();
        assert_eq!(events, [Event::Warning("w".into())]);

        let padded = format!("<S>{}</S>", " ".repeat(1 << 20));
        let (command, _) = pool.command(&[Command::new("Get-X")]);
        let what = refused(&mut pool, || stream(command, &[(kind::INFORMATION_RECORD, &padded)]));
        assert_eq!(what, "output of one command in bytes");
    }

    #[test]
    fn output_of_other_commands_is_let_go() {
        let mut pool = pool();
        let (old, _) = pool.command(&[Command::new("Get-X")]);
        let (new, _) = pool.command(&[Command::new("Get-X")]);
        for stranger in [old, Uuid::new_v4()] {
            let sent = pool.receive(Some(new));
            let events = pool.received(&sent, &answer(&sent, &stream(stranger, &[(kind::PIPELINE_OUTPUT, "<Nil/>")])));
            assert_eq!(events.unwrap(), []);
        }
        // A fragment that never ends, for a new command each time: nothing of it is kept.
        assert!(!pool.streams.contains_key(&old));
        let what = refused(&mut pool, || stream(Uuid::new_v4(), &[(kind::PIPELINE_OUTPUT, "<Nil/>")]));
        assert_eq!(what, "output of commands that were not asked for");
        assert!(pool.streams.len() <= 2);
    }
}
