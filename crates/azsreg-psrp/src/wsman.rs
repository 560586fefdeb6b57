//! WS-Management envelopes and faults as PSRP uses them (DSP0226, MS-WSMV 2.2).

use std::fmt::Write as _;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use thiserror::Error;
use uuid::Uuid;

use crate::DecodeError;
use crate::xml::{Element, escape};

/// SOAP actions (`reference/wire-pep.md` row 8).
#[allow(missing_docs)]
pub mod action {
    pub const CREATE: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create";
    pub const DELETE: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete";
    pub const GET: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get";
    pub const COMMAND: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Command";
    pub const SEND: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Send";
    pub const RECEIVE: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive";
    pub const SIGNAL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Signal";
    pub const FAULT: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault";
}

/// What a resource URI of PowerShell remoting begins with; the configuration's name follows.
pub const POWERSHELL_URI: &str = "http://schemas.microsoft.com/powershell/";
/// The resource of the service's own configuration.
pub const CONFIG_URI: &str = "http://schemas.microsoft.com/wbem/wsman/1/config";
/// The signal that stops a pipeline: relative and spelled so. PowerShell compares it to the letter, and takes any other as
/// closing the command (`reference/wire-pep.md` row 12).
pub const SIGNAL_STOP: &str = "powershell/signal/crtl_c";
/// The signal that closes a command: one that has ended counts against the shell's quota until then.
pub const SIGNAL_TERMINATE: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/Terminate";
/// The state of a command that has ended.
pub const STATE_DONE: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done";
/// The state of a command that goes on.
pub const STATE_RUNNING: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Running";
/// The smaller of the two envelope limits that servers have by default, in bytes.
pub const DEFAULT_MAX_ENVELOPE: usize = 153_600;

/// The fault code that means: nothing to say yet, poll again.
pub const CODE_TIMED_OUT: u32 = 2_150_858_793;
/// The fault code for a shell or command that is not (or no longer) there.
pub const CODE_NO_SHELL: u32 = 2_150_858_843;
/// The fault code for a session configuration that does not exist.
pub const CODE_NO_CONFIGURATION: u32 = 2_150_858_811;
/// The fault code for an account that has as many shells as it may have (`ERROR_WSMAN_QUOTA_MAX_SHELLS`).
pub const CODE_MAX_SHELLS: u32 = 2_150_859_173;

/// No request waits longer than this, whatever it asks for.
const MAX_OPERATION_TIMEOUT: Duration = Duration::from_secs(3_600);

const NAMESPACES: &str = concat!(
    r#"xmlns:s="http://www.w3.org/2003/05/soap-envelope" "#,
    r#"xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" "#,
    r#"xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" "#,
    r#"xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd" "#,
    r#"xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell""#
);
const ANONYMOUS: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";

/// A request as a client writes it.
#[derive(Debug)]
pub struct Request<'a> {
    /// One of [`action`].
    pub action: &'a str,
    /// What it is about.
    pub resource_uri: &'a str,
    /// The endpoint's URL.
    pub to: &'a str,
    /// The id that the answer relates to.
    pub message_id: Uuid,
    /// The client's session.
    pub session_id: Uuid,
    /// The shell, once there is one.
    pub shell_id: Option<&'a str>,
    /// Options: name, value, must the server comply.
    pub options: &'a [(&'a str, &'a str, bool)],
    /// How long the server may take before it says [`CODE_TIMED_OUT`].
    pub timeout: Duration,
    /// The largest answer that we take, in bytes.
    pub max_envelope: usize,
    /// The body's XML.
    pub body: &'a str,
}

impl Request<'_> {
    /// The envelope's text. Culture and data culture are en-US: what the stamp says is matched as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!(
            concat!(
                r#"<s:Envelope {ns}><s:Header><a:Action s:mustUnderstand="true">{action}</a:Action>"#,
                r#"<p:DataLocale s:mustUnderstand="false" xml:lang="en-US" />"#,
                r#"<w:Locale s:mustUnderstand="false" xml:lang="en-US" />"#,
                r#"<w:MaxEnvelopeSize s:mustUnderstand="true">{max}</w:MaxEnvelopeSize>"#,
                r#"<a:MessageID>uuid:{id}</a:MessageID><w:OperationTimeout>PT{timeout}S</w:OperationTimeout>"#,
                r#"<a:ReplyTo><a:Address s:mustUnderstand="true">{anonymous}</a:Address></a:ReplyTo>"#,
                r#"<w:ResourceURI s:mustUnderstand="true">{uri}</w:ResourceURI>"#,
                r#"<p:SessionId s:mustUnderstand="false">uuid:{session}</p:SessionId><a:To>{to}</a:To>"#,
            ),
            ns = NAMESPACES,
            action = self.action,
            max = self.max_envelope,
            id = upper(self.message_id),
            timeout = seconds(self.timeout),
            anonymous = ANONYMOUS,
            uri = escape(self.resource_uri),
            session = upper(self.session_id),
            to = escape(self.to),
        );
        if !self.options.is_empty() {
            out.push_str(r#"<w:OptionSet s:mustUnderstand="true">"#);
            for (name, value, must) in self.options {
                let must = if *must { r#" MustComply="true""# } else { "" };
                let _ = write!(out, r#"<w:Option Name="{name}"{must}>{}</w:Option>"#, escape(value));
            }
            out.push_str("</w:OptionSet>");
        }
        if let Some(shell) = self.shell_id {
            let _ = write!(
                out,
                r#"<w:SelectorSet><w:Selector Name="ShellId">{}</w:Selector></w:SelectorSet>"#,
                escape(shell)
            );
        }
        let _ = write!(out, "</s:Header><s:Body>{}</s:Body></s:Envelope>", self.body);
        out
    }
}

/// A request as a server reads it.
#[derive(Debug)]
pub struct Incoming {
    /// The SOAP action.
    pub action: String,
    /// What it is about.
    pub resource_uri: String,
    /// The id to relate the answer to, as sent.
    pub message_id: String,
    /// The shell that it selects, if any.
    pub shell_id: Option<Uuid>,
    /// How long it may take. 60 seconds where nothing was said.
    pub timeout: Duration,
    /// The largest answer that the client takes, in bytes.
    pub max_envelope: usize,
    /// The options by name.
    pub options: Vec<(String, String)>,
    /// The body element.
    pub body: Element,
}

impl Incoming {
    /// Reads an envelope.
    ///
    /// # Errors
    /// Not a SOAP 1.2 envelope, or without action, resource or message id.
    pub fn decode(envelope: &str) -> Result<Self, DecodeError> {
        let mut root = soap(envelope)?;
        let header = root.child("Header").ok_or(DecodeError::Missing("the SOAP header"))?;
        let text = |name: &'static str| header.text_at(&[name]).ok_or(DecodeError::Missing(name));
        let shell_id = header
            .child("SelectorSet")
            .and_then(|set| set.children.iter().find(|s| s.attribute("Name") == Some("ShellId")))
            .map(|selector| {
                selector.text.trim().parse().map_err(|_| DecodeError::malformed("a ShellId", &selector.text))
            })
            .transpose()?;
        let timeout = match header.text_at(&["OperationTimeout"]) {
            Some(text) => parse_seconds(text)
                .ok_or_else(|| DecodeError::malformed("an OperationTimeout", text))?
                .min(MAX_OPERATION_TIMEOUT),
            None => Duration::from_secs(60),
        };
        let max_envelope = match header.text_at(&["MaxEnvelopeSize"]) {
            Some(text) => text.parse().map_err(|_| DecodeError::malformed("a MaxEnvelopeSize", text))?,
            None => DEFAULT_MAX_ENVELOPE,
        };
        let options = header
            .child("OptionSet")
            .map(|set| {
                set.children.iter().filter_map(|o| Some((o.attribute("Name")?.to_owned(), o.text.clone()))).collect()
            })
            .unwrap_or_default();
        let incoming = Self {
            action: text("Action")?.to_owned(),
            resource_uri: text("ResourceURI")?.to_owned(),
            message_id: text("MessageID")?.to_owned(),
            shell_id,
            timeout,
            max_envelope,
            options,
            body: Element::default(),
        };
        let body = root.children.iter_mut().find(|child| child.name == "Body");
        Ok(Self { body: std::mem::take(body.ok_or(DecodeError::Missing("the SOAP body"))?), ..incoming })
    }
}

/// A fault: the service refused or could not answer in time.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("WS-Management fault {code}: {reason}")]
pub struct Fault {
    /// The Win32 or WS-Management number; 0 where none was sent.
    pub code: u32,
    /// The SOAP subcode, such as `w:TimedOut`.
    pub subcode: String,
    /// The text for a person.
    pub reason: String,
}

impl Fault {
    /// Nothing came within OperationTimeout: poll again.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        // DSP0226 demands the subcode alone; Windows adds the number.
        self.code == CODE_TIMED_OUT || self.subcode.rsplit(':').next() == Some("TimedOut")
    }

    /// The fault as an answer to `relates_to`.
    #[must_use]
    pub fn encode(&self, relates_to: &str) -> String {
        let body = format!(
            concat!(
                r#"<s:Fault><s:Code><s:Value>s:{side}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code>"#,
                r#"<s:Reason><s:Text xml:lang="en-US">{reason}</s:Text></s:Reason><s:Detail>"#,
                r#"<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{code}" Machine="azsreg-lab">"#,
                r#"<f:Message>{reason}</f:Message></f:WSManFault></s:Detail></s:Fault>"#
            ),
            side = if self.is_timeout() { "Receiver" } else { "Sender" },
            subcode = self.subcode,
            reason = escape(&self.reason),
            code = self.code,
        );
        respond(action::FAULT, relates_to, &body)
    }
}

/// Why an answer is of no use.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResponseError {
    /// The service answered with a fault.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The answer cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Reads an answer and gives its body element.
///
/// # Errors
/// A fault, an answer to another request, or not an envelope.
pub fn response(envelope: &str, message_id: Uuid) -> Result<Element, ResponseError> {
    let mut root = soap(envelope)?;
    if let Some(fault) = root.at(&["Body", "Fault"]) {
        return Err(read_fault(fault).into());
    }
    let related = root.text_at(&["Header", "RelatesTo"]).unwrap_or_default();
    let related: Option<Uuid> = related.strip_prefix("uuid:").and_then(|id| id.parse().ok());
    if related != Some(message_id) {
        return Err(DecodeError::Protocol("an answer to another request").into());
    }
    let body = root.children.iter_mut().find(|child| child.name == "Body");
    Ok(std::mem::take(body.ok_or(DecodeError::Missing("the SOAP body"))?))
}

fn read_fault(fault: &Element) -> Fault {
    let subcode = fault.text_at(&["Code", "Subcode", "Value"]).or_else(|| fault.text_at(&["Code", "Value"]));
    let detail = fault.child("Detail");
    let wsman = detail.and_then(|detail| detail.child("WSManFault"));
    let code = wsman
        .and_then(|w| w.attribute("Code"))
        .or_else(|| detail.and_then(|d| d.text_at(&["MSFT_WmiError", "error_Code"])))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let message = wsman.and_then(|w| w.child("Message")).map(all_text).filter(|text| !text.is_empty());
    let reason = fault.text_at(&["Reason", "Text"]).unwrap_or_default().to_owned();
    Fault { code, subcode: subcode.unwrap_or_default().to_owned(), reason: message.unwrap_or(reason) }
}

/// The text of an element and its descendants: a WSManFault's message may wrap a provider's own fault.
fn all_text(element: &Element) -> String {
    let mut out = element.text.trim().to_owned();
    for child in &element.children {
        let inner = all_text(child);
        if !inner.is_empty() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&inner);
        }
    }
    out
}

/// An answer's envelope.
#[must_use]
pub fn respond(action: &str, relates_to: &str, body: &str) -> String {
    format!(
        concat!(
            r#"<s:Envelope xml:lang="en-US" {ns}><s:Header><a:Action>{action}</a:Action><a:MessageID>uuid:{id}</a:MessageID>"#,
            r#"<a:To>{to}</a:To><a:RelatesTo>{relates}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"#
        ),
        ns = NAMESPACES,
        action = action,
        id = upper(Uuid::new_v4()),
        to = ANONYMOUS,
        relates = escape(relates_to),
        body = body,
    )
}

/// Base64 text of an element.
///
/// # Errors
/// It is not base64.
pub fn base64_of(element: &Element) -> Result<Vec<u8>, DecodeError> {
    decode_base64(&element.text).ok_or_else(|| DecodeError::malformed("base64", &element.text))
}

/// Base64 as XML has it: white space is allowed anywhere.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let packed: std::borrow::Cow<'_, str> = if text.bytes().any(|b| b.is_ascii_whitespace()) {
        text.split_ascii_whitespace().collect::<String>().into()
    } else {
        text.into()
    };
    BASE64_STANDARD.decode(packed.as_bytes()).ok()
}

/// How many bytes of fragments fit one envelope of `max_envelope` bytes: what the frame leaves, as base64.
#[must_use]
pub fn fragment_limit(max_envelope: usize) -> usize {
    (max_envelope.saturating_sub(2_048) / 4 * 3).max(1_024)
}

fn soap(envelope: &str) -> Result<Element, DecodeError> {
    let root = Element::parse(envelope)?;
    if root.name != "Envelope" || root.ns != SOAP {
        return Err(DecodeError::Protocol("not a SOAP 1.2 envelope"));
    }
    Ok(root)
}

fn upper(id: Uuid) -> String {
    id.to_string().to_uppercase()
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:03}", duration.as_secs(), duration.subsec_millis())
}

/// An XML duration of days, hours, minutes and seconds.
fn parse_seconds(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('P')?;
    let mut total = 0.0;
    let mut in_time = false;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('T') {
            in_time = true;
            rest = tail;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        total += number
            * match (rest[end..].chars().next()?, in_time) {
                ('D', false) => 86_400.0,
                ('H', true) => 3_600.0,
                ('M', true) => 60.0,
                ('S', true) => 1.0,
                _ => return None,
            };
        rest = &rest[end + 1..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_seconds("PT20.000S"), Some(Duration::from_secs(20)));
        assert_eq!(parse_seconds("P0DT0H1M0.5S"), Some(Duration::from_millis(60_500)));
        for bad in ["", "20", "PTS", "P1M", "PT-1S"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }

    /// A fault as Windows Server writes it (MS-WSMV examples; prefixes differ from ours).
    #[test]
    fn a_fault_of_windows_is_read() {
        let text = r#"<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer" xmlns:e="http://schemas.xmlsoap.org/ws/2004/08/eventing" xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"><s:Header><a:Action>http://schemas.dmtf.org/wbem/wsman/1/wsman/fault</a:Action><a:MessageID>uuid:D7C4A9B1-9A18-4048-B346-248D62A6078D</a:MessageID><a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To><a:RelatesTo>uuid:7340FE92-C302-42E5-A337-1918908654F8</a:RelatesTo></s:Header><s:Body><s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:TimedOut</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  </s:Text></s:Reason><s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="2150858793" Machine="server2016.domain.local"><f:Message>The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  </f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>"#;
        let Err(ResponseError::Fault(fault)) = response(text, Uuid::nil()) else { panic!("no fault") };
        assert!(fault.is_timeout());
        assert_eq!(fault.subcode, "w:TimedOut");
    }

    #[test]
    fn requests_and_answers_meet() {
        let id = Uuid::new_v4();
        let request = Request {
            action: action::RECEIVE,
            resource_uri: "http://schemas.microsoft.com/powershell/PrivilegedEndpoint",
            to: "http://stamp:5985/wsman",
            message_id: id,
            session_id: Uuid::new_v4(),
            shell_id: Some("6A8D0D23-0B5A-4D5F-8F6C-0C3C0B1C2D3E"),
            options: &[("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "True", false)],
            timeout: Duration::from_secs(20),
            max_envelope: 153_600,
            body: "<rsp:Receive />",
        };
        let read = Incoming::decode(&request.encode()).unwrap();
        assert_eq!(read.action, action::RECEIVE);
        assert_eq!(read.timeout, Duration::from_secs(20));
        assert_eq!(read.shell_id.unwrap().to_string(), "6a8d0d23-0b5a-4d5f-8f6c-0c3c0b1c2d3e");
        let answer = respond("urn:x", &read.message_id, "<rsp:ReceiveResponse/>");
        assert!(response(&answer, id).unwrap().child("ReceiveResponse").is_some());
        assert!(response(&answer, Uuid::nil()).is_err());
    }
}
