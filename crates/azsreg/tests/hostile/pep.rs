//! Privileged endpoints that misbehave: those that know the password, and those that do not.
//!
//! The server is a few hundred lines on blocking sockets with an NTLM of its own; what the codecs of `azsreg-psrp` would not
//! write is written by hand.

mod texts;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azsreg_psrp::clixml::Object;
use azsreg_psrp::fragment::Fragmenter;
use azsreg_psrp::message::{Destination, Message, kind};
use azsreg_psrp::messages::PipelineState;
use azsreg_psrp::server::{Effect, Handled, Push, Server};
use azsreg_psrp::wsman;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use uuid::Uuid;

use crate::ntlm::{
    EXTENDED, FLAGS, KEY_128, KEY_EXCHANGE, LM_KEY, PASSWORD, SEAL, SEALED, SIGN, Session, TARGET_INFO, UNICODE,
    accept, challenge, sealed, spnego,
};
use texts::{deep, elements, entities, namespace, references, text, tower, values};

const MIB: usize = 1 << 20;

/// When something happens that should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In place of the challenge.
    Challenge,
    /// In place of the word about the proof.
    Verdict,
    /// In place of the first answer after a 200 to the proof, by a server that knows no password.
    Stranger,
    /// In place of the first answer under the session's seal.
    First,
    /// In place of the output of the command.
    Output,
    /// Nowhere.
    Never,
}

/// What it is. The flags of a challenge are what the row's name says is missing.
#[derive(Debug, Clone, Copy)]
enum Evil {
    Nothing,
    Drop,
    Hang,
    Status(u16),
    /// 503 and `Retry-After` of a week.
    Later,
    /// 401 without a token, with these schemes.
    Offers(&'static str),
    /// 401 with a challenge, whatever was sent.
    Again,
    Redirect,
    NotHttp,
    EndlessHead,
    ManyHeaders,
    EndlessContinue,
    EndlessBody,
    EndlessChunks,
    EndlessTrailer,
    /// A challenge with these flags.
    Flags(u32),
    /// A challenge that says where its parts are and has none there.
    Cut,
    /// A challenge that carries no time.
    NoTime,
    /// A 200 in place of a challenge.
    Welcome,
    /// SPNEGO's no.
    Reject,
    /// SPNEGO's choice of Kerberos.
    Kerberos,
    /// SPNEGO's last word with a wrong integrity code.
    WrongMic,
    /// A body of this length that is said to be sealed.
    Garbage(usize),
    /// The right text under a wrong signature.
    WrongSignature,
    /// What was answered to the request before.
    Replay,
    /// The right text without a seal.
    Unsealed(&'static str),
    /// These bytes of CLIXML as an output, over and over.
    Outputs(fn() -> String),
    /// Output of commands that nobody asked for, over and over.
    Strangers,
    /// Fragments that never end, over and over.
    EndlessMessage,
    /// A sealed envelope of this body.
    Body(fn() -> String),
    /// A sealed fault of this number, so often.
    Fault(u32, &'static str, u64),
}

struct Row {
    name: &'static str,
    at: At,
    evil: Evil,
    /// The code that the operator sees; empty where the command succeeds.
    code: &'static str,
    /// How many proofs of the password reach the server.
    proofs: u64,
    /// The longest that it takes, in seconds.
    seconds: u64,
}

const fn row(name: &'static str, at: At, evil: Evil, code: &'static str, proofs: u64, seconds: u64) -> Row {
    Row { name, at, evil, code, proofs, seconds }
}

/// The longest that most rows take, on a machine that is busy with the others.
const QUICK: u64 = 40;
/// A retried row has seven tries, some 25 seconds of waits between them.
const RETRIED: u64 = 90;

const NO_SESSION_ONCE: Evil = Evil::Fault(2_150_859_173, "w:QuotaLimit", 1);

const ROWS: &[Row] = &[
    // Nothing of the password was sent yet.
    row("drops at the first leg", At::Challenge, Evil::Drop, "AZR2006", 0, RETRIED),
    row("hangs at the first leg", At::Challenge, Evil::Hang, "AZR2001", 0, QUICK),
    row("500 to the first leg, for ever", At::Challenge, Evil::Status(500), "AZR2006", 0, RETRIED),
    row("404 to the first leg", At::Challenge, Evil::Status(404), "AZR2007", 0, QUICK),
    row("a Retry-After of a week at the first leg", At::Challenge, Evil::Later, "AZR2006", 0, RETRIED),
    row("a redirect in place of a challenge", At::Challenge, Evil::Redirect, "AZR2007", 0, QUICK),
    row("what is not HTTP", At::Challenge, Evil::NotHttp, "AZR2007", 0, QUICK),
    row("a header without end", At::Challenge, Evil::EndlessHead, "AZR2032", 0, QUICK),
    row("headers without end", At::Challenge, Evil::ManyHeaders, "AZR2032", 0, QUICK),
    row("100 Continue without end", At::Challenge, Evil::EndlessContinue, "AZR2032", 0, QUICK),
    row("a 401 with a body without end", At::Challenge, Evil::EndlessBody, "AZR2032", 0, QUICK),
    row("chunks without end", At::Challenge, Evil::EndlessChunks, "AZR2032", 0, QUICK),
    row("a trailer without end", At::Challenge, Evil::EndlessTrailer, "AZR2032", 0, QUICK),
    row("offers Basic only", At::Challenge, Evil::Offers("Basic realm=\"stamp\""), "AZR2031", 0, QUICK),
    row("offers nothing", At::Challenge, Evil::Offers(""), "AZR2031", 0, QUICK),
    row("takes whoever comes", At::Challenge, Evil::Welcome, "AZR2031", 0, QUICK),
    row("a challenge without sealing", At::Challenge, Evil::Flags(FLAGS & !SEAL), "AZR2031", 0, QUICK),
    row("a challenge without signing", At::Challenge, Evil::Flags(FLAGS & !SIGN), "AZR2031", 0, QUICK),
    row("a challenge without extended security", At::Challenge, Evil::Flags(FLAGS & !EXTENDED), "AZR2031", 0, QUICK),
    row("a challenge of LM", At::Challenge, Evil::Flags(FLAGS & !EXTENDED | LM_KEY), "AZR2031", 0, QUICK),
    row("a challenge without 128-bit keys", At::Challenge, Evil::Flags(FLAGS & !KEY_128), "AZR2031", 0, QUICK),
    row("a challenge without a key exchange", At::Challenge, Evil::Flags(FLAGS & !KEY_EXCHANGE), "AZR2031", 0, QUICK),
    row(
        "a challenge without target information",
        At::Challenge,
        Evil::Flags(FLAGS & !TARGET_INFO),
        "AZR2031",
        0,
        QUICK,
    ),
    row("a challenge without Unicode", At::Challenge, Evil::Flags(FLAGS & !UNICODE), "AZR2031", 0, QUICK),
    row("a challenge that is cut off", At::Challenge, Evil::Cut, "AZR2007", 0, QUICK),
    row("SPNEGO rejects NTLM", At::Challenge, Evil::Reject, "AZR2036", 0, QUICK),
    row("SPNEGO chooses Kerberos", At::Challenge, Evil::Kerberos, "AZR2036", 0, QUICK),
    row("offers Kerberos only", At::Challenge, Evil::Offers("Kerberos"), "AZR2036", 0, QUICK),
    row("has no answer to NTLM", At::Challenge, Evil::Offers("Negotiate, Kerberos"), "AZR2036", 0, QUICK),
    // One proof, whatever comes back.
    row("drops at the proof", At::Verdict, Evil::Drop, "AZR2030", 1, QUICK),
    row("hangs at the proof", At::Verdict, Evil::Hang, "AZR2030", 1, QUICK),
    row("401 to the proof", At::Verdict, Evil::Offers("Negotiate"), "AZR2002", 1, QUICK),
    row("a challenge to everything, for ever", At::Verdict, Evil::Again, "AZR2002", 1, QUICK),
    row("403 to the proof", At::Verdict, Evil::Status(403), "AZR2035", 1, QUICK),
    row("500 to the proof", At::Verdict, Evil::Status(500), "AZR2030", 1, QUICK),
    row("a Retry-After of a week to the proof", At::Verdict, Evil::Later, "AZR2030", 1, QUICK),
    row("a redirect for the proof", At::Verdict, Evil::Redirect, "AZR2030", 1, QUICK),
    row("what is not HTTP, to the proof", At::Verdict, Evil::NotHttp, "AZR2030", 1, QUICK),
    row("100 Continue without end, to the proof", At::Verdict, Evil::EndlessContinue, "AZR2030", 1, QUICK),
    row("a 200 without end, to the proof", At::Verdict, Evil::EndlessBody, "AZR2030", 1, QUICK),
    row("a wrong code over the mechanisms", At::Verdict, Evil::WrongMic, "AZR2034", 1, QUICK),
    row("a stranger says 200 and drops", At::Stranger, Evil::Drop, "AZR2030", 1, QUICK),
    row("a stranger says 200, then 401", At::Stranger, Evil::Offers("Negotiate"), "AZR2030", 1, QUICK),
    row("a stranger says 200, then 500 for ever", At::Stranger, Evil::Status(500), "AZR2030", 1, QUICK),
    row("a stranger's sealed garbage", At::Stranger, Evil::Garbage(2_000), "AZR2034", 1, QUICK),
    row("a stranger speaks without a seal", At::Stranger, Evil::Unsealed("application/soap+xml"), "AZR2005", 1, QUICK),
    // It knows the password: the account is in no danger, memory and time are. Seven tries, and an eighth connection that
    // deletes the shell.
    row("drops at the first request", At::First, Evil::Drop, "AZR2030", 1, QUICK),
    row("hangs at the first request", At::First, Evil::Hang, "AZR2030", 1, 110),
    row("403 to the first request", At::First, Evil::Status(403), "AZR2035", 1, QUICK),
    row("access denied, sealed", At::First, Evil::Fault(5, "w:AccessDenied", u64::MAX), "AZR2035", 1, QUICK),
    row("no session left, then one", At::First, NO_SESSION_ONCE, "", 2, RETRIED),
    row("drops at each command", At::Output, Evil::Drop, "AZR2006", 8, RETRIED),
    row("401 for ever", At::Output, Evil::Offers("Negotiate"), "AZR2006", 8, RETRIED),
    row("500 for ever", At::Output, Evil::Status(500), "AZR2006", 8, RETRIED),
    row("400 without a body, for ever", At::Output, Evil::Status(400), "AZR2006", 8, RETRIED),
    row("a Retry-After of a week", At::Output, Evil::Later, "AZR2006", 8, RETRIED),
    row("a wrong signature", At::Output, Evil::WrongSignature, "AZR2034", 1, QUICK),
    row("a replay", At::Output, Evil::Replay, "AZR2034", 1, QUICK),
    row("output without a seal", At::Output, Evil::Unsealed("application/soap+xml"), "AZR2005", 1, QUICK),
    row("output of another kind", At::Output, Evil::Unsealed("text/html"), "AZR2005", 1, QUICK),
    row("a sealed body of 3 MiB", At::Output, Evil::Garbage(3 * MIB), "AZR2032", 1, QUICK),
    row("a body without end", At::Output, Evil::EndlessBody, "AZR2032", 1, QUICK),
    row("a million elements", At::Output, Evil::Body(elements), "AZR2032", 1, QUICK),
    row("elements a thousand deep", At::Output, Evil::Body(deep), "AZR2032", 1, QUICK),
    row("a namespace of a mebibyte", At::Output, Evil::Body(namespace), "AZR2032", 1, QUICK),
    row("a document type", At::Output, Evil::Outputs(entities), "AZR2007", 1, QUICK),
    row("values without end", At::Output, Evil::Outputs(values), "AZR2032", 1, QUICK),
    row("references that multiply", At::Output, Evil::Outputs(references), "AZR2032", 1, QUICK),
    row("a tower of references", At::Output, Evil::Outputs(tower), "AZR2032", 1, QUICK),
    row("large texts without end", At::Output, Evil::Outputs(text), "AZR2032", 1, QUICK),
    row("output of other commands", At::Output, Evil::Strangers, "AZR2032", 1, QUICK),
    row("a message that never ends", At::Output, Evil::EndlessMessage, "AZR2032", 1, QUICK),
    // And those that are well.
    row("with a time", At::Never, Evil::Nothing, "", 1, QUICK),
    row("without a time", At::Challenge, Evil::NoTime, "", 1, QUICK),
];

/// What came to a server.
#[derive(Default)]
struct Seen {
    proofs: AtomicU64,
    pieces: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

struct Pep {
    row: &'static Row,
    seen: Seen,
    server: Mutex<Server>,
}

/// Writes what has no end until nobody reads it any more, or a gibibyte is out.
fn endless(stream: &mut TcpStream, head: &str, piece: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    let many = piece.repeat(65_536 / piece.len().max(1) + 1);
    for _ in 0..16_000 {
        stream.write_all(&many)?;
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}

/// Whether the connection goes on.
type Goes = std::io::Result<bool>;

impl Pep {
    fn start(row: &'static Row) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let url = format!("http://{address}/wsman");
        let server = Mutex::new(Server::new(&url, "PrivilegedEndpoint", "5.1.17763.0"));
        let pep = Arc::new(Self { row, seen: Seen::default(), server });
        let accepting = Arc::clone(&pep);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let pep = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    // A client that goes away is no concern of ours.
                    let _ = pep.serve(stream.unwrap());
                });
            }
        });
        (pep, address)
    }

    fn is(&self, at: At) -> bool {
        self.row.at == at
    }

    fn wrong(&self, what: &str) {
        self.seen.wrong.lock().unwrap().push(what.to_owned());
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut session, mut granted, mut buffer) = (None, false, Vec::<u8>::new());
        loop {
            let mut piece = [0; 65_536];
            let end = loop {
                if let Some(at) = buffer.windows(4).position(|window: &[u8]| window == b"\r\n\r\n") {
                    break at + 4;
                }
                match stream.read(&mut piece)? {
                    0 => return Ok(()),
                    read => buffer.extend_from_slice(&piece[..read]),
                }
            };
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let raw = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |length| length.trim().parse().unwrap());
            while buffer.len() < end + length {
                match stream.read(&mut piece)? {
                    0 => return Ok(()),
                    read => buffer.extend_from_slice(&piece[..read]),
                }
            }
            let body: Vec<u8> = buffer[end..end + length].to_vec();
            buffer.drain(..end + length);
            let token = raw
                .lines()
                .find_map(|line| line.split_once("Negotiate ").or_else(|| line.split_once("negotiate ")))
                .map(|(_, token)| BASE64_STANDARD.decode(token.trim()).unwrap());
            let goes = match token {
                Some(token) => self.sign_in(&mut stream, &token, &mut session, &mut granted)?,
                None => self.request(&mut stream, &body, &mut session, granted)?,
            };
            if !goes {
                return Ok(());
            }
        }
    }

    fn sign_in(&self, stream: &mut TcpStream, token: &[u8], session: &mut Option<Session>, granted: &mut bool) -> Goes {
        let start = token.windows(8).position(|window| window == b"NTLMSSP\0").expect("no token of NTLM");
        let message = &token[start..];
        let challenged = |bytes: &[u8]| format!("WWW-Authenticate: Negotiate {}\r\n", BASE64_STANDARD.encode(bytes));
        if message[8] == 1 {
            let evil = if self.is(At::Challenge) { self.row.evil } else { Evil::Nothing };
            let bytes = match evil {
                Evil::Nothing => challenge(FLAGS, true),
                Evil::NoTime => challenge(FLAGS, false),
                Evil::Flags(flags) => challenge(flags, true),
                Evil::Cut => challenge(FLAGS, true)[..60].to_vec(),
                Evil::Reject => vec![0xa1, 7, 0x30, 5, 0xa0, 3, 0x0a, 1, 2],
                Evil::Kerberos => {
                    vec![0xa1, 15, 0x30, 13, 0xa1, 11, 6, 9, 0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 1, 2, 2]
                }
                Evil::Welcome => return answer(stream, "200 OK", "", b"").map(|()| true),
                evil => return self.evil(stream, evil),
            };
            // With SPNEGO what follows is not a bare challenge.
            let bytes = if matches!(self.row.evil, Evil::WrongMic) { spnego(0xa2, &bytes) } else { bytes };
            return answer(stream, "401 Unauthorized", &challenged(&bytes), b"").map(|()| true);
        }
        self.seen.proofs.fetch_add(1, Ordering::Relaxed);
        if self.is(At::Verdict) {
            return match self.row.evil {
                Evil::Again => {
                    answer(stream, "401 Unauthorized", &challenged(&challenge(FLAGS, true)), b"").map(|()| true)
                }
                Evil::WrongMic => answer(stream, "200 OK", &challenged(&spnego(0xa3, &[5; 16])), b"").map(|()| true),
                evil => self.evil(stream, evil),
            };
        }
        *granted = true;
        if !self.is(At::Stranger) {
            match accept(message) {
                Ok(made) => *session = Some(made),
                Err(why) => {
                    self.wrong(why);
                    return answer(stream, "401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", b"").map(|()| true);
                }
            }
        }
        answer(stream, "200 OK", "", b"").map(|()| true)
    }

    fn request(&self, stream: &mut TcpStream, body: &[u8], session: &mut Option<Session>, granted: bool) -> Goes {
        let Some(session) = session.as_mut().filter(|_| granted) else {
            if !granted {
                self.wrong("a request before a sign-in");
            }
            return self.evil(stream, self.row.evil);
        };
        let mark = b"application/octet-stream\r\n";
        let at = body.windows(mark.len()).position(|window| window == mark).expect("not sealed") + mark.len();
        let end = body.len() - b"--Encrypted Boundary--\r\n".len();
        let envelope = String::from_utf8(session.client.open(&body[at..end])).expect("sealed with another key");
        let incoming = wsman::Incoming::decode(&envelope).unwrap();
        let command = incoming
            .body
            .at(&["Receive", "DesiredStream"])
            .and_then(|stream| stream.attribute("CommandId"))
            .map(|id| id.parse::<Uuid>().unwrap());
        let due = match self.row.at {
            At::First => match self.row.evil {
                Evil::Fault(_, _, times) => self.seen.pieces.fetch_add(1, Ordering::Relaxed) < times,
                _ => true,
            },
            At::Output => command.is_some(),
            _ => false,
        };
        if due && !matches!(self.row.evil, Evil::Replay) {
            let make = |streams: &str| {
                let body = format!("<rsp:ReceiveResponse>{streams}</rsp:ReceiveResponse>");
                wsman::respond("urn:x", &incoming.message_id, &body)
            };
            let command = command.unwrap_or_default();
            let hostile = match self.row.evil {
                Evil::Outputs(make_output) => make(&streamed(command, &message(command, &make_output()))),
                Evil::Strangers => make(&streamed(Uuid::new_v4(), &message(command, "<Nil/>")[..30])),
                Evil::EndlessMessage => {
                    // Fragments of a mebibyte: a start, then one after the other, never an end.
                    let index = self.seen.pieces.fetch_add(1, Ordering::Relaxed);
                    make(&streamed(command, &fragment(index, &vec![b' '; MIB])))
                }
                Evil::Fault(code, subcode, _) => {
                    let fault = wsman::Fault { code, subcode: subcode.into(), reason: "The service says no.".into() };
                    fault.encode("urn:x")
                }
                Evil::Body(make_body) => wsman::respond("urn:x", &incoming.message_id, &make_body()),
                Evil::WrongSignature => {
                    let (handled, _) = self.server.lock().unwrap().handle(&envelope);
                    let text = text_of(handled);
                    let mut bytes = session.server.seal(text.as_bytes());
                    bytes[10] ^= 1;
                    return answer(stream, "200 OK", SEALED, &sealed(text.len(), &bytes)).map(|()| true);
                }
                evil => return self.evil(stream, evil),
            };
            let bytes = session.server.seal(hostile.as_bytes());
            return answer(stream, "200 OK", SEALED, &sealed(hostile.len(), &bytes)).map(|()| true);
        }
        if due {
            let last = session.last.clone();
            return answer(stream, "200 OK", SEALED, &last).map(|()| true);
        }
        let mut server = self.server.lock().unwrap();
        let (handled, effects) = server.handle(&envelope);
        for effect in effects {
            let Effect::Run { shell, pipeline, commands } = effect else { continue };
            assert_eq!(commands[0].name, "Get-AzureStackStampInformation");
            let information = Object::custom([
                ("CloudID", "11111111-2222-4333-8444-555555555555"),
                ("StampVersion", "1.2301.2.58"),
                ("NumberOfNodes", "4"),
            ]);
            server.push(shell, pipeline, Push::Output(information.into()));
            server.push(shell, pipeline, Push::End(PipelineState::Completed, None));
        }
        let text = text_of(handled);
        let bytes = session.server.seal(text.as_bytes());
        session.last = sealed(text.len(), &bytes);
        answer(stream, "200 OK", SEALED, &session.last).map(|()| true)
    }

    /// What any server can do at any place.
    fn evil(&self, stream: &mut TcpStream, evil: Evil) -> Goes {
        let ok = if self.is(At::Challenge) { "401 Unauthorized" } else { "200 OK" };
        match evil {
            Evil::Drop => return Ok(false),
            // Until the other side gives up.
            Evil::Hang => {
                if stream.read(&mut [0; 16])? > 0 {
                    self.wrong("another request while the first had no answer");
                }
                return Ok(false);
            }
            Evil::Status(status) => answer(stream, &format!("{status} Odd"), "", b"")?,
            Evil::Later => answer(stream, "503 Busy", "Retry-After: 604800\r\n", b"")?,
            Evil::Redirect => answer(stream, "302 Found", "Location: http://127.0.0.1:1/wsman\r\n", b"")?,
            Evil::Offers("") => answer(stream, "401 Unauthorized", "", b"")?,
            Evil::Offers(schemes) => {
                answer(stream, "401 Unauthorized", &format!("WWW-Authenticate: {schemes}\r\n"), b"")?;
            }
            Evil::NotHttp => stream.write_all(b"220 mail.example ESMTP\r\n\r\n")?,
            Evil::EndlessHead => endless(stream, &format!("HTTP/1.1 {ok}\r\nX-Long: "), b"x")?,
            Evil::ManyHeaders => endless(stream, &format!("HTTP/1.1 {ok}\r\n"), b"X-A: b\r\n")?,
            Evil::EndlessContinue => endless(stream, "", b"HTTP/1.1 100 Continue\r\n\r\n")?,
            Evil::EndlessBody => endless(stream, &format!("HTTP/1.1 {ok}\r\n{SEALED}\r\n"), b"x")?,
            Evil::EndlessChunks => {
                endless(stream, &format!("HTTP/1.1 {ok}\r\nTransfer-Encoding: chunked\r\n\r\n"), b"1\r\nx\r\n")?;
            }
            Evil::EndlessTrailer => {
                endless(stream, &format!("HTTP/1.1 {ok}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), b"X-A: b\r\n")?;
            }
            Evil::Garbage(length) => {
                let mut noise = vec![16, 0, 0, 0];
                noise.extend((0..length + 16).map(|n| (n * 7 + 3) as u8));
                answer(stream, "200 OK", SEALED, &sealed(length, &noise))?;
            }
            Evil::Unsealed(kind) => {
                let text = wsman::respond("urn:x", "uuid:0", "<rsp:ReceiveResponse/>");
                answer(stream, "200 OK", &format!("Content-Type: {kind}\r\n"), text.as_bytes())?;
            }
            other => panic!("{other:?} has no meaning here"),
        }
        Ok(true)
    }
}

fn text_of(handled: Handled) -> String {
    match handled {
        Handled::Reply(text) | Handled::Fault(text) => text,
        Handled::Wait(receive) => text_of(Server::timed_out(&receive)),
    }
}

/// A message of output, in one fragment.
fn message(command: Uuid, data: &str) -> Vec<u8> {
    let message = Message {
        destination: Destination::Client,
        kind: kind::PIPELINE_OUTPUT,
        pool: Uuid::nil(),
        pipeline: command,
        data: data.into(),
    };
    Fragmenter::default().cut(&message.encode(), 4 * MIB).concat()
}

/// A fragment that is not the last of its message.
fn fragment(index: u64, blob: &[u8]) -> Vec<u8> {
    let mut out = 1u64.to_be_bytes().to_vec();
    out.extend(index.to_be_bytes());
    out.push(u8::from(index == 0));
    out.extend(u32::try_from(blob.len()).unwrap().to_be_bytes());
    out.extend(blob);
    out
}

fn streamed(command: Uuid, bytes: &[u8]) -> String {
    format!(r#"<rsp:Stream Name="stdout" CommandId="{command}">{}</rsp:Stream>"#, BASE64_STANDARD.encode(bytes))
}

/// The most that a process has held, in KiB; `None` where this system does not say, or it has ended.
fn held(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// `stamp info` at an address.
pub(crate) fn stamp_info(dir: &std::path::Path, address: &str, mechanism: &str) -> Command {
    let password = dir.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_azsreg"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AZSREG_") || name.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
        .env("AZSREG_STATE_DIR", dir.join("state"))
        .env("AZSREG_NON_INTERACTIVE", "true")
        .args(["stamp", "info", "--pep", address, "--pep-user", "AZURESTACK\\CloudAdmin", "--connect-timeout", "5"])
        .args(["--pep-auth", mechanism])
        .arg("--pep-password")
        .arg(format!("@{}", password.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a row: what is not as it says.
fn run(row: &'static Row) -> Vec<String> {
    let (pep, address) = Pep::start(row);
    let dir = tempfile::tempdir().unwrap();
    let of_spnego = matches!(row.evil, Evil::Reject | Evil::Kerberos | Evil::WrongMic);
    let mut command = stamp_info(dir.path(), &address, if of_spnego { "negotiate" } else { "ntlm" });
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut peak = None;
    let limit = Duration::from_secs(row.seconds);
    let ended = loop {
        peak = peak.max(held(child.id()));
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if begun.elapsed() > limit => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let took = begun.elapsed();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let proofs = pep.seen.proofs.load(Ordering::Relaxed);
    let mebibytes = peak.map(|kib| kib / 1024);
    println!("{:45} {:8} {proofs} proofs {mebibytes:?} MiB {:.1} s", row.name, row.code, took.as_secs_f32());

    let mut wrong = pep.seen.wrong.lock().unwrap().clone();
    let mut check = |right: bool, what: String| {
        if !right {
            wrong.push(what);
        }
    };
    check(ended.is_some(), format!("it did not end within {} s", row.seconds));
    check(proofs == row.proofs, format!("{proofs} proofs in place of {}", row.proofs));
    check(mebibytes.is_none_or(|held| held <= 256), format!("it held {mebibytes:?} MiB"));
    if row.code.is_empty() {
        check(ended.is_some_and(|status| status.success()), "it failed".into());
        let waits = matches!(row.evil, Evil::Fault(..));
        check(!waits || said.contains("waiting: no session left at the privileged endpoint"), "no wait is told".into());
        check(out.contains("11111111-2222-4333-8444-555555555555"), format!("it printed {out:?}"));
    } else {
        check(ended.and_then(|status| status.code()) == Some(1), format!("it ended with {ended:?}"));
        check(said.contains(&format!("error[{}]", row.code)), format!("not {}", row.code));
        if ["AZR2001", "AZR2002", "AZR2030", "AZR2031", "AZR2034", "AZR2035", "AZR2036"].contains(&row.code) {
            check(said.contains(&address), "the endpoint is not named".into());
        }
        // Whether the account may have counted it is said exactly where a proof was not accepted.
        let counts = match row.code {
            "AZR2002" => said.contains("The attempt counts against the account."),
            "AZR2030" => said.contains("The attempt may have counted against the account."),
            _ => !said.contains("against the account."),
        };
        check(counts, "what became of the attempt is not said".into());
        check(!said.contains(PASSWORD), "the password is shown".into());
    }
    if !wrong.is_empty() {
        wrong.push(said);
    }
    wrong.into_iter().map(|what| format!("{}: {what}", row.name)).collect()
}

#[test]
fn every_endpoint_that_misbehaves_gets_its_code() {
    assert!(ROWS.len() >= 60);
    let (next, wrong) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        // Most rows wait: more of them at once than there are processors.
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(row) = ROWS.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let found = run(row);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[cfg(unix)]
#[test]
fn who_interrupts_a_wait_for_a_session_is_told_what_it_was_for() {
    use std::io::{BufRead as _, BufReader};
    static FULL: Row =
        row("no session left", At::First, Evil::Fault(2_150_859_173, "w:QuotaLimit", u64::MAX), "AZR2039", 1, QUICK);
    let (_pep, address) = Pep::start(&FULL);
    let dir = tempfile::tempdir().unwrap();
    let mut child = stamp_info(dir.path(), &address, "ntlm").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let begun = Instant::now();
    let first = lines.find(|line| line.starts_with("waiting")).unwrap();
    assert!(first.contains("no session left at the privileged endpoint"), "{first}");
    assert!(begun.elapsed() < Duration::from_secs(QUICK), "it was told late");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert!(rest.join("\n").contains("It was waiting: no session left at the privileged endpoint"), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
