//! A run of the module as it is read, entry by entry.

use super::entries::{end_of_entry, is_error};
use super::excerpt::Log;
use super::{LogEnd, LogFinding};
use crate::codes::code;

/// A finding with the attempt in which it was seen last, and where.
struct Seen {
    attempt: usize,
    at: usize,
    finding: LogFinding,
}

#[derive(Default)]
pub(super) struct Run {
    function: Option<String>,
    line: usize,
    /// Whether the log says that it began.
    begun: bool,
    attempt: usize,
    /// Where an attempt was given up last.
    retried: Option<usize>,
    done: bool,
    /// Where the error begins that the run ended with.
    thrown: Option<usize>,
    /// Whether that is known.
    known: bool,
    /// The last error that is not known.
    unknown: Option<(usize, usize)>,
    /// What was said last of the work.
    last: Option<(usize, usize)>,
    findings: Vec<Seen>,
}

impl Run {
    pub(super) fn new(function: Option<String>, line: usize, begun: bool) -> Self {
        Self { function, line, begun, ..Self::default() }
    }

    pub(super) fn function(&self) -> Option<&str> {
        self.function.as_deref()
    }

    /// A command at a prompt that has not logged anything yet.
    pub(super) fn is_a_bare_command(&self) -> bool {
        !self.begun && self.function.is_some()
    }

    /// It begins its log.
    pub(super) fn begin(&mut self, function: Option<String>) {
        self.begun = true;
        self.function = function.or(self.function.take());
    }

    /// What an entry says of the run itself.
    pub(super) fn read(&mut self, entry: &str, offsets: &[usize], start: usize, end: usize) {
        if entry.contains("tryingagain...") {
            self.attempt += 1;
            self.retried = Some(start);
        }
        self.done |= entry.contains("endlog:") || entry.contains("yourenvironmentisnow");
        // What follows is the last attempt's error, as it is logged, thrown and shown.
        if let Some(marker) = entry.find("*error*") {
            let after = entry[marker..].find("error").map_or(0, |at| marker + at + "error".len());
            let stars = entry[after..].bytes().take_while(|byte| *byte == b'*').count();
            self.thrown = Some(offsets.get(after + stars).map_or(end, |at| start + at));
            (self.known, self.done) = (false, false);
        }
    }

    /// An entry without anything that is known.
    pub(super) fn note(&mut self, text: &str, entry: &str, start: usize, end: usize) {
        let warning = entry.contains("*warning*") || entry.contains("*endwarning*");
        let shown = text[start..end].trim();
        if is_error(shown) || entry.contains("fullyqualifiederrorid") || (shown.starts_with("WARNING:") && !warning) {
            self.unknown = Some((start, end));
        } else if !warning && !entry.contains("tryingagain...") && !entry.contains("***") && !entry.is_empty() {
            self.last = Some((start, end));
        }
    }

    pub(super) fn found(&mut self, at: usize, finding: LogFinding) {
        self.known |= self.thrown.is_some_and(|from| at >= from);
        self.unknown = None;
        let seen = self.findings.iter().position(|seen| seen.finding.code.id == finding.code.id);
        let mut seen = match seen {
            Some(index) => self.findings.remove(index),
            None => Seen { attempt: self.attempt, at, finding },
        };
        seen.at = at;
        if seen.attempt != self.attempt && self.thrown.is_none() {
            seen.attempt = self.attempt;
            seen.finding.times += 1;
        }
        self.findings.push(seen);
    }

    pub(super) fn ended(self, log: &Log<'_>) -> super::LogRun {
        let text = log.text();
        // After another attempt the work went on.
        let went_on = |at: usize| {
            let (Some(retried), Some((last, end))) = (self.retried, self.last) else { return false };
            let repeats = text[last..end].to_ascii_lowercase().contains("attempt");
            at < retried && retried < last && !repeats
        };
        let past = |at: usize| self.done || self.thrown.is_none() && went_on(at);
        let findings = self.findings.into_iter();
        let mut findings: Vec<LogFinding> =
            findings.map(|seen| LogFinding { passed: past(seen.at), ..seen.finding }).collect();
        // The error that ended it is shown, known or not.
        let block = match self.thrown {
            Some(from) if !self.known => {
                let from = from + text[from..].len() - text[from..].trim_start().len();
                Some((from, end_of_entry(text, from))).filter(|(from, end)| end > from)
            }
            Some(_) => None,
            None => self.unknown,
        };
        if let Some((start, end)) = block.filter(|_| !self.done) {
            findings.push(LogFinding {
                line: log.line_of(start),
                code: &code::MODULE_UNKNOWN,
                who: None,
                cause: code::MODULE_UNKNOWN.cause,
                next: code::MODULE_UNKNOWN.next.into(),
                excerpt: log.excerpt(start, end),
                times: 1,
                passed: false,
            });
        }
        let end = match (self.done, self.thrown, self.begun, self.last) {
            (true, ..) => LogEnd::Done,
            (_, Some(_), ..) => LogEnd::Failed,
            (_, _, true, Some((start, end))) => {
                LogEnd::Stopped { line: log.line_of(start), step: without_time(&log.excerpt(start, end)) }
            }
            (_, _, true, None) => LogEnd::Stopped { line: self.line, step: String::new() },
            (_, _, false, _) => LogEnd::NotSeen,
        };
        super::LogRun { function: self.function, line: self.line, end, findings }
    }
}

/// Words without the stream and the time before them.
fn without_time(words: &str) -> String {
    let words = words.trim_start_matches("VERBOSE:").trim_start();
    let rest =
        words.split_once(": ").filter(|(head, _)| head.bytes().all(|b| b.is_ascii_digit() || b"-.".contains(&b)));
    rest.map_or(words, |(_, rest)| rest).to_owned()
}
