//! What went wrong in a log of the PowerShell module, for `azsreg explain --from-log`.
//!
//! The module appends to `C:\MASLogs\Registration\AzureStack.Activation.<Function>-yyyy-MM-dd.log`; each entry begins
//! with a time, each function with `Begin log:`, and a failed attempt is logged, waited for and tried again. A pasted
//! console has the same entries behind `VERBOSE:` and `WARNING:`, may be broken at the window's width, and holds what
//! the module throws without logging it. Both are read here. Either may hold the registration token, the activation key
//! and refresh tokens in clear: an excerpt is redacted from the whole text, before anything is cut out of it.

mod entries;
mod secrets;

use crate::codes::{Code, code};
use crate::refusals::{self, Refusal, squeeze};
use entries::{entries, is_error, is_prompt};
use secrets::secrets;

/// The most characters of an excerpt.
const EXCERPT: usize = 300;

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFinding {
    /// The line where it is first said, from 1.
    pub line: usize,
    /// What it is.
    pub code: &'static Code,
    /// Who can mend it, where that is known.
    pub who: Option<&'static str>,
    /// Why it happens.
    pub cause: &'static str,
    /// What to run next.
    pub next: &'static str,
    /// The log's words, redacted: at most 300 characters on one line.
    pub excerpt: String,
    /// In how many attempts of the module it happened.
    pub times: usize,
}

/// One run of a function of the module, or a piece of a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRun {
    /// The function, where the log says one.
    pub function: Option<String>,
    /// The line where it begins, from 1.
    pub line: usize,
    /// How it ended.
    pub end: LogEnd,
    /// What went wrong; what was said last comes last.
    pub findings: Vec<LogFinding>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEnd {
    /// Well, whatever failed before.
    Done,
    /// With an error.
    Failed,
    /// The log stops.
    Stopped {
        /// In this line, from 1.
        line: usize,
        /// What was said last.
        step: String,
    },
    /// It is not to be seen: a piece of a console.
    NotSeen,
}

/// Only warned of (rows 64 and 60): the module goes on in another way.
const HARMLESS: [&str; 2] = ["thetermfind-azresourceisnotrecognized", "disablingusagereportingasitisnotsupported"];

/// What went wrong in a log, or a console's transcript, of the PowerShell module, run by run.
///
/// Within a run (from one `Begin log:` to the next) the same trouble counts once, with the number of attempts that had
/// it. The error that a run ended with is there even where azsreg does not know it.
#[must_use]
pub fn read_module_log(text: &str) -> Vec<LogRun> {
    let secret = secrets(text);
    let lower = text.to_ascii_lowercase();
    // Signed in to the privileged endpoint as the hosts' administrator: in the log itself the account is not named.
    let host_account = lower.lines().any(|line| line.contains("credential") && line.contains("\\azurestackadmin"))
        && !lower.contains("\\cloudadmin");
    let line_of = |at: usize| 1 + text[..at].matches('\n').count();
    let mut runs: Vec<Run> = Vec::new();
    for (start, end) in entries(text) {
        let (entry, offsets) = squeeze(&text[start..end]);
        if entry.contains("beginlog:") || (runs.is_empty() && !entry.is_empty()) {
            runs.push(Run { function: function_of(&text[start..end]), line: line_of(start), ..Run::default() });
        }
        let Some(run) = runs.last_mut() else { continue };
        if is_prompt(&text[start..end]) {
            (run.attempt, run.thrown) = (run.attempt + 1, None);
        } else if entry.contains("tryingagain...") {
            run.attempt += 1;
        }
        run.done |= entry.contains("endlog:") || entry.contains("yourenvironmentisnow");
        // What follows is the last attempt's error, as it is logged, thrown and shown.
        if let Some(marker) = entry.find("*error*") {
            let after = entry[marker..].find("error").map_or(0, |at| marker + at + "error".len());
            let stars = entry[after..].bytes().take_while(|byte| *byte == b'*').count();
            run.thrown = Some(offsets.get(after + stars).map_or(end, |at| start + at));
            run.known = false;
        }
        if HARMLESS.iter().any(|said| entry.contains(said)) {
            continue;
        }
        let Some((at, refusal)) = refusals::find(&entry, |_| true) else {
            run.note(text, &entry, start, end);
            continue;
        };
        let at = start + offsets[at];
        run.known |= run.thrown.is_some_and(|from| at >= from);
        run.unknown = None;
        let mut finding = LogFinding {
            line: line_of(at),
            code: code_of(refusal, &entry, run.function.as_deref(), host_account),
            who: Some(refusal.who.words()),
            cause: refusal.cause(),
            next: refusal.next(),
            excerpt: excerpt(text, &secret, at, end),
            times: 1,
        };
        if finding.code.id != refusal.code.id {
            (finding.cause, finding.next) = (finding.code.cause, finding.code.next);
            finding.who = Some(refusals::Who::You.words());
        }
        run.found(finding);
    }
    runs.into_iter().map(|run| run.ended(text, &secret, line_of)).collect()
}

/// A run as it is read.
#[derive(Default)]
struct Run {
    function: Option<String>,
    line: usize,
    attempt: usize,
    done: bool,
    /// Where the error begins that the run ended with.
    thrown: Option<usize>,
    /// Whether that is known.
    known: bool,
    /// The last error that is not known.
    unknown: Option<(usize, usize)>,
    /// What was said last of the work.
    last: Option<(usize, usize)>,
    /// With the attempt in which each was seen last.
    findings: Vec<(usize, LogFinding)>,
}

impl Run {
    /// An entry without anything that is known.
    fn note(&mut self, text: &str, entry: &str, start: usize, end: usize) {
        let warning = entry.contains("*warning*") || entry.contains("*endwarning*");
        let shown = text[start..end].trim();
        if is_error(shown) || entry.contains("fullyqualifiederrorid") || (shown.starts_with("WARNING:") && !warning) {
            self.unknown = Some((start, end));
        } else if !warning && !entry.contains("tryingagain...") && !entry.contains("***") && !entry.is_empty() {
            self.last = Some((start, end));
        }
    }

    fn found(&mut self, finding: LogFinding) {
        let seen = self.findings.iter().position(|(_, known)| known.code.id == finding.code.id);
        let (mut attempt, mut finding) = seen.map_or((self.attempt, finding), |at| self.findings.remove(at));
        if attempt != self.attempt && self.thrown.is_none() {
            attempt = self.attempt;
            finding.times += 1;
        }
        self.findings.push((attempt, finding));
    }

    fn ended(self, text: &str, secret: &[bool], line_of: impl Fn(usize) -> usize) -> LogRun {
        let mut findings: Vec<LogFinding> = self.findings.into_iter().map(|(_, finding)| finding).collect();
        // The error that ended it is shown, known or not.
        let block = match self.thrown {
            Some(from) if !self.known => {
                let from = from + text[from..].len() - text[from..].trim_start().len();
                let entry = entries(&text[from..]).first().map(|(_, end)| from + end);
                entry.filter(|end| *end > from).map(|end| (from, end))
            }
            Some(_) => None,
            None => self.unknown,
        };
        if let Some((start, end)) = block.filter(|_| !self.done) {
            findings.push(LogFinding {
                line: line_of(start),
                code: &code::MODULE_UNKNOWN,
                who: None,
                cause: code::MODULE_UNKNOWN.cause,
                next: code::MODULE_UNKNOWN.next,
                excerpt: excerpt(text, secret, start, end),
                times: 1,
            });
        }
        let end = match (self.done, self.thrown, &self.function, self.last) {
            (true, ..) => LogEnd::Done,
            (_, Some(_), ..) => LogEnd::Failed,
            (_, _, Some(_), Some((start, end))) => {
                LogEnd::Stopped { line: line_of(start), step: without_time(&excerpt(text, secret, start, end)) }
            }
            (_, _, Some(_), None) => LogEnd::Stopped { line: self.line, step: String::new() },
            (_, _, None, _) => LogEnd::NotSeen,
        };
        LogRun { function: self.function, line: self.line, end, findings }
    }
}

/// What a row means in this log: the module says some things wrongly.
fn code_of(refusal: &Refusal, entry: &str, function: Option<&str>, host_account: bool) -> &'static Code {
    let unregisters = function.is_some_and(|name| name.eq_ignore_ascii_case("Unregister-AzsEnvironment"));
    let id = refusal.code.id;
    let looked_for_it = [code::REGISTRATION_MISSING.id, code::MODULE_TOKEN_CLOUD_ID.id].contains(&id)
        || (id == code::MODULE_CLASH.id && entry.contains("find-az"));
    match id {
        _ if unregisters && looked_for_it => &code::MODULE_UNREGISTER,
        id if id == code::REGISTRATION_MISSING.id && shows_other_cloud_id(entry) => &code::OTHER_CLOUD_ID,
        id if [code::PEP_REFUSED.id, code::PEP_NOT_ALLOWED.id].contains(&id) && host_account => &code::NOT_CLOUD_ADMIN,
        _ => refusal.code,
    }
}

/// The function whose log begins in an entry.
fn function_of(entry: &str) -> Option<String> {
    let (_, rest) = entry.split_once("Begin log:")?;
    let name: String = rest.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    Some(name).filter(|name| !name.is_empty())
}

/// Words without the stream and the time before them.
fn without_time(words: &str) -> String {
    let words = words.trim_start_matches("VERBOSE:").trim_start();
    let rest =
        words.split_once(": ").filter(|(head, _)| head.bytes().all(|b| b.is_ascii_digit() || b"-.".contains(&b)));
    rest.map_or(words, |(_, rest)| rest).to_owned()
}

/// A missing registration is reported as one with another cloud id: only with an id it is one.
fn shows_other_cloud_id(entry: &str) -> bool {
    let Some((_, shown)) = entry.split_once("resourcecloudid:") else { return false };
    let digits = shown.bytes().take_while(u8::is_ascii_hexdigit).count();
    digits == 8 && shown[digits..].starts_with('-')
}

/// The words of an entry from the line of `at` on, without secrets and without where in the script it was.
fn excerpt(text: &str, secret: &[bool], at: usize, end: usize) -> String {
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let (start, mut words) =
        if at - line > 200 { (text.floor_char_boundary(at - 100), "…".to_owned()) } else { (line, String::new()) };
    let mut offset = start;
    for line in text[start..end].split_inclusive('\n') {
        let words_of = line.trim_start();
        let place = (words_of.starts_with("At ") && words_of.contains("char:")) || words_of.starts_with("+ ");
        if offset > start && place {
            break;
        }
        for (index, char) in line.char_indices() {
            match secret[offset + index] {
                true if words.ends_with("[redacted]") => {}
                true => words.push_str("[redacted]"),
                false if !char.is_whitespace() && !char.is_control() => words.push(char),
                false if words.is_empty() || words.ends_with(' ') => {}
                false => words.push(' '),
            }
        }
        offset += line.len();
    }
    words.trim_end().chars().take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJCaWxsaW5nTW9kZWwiOiJDYXBhY2l0eSIsIkNsb3VkSWQiOiJjMGZmZWUifQ==CANARYCANARYCANARY";

    fn found(text: &str) -> Vec<(usize, &'static str, usize)> {
        findings(text).iter().map(|finding| (finding.line, finding.code.id, finding.times)).collect()
    }

    fn findings(text: &str) -> Vec<LogFinding> {
        read_module_log(text).into_iter().flat_map(|run| run.findings).collect()
    }

    /// As the module logs it: `failures` attempts, and the error once more as it gives up.
    fn run(function: &str, step: &str, error: &str, failures: usize) -> String {
        let time = "2026-03-01.10-15-00";
        let attempt = |number| {
            format!(
                "{time}: {step}. Attempt {number} of 3\r\n{time}: *** WARNING ***\r\n\
                 {time}: {step} failed:\r\n{error}\r\n{time}: *** End WARNING ***\r\n\
                 {time}: Waiting 10 seconds and trying again...\r\n"
            )
        };
        let end = if failures < 3 {
            format!("{time}: Registration token created.\r\n")
        } else {
            let stars = "*".repeat(24);
            format!("{time}: {stars} Error {stars}\r\n{time}: {error}\r\n{time}: at {function}, C:\\m.psm1: line 7\r\n")
        };
        let attempts: String = (0..failures).map(attempt).collect();
        format!("{time}: *** Begin log: {function} ***\r\n\r\n{attempts}{end}")
    }

    #[test]
    fn every_pattern_reaches_its_code() {
        for row in refusals::REFUSALS {
            for choice in row.said.split('|') {
                let text = format!("2026-03-01.10-15-00: {}\n", choice.replace('…', "Kind ").to_uppercase());
                assert_eq!(found(&text), [(1, row.code.id, 1)], "row {}: {choice}", row.row);
            }
        }
        let rows = || refusals::REFUSALS.iter().map(|row| row.row);
        let unseen: Vec<u8> = (1..=69).filter(|row| !rows().any(|of| of == *row)).collect();
        assert_eq!(unseen, [6, 42, 56, 57, 60]);
    }

    #[test]
    fn retries_count_once_and_runs_apart() {
        let refused = "InvalidRegistrationToken : The registration token is malformed.";
        let busy = "Cannot invoke action plan because another action is in progress: 5d1c";
        let log = run("Set-AzsRegistration", "Creation of service principal", busy, 2)
            + &run("Set-AzsRegistration", "Creation of Azure resource", refused, 3)
            + &run("Set-AzsRegistration", "Creation of Azure resource", refused, 3);
        assert_eq!(found(&log), [(6, "AZR2010", 2), (21, "AZR4008", 3), (44, "AZR4008", 3)]);
        assert_eq!(findings(&log)[1].excerpt, refused);
        // What ended the run comes last, wherever it began.
        let log = run("Set-AzsRegistration", "Creation of service principal", busy, 2);
        let log = format!("{log}VERBOSE: {refused}\r\nVERBOSE: trying again...\r\nWARNING: {busy}\r\n");
        assert_eq!(found(&log), [(16, "AZR4008", 1), (6, "AZR2010", 3)]);
    }

    #[test]
    fn neither_success_nor_an_unknown_error_is_a_finding() {
        let log = format!(
            "2026-03-01.10-15-00: *** Begin log: Set-AzsRegistration ***\n\
             2026-03-01.10-15-00: Current Azure Context: \n {{\n  \
             \"Environment\": {{ \"Name\": \"AzureCloud\", \"GraphUrl\": \"https://graph.windows.net/\" }},\n  \
             \"TokenCache\": {{ \"CacheData\": \"{TOKEN}\" }}\n}}\n2026-03-01.10-15-01: *** WARNING ***\n\
             2026-03-01.10-15-01: Disabling Usage Reporting as it is not supported for Capacity billing model.\n\
             2026-03-01.10-15-01: Exception: something failed that is not known\n2026-03-01.10-15-02: Your environment \
             is now registered and activated using the provided parameters.\n"
        );
        assert_eq!(found(&log), []);
        assert_eq!(found(""), []);
    }

    #[test]
    fn no_secret_is_in_an_excerpt() {
        let log = format!(
            "2026-03-01.10-15-00: Resource creation params: {{\r\n  \"ResourceName\": \"site\",\r\n  \
             \"registrationToken\":  \"{TOKEN}\" }}\r\n\
             2026-03-01.10-15-01: Creation of Azure resource failed:\r\nInvalidRegistrationToken : the token {TOKEN} \
             is malformed; New-AzureBridgeServicePrincipal -RefreshToken CANARY -ActivationKey 'CANARY' \
             RegistrationToken=CANARY \"bridgePassword\": \"CANARY\" {}\r\n",
            "x".repeat(400)
        );
        let [finding] = &findings(&log)[..] else { panic!("{log}") };
        assert_eq!(
            finding.excerpt,
            "InvalidRegistrationToken : the token [redacted] is malformed; New-AzureBridgeServicePrincipal \
             -RefreshToken [redacted] -ActivationKey '[redacted]' RegistrationToken=[redacted] \
             \"bridgePassword\": \"[redacted]\" [redacted]"
        );
        // Wherever a console's window breaks the lines, and wherever the excerpt begins.
        for width in 20..200 {
            let chars: Vec<char> = log.replace("\r\n", "\n").chars().collect();
            let wrapped: Vec<String> = chars.chunks(width).map(|line| line.iter().collect()).collect();
            for finding in findings(&wrapped.join("\n")) {
                let leaks = TOKEN
                    .as_bytes()
                    .windows(12)
                    .any(|part| finding.excerpt.as_bytes().windows(12).any(|window| window == part));
                assert!(!leaks && finding.excerpt.chars().count() <= EXCERPT, "{width}: {}", finding.excerpt);
            }
        }
    }

    #[test]
    fn a_long_line_is_shown_around_the_error_with_the_names_in_it() {
        let scope = "/subscriptions/4a9038f9-0000-4000-8000-1d2c3b4a5968/resourceGroups/azurestack/providers";
        let error =
            format!("AuthorizationFailed : no right to 'Microsoft.AzureStack/registrations/write' over '{scope}'");
        let text = format!("2026-03-01.10-15-00: {} {error} {}", "a b ".repeat(200), "ü ".repeat(300));
        let excerpt = &findings(&text)[0].excerpt;
        assert!(
            excerpt.starts_with('…') && excerpt.contains(&error) && excerpt.chars().count() == EXCERPT,
            "{excerpt}"
        );
    }

    #[test]
    fn a_pasted_console_is_read_too() {
        let text = "PS C:\\> Set-AzsRegistration -RegistrationName site\n\
            VERBOSE: 2026-03-01.10-15-00: Creation of service principal failed:\n\
            WARNING: Task: Invocation of interface 'ConfigureBridgeIdentity' of role \
            'Cloud\\Fabric\\AzureBridge' fai\nled: \n\n\
            graph API call: {\"error\":\"invalid_grant\",\"error_description\":\"AADSTS500\n34: To sign into this\n\
            PS C:\\> Set-AzsRegistration -BillingModel Custom\n\
            ErrorCode: MissingMsAssetTag.\nErrorReason: MsAssetTag is a required parameter\n\
            At C:\\RegisterWithAzure.psm1:2001 char:9\n+         throw \"ErrorCode: MissingMsAssetTag\n\
            PS C:\\> Find-AzResource\nThe term 'Find-AzResource' is not recognized as the name of a cmdlet\n\
            [azs-ercs01]: PS>tnc host\nThe syntax is not supported by this runspace.\n\
            + FullyQualifiedErrorId : ScriptsNotAllowed\n";
        assert_eq!(found(text), [(6, "AZR3018", 1), (9, "AZR1004", 1), (17, "AZR2008", 1)]);
        assert_eq!(
            findings(text)[1].excerpt,
            "ErrorCode: MissingMsAssetTag. ErrorReason: MsAssetTag is a required parameter"
        );
    }

    #[test]
    fn what_the_module_says_wrongly_is_put_right() {
        let mismatch = |id| {
            format!(
                "The registration resource found does not correlate the current environment's Cloud-Id. \n\
                 Environment Cloud Id: c0ffee00-1 \nResource Cloud Id: {id}\nat Remove-AzsRegistration"
            )
        };
        assert_eq!(found(&mismatch("")), [(1, "AZR6004", 1)]);
        assert_eq!(found(&mismatch("c0ffee11-2222")), [(1, "AZR6013", 1)]);
        let denied = "[x] Connecting to remote server x failed with the following error message : Access is denied.";
        assert_eq!(found(denied), [(1, "AZR2035", 1)]);
        assert_eq!(found(&format!("PS C:\\> Get-Credential AZS\\AzureStackAdmin\n{denied}")), [(2, "AZR1009", 1)]);
    }

    #[test]
    fn a_run_that_went_through_after_retries_is_done() {
        let busy = "Cannot invoke action plan because another action is in progress: 5d1c";
        let time = "2026-03-01.10-16-00";
        let log = run("Set-AzsRegistration", "Creation of service principal", busy, 2);
        let log = format!("{log}{time}: *** End log: Set-AzsRegistration ***\r\n\r\n");
        let runs = read_module_log(&log);
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].end.clone(), runs[0].findings.len()), (LogEnd::Done, 1));
    }

    #[test]
    fn a_log_that_stops_says_at_which_step() {
        let time = "2026-03-01.10-16-00";
        let log = format!(
            "{time}: *** Begin log: Set-AzsRegistration ***\n{time}: Verifying stamp version.\n\
             {time}: Activating Azure Stack (this may take up to 10 minutes to complete).\n"
        );
        let runs = read_module_log(&log);
        let step = "Activating Azure Stack (this may take up to 10 minutes to complete).".to_owned();
        assert_eq!(runs[0].end, LogEnd::Stopped { line: 3, step });
        assert_eq!(runs[0].function.as_deref(), Some("Set-AzsRegistration"));
    }

    #[test]
    fn an_error_that_ended_a_run_is_shown_known_or_not() {
        let known = "Cannot invoke action plan because another action is in progress: 5d1c";
        let log = run("Set-AzsRegistration", "Creation of service principal", known, 3);
        let log = format!("{log}{}", run("Set-AzsRegistration", "Setting a thing", "The moon is full.", 3));
        let runs = read_module_log(&log);
        assert_eq!(runs[0].end, LogEnd::Failed);
        assert_eq!(runs[0].findings.last().unwrap().code.id, "AZR2010");
        let last = runs[1].findings.last().unwrap();
        assert_eq!(last.code.id, "AZR9009");
        assert!(last.excerpt.contains("The moon is full."), "{}", last.excerpt);
        // A known trouble of an attempt is not the error that ended it.
        let mixed =
            log.replace("The moon is full.\r\n2026-03-01.10-15-00: at", "The sun is out.\r\n2026-03-01.10-15-00: at");
        let last = read_module_log(&mixed)[1].findings.last().cloned().unwrap();
        assert!(last.excerpt.contains("The sun is out."), "{}", last.excerpt);
    }

    #[test]
    fn a_localised_windows_is_understood_by_its_ids() {
        let german = "New-PSSession : [192.0.2.7] Beim Verbinden mit dem Remoteserver \"192.0.2.7\" ist folgender Fehler aufgetreten: \
            Der Benutzername oder das Kennwort ist falsch.\n    + CategoryInfo          : OpenError: (x:y) [New-PSSession], \
            PSRemotingTransportException\n    + FullyQualifiedErrorId : LogonFailure,PSSessionOpenFailed\n";
        assert_eq!(found(german), [(3, "AZR2002", 1)]);
        let japanese = "New-PSSession : [192.0.2.7] リモート サーバー 192.0.2.7 への接続に失敗しました。エラー コード 0x803381A5\n";
        assert_eq!(found(japanese), [(1, "AZR2039", 1)]);
        let unknown =
            "Copy-Item : Der Zugriff ist nicht gut.\n    + FullyQualifiedErrorId : Seltsam,Microsoft.Seltsam\n";
        assert_eq!(found(unknown), [(1, "AZR9009", 1)]);
    }

    #[test]
    fn the_modules_unregister_that_can_not_work_is_named() {
        let time = "2026-03-01.10-16-00";
        for said in [
            "Registration resource not found in Azure with the provided parameters.",
            "The term 'Find-AzureRmResource' is not recognized as the name of a cmdlet",
        ] {
            let log = format!(
                "{time}: *** Begin log: Unregister-AzsEnvironment ***\n{time}: Searching\n{time}: *** Error ***\n{time}: {said}\n"
            );
            let found = findings(&log);
            assert_eq!(found.last().unwrap().code.id, "AZR9010", "{said}");
            assert!(found.last().unwrap().next.contains("offline unregister"), "{said}");
        }
    }
}
