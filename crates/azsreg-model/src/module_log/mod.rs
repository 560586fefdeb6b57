//! What went wrong in a log of the PowerShell module, for `azsreg explain --from-log`.
//!
//! The module appends to `C:\MASLogs\Registration\AzureStack.Activation.<Function>-yyyy-MM-dd.log`; each entry begins
//! with a time, each function with `Begin log:`, and a failed attempt is logged, waited for and tried again. A pasted
//! console has the same entries behind `VERBOSE:` and `WARNING:`, may be broken at the window's width, and holds what
//! the module throws without logging it. Both are read here. Either may hold the registration token, the activation key
//! and refresh tokens in clear: an excerpt is redacted from the whole text, before anything is cut out of it.

mod entries;
mod excerpt;
mod run;
mod secrets;

use std::borrow::Cow;

use crate::codes::{Code, code};
use crate::refusals::{self, Refusal, squeeze};
use entries::{command_of, entries, is_prompt};
use excerpt::Log;
use run::Run;

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
    pub next: Cow<'static, str>,
    /// The log's words, redacted: at most 300 characters on one line.
    pub excerpt: String,
    /// In how many attempts of the module it happened.
    pub times: usize,
    /// Whether the run went past it: nothing has to be mended.
    pub passed: bool,
}

/// One run of a function of the module, or of a command in a console.
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
/// Within a run (from one `Begin log:`, or one command at a prompt, to the next) the same trouble counts once, with the number
/// of attempts that had it. The error that a run ended with is there even where azsreg does not know it.
#[must_use]
pub fn read_module_log(text: &str) -> Vec<LogRun> {
    let log = Log::new(text);
    let lower = text.to_ascii_lowercase();
    // Signed in to the privileged endpoint as the hosts' administrator: in the log itself the account is not named.
    let host_account = lower.lines().any(|line| line.contains("credential") && line.contains("\\azurestackadmin"))
        && !lower.contains("\\cloudadmin");
    let mut runs: Vec<Run> = Vec::new();
    for (start, end) in entries(text) {
        let (entry, offsets) = squeeze(&text[start..end]);
        let command = command_of(&text[start..end]);
        let begins = entry.contains("beginlog:");
        match runs.last_mut() {
            // What a command at a prompt logs is its own.
            Some(run) if begins && run.is_a_bare_command() => run.begin(function_of(&text[start..end])),
            Some(_) if !begins && command.is_none() => {}
            None if entry.is_empty() => continue,
            _ => {
                let function = function_of(&text[start..end]).or(command.map(str::to_owned));
                runs.push(Run::new(function, log.line_of(start), begins));
            }
        }
        let Some(run) = runs.last_mut() else { continue };
        run.read(&entry, &offsets, start, end);
        if HARMLESS.iter().any(|said| entry.contains(said)) {
            continue;
        }
        let Some((at, refusal)) = refusals::find(&entry, |_| true) else {
            if !is_prompt(&text[start..end]) {
                run.note(text, &entry, start, end);
            }
            continue;
        };
        let at = start + offsets[at];
        let excerpt = log.excerpt(at, end);
        let code = code_of(refusal, &entry, run.function(), host_account);
        let own = code.id == refusal.code.id;
        run.found(
            at,
            LogFinding {
                line: log.line_of(at),
                code,
                who: Some(if own { refusal.who.words() } else { refusals::Who::You.words() }),
                cause: if own { refusal.cause() } else { code.cause },
                next: if own { refusal.next_for(&text[start..end]) } else { code.next.into() },
                excerpt,
                times: 1,
                passed: false,
            },
        );
    }
    runs.into_iter().map(|run| run.ended(&log)).collect()
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

/// A missing registration is reported as one with another cloud id: only with an id it is one.
fn shows_other_cloud_id(entry: &str) -> bool {
    let Some((_, shown)) = entry.split_once("resourcecloudid:") else { return false };
    let digits = shown.bytes().take_while(u8::is_ascii_hexdigit).count();
    digits == 8 && shown[digits..].starts_with('-')
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

    /// As the module logs it: `failures` attempts, and the error again as it gives up.
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
            for choice in row.said.split('|').filter(|said| !said.starts_with('=')) {
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
                assert!(!leaks && finding.excerpt.chars().count() <= excerpt::EXCERPT, "{width}: {}", finding.excerpt);
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
            excerpt.starts_with('…') && excerpt.contains(&error) && excerpt.chars().count() == excerpt::EXCERPT,
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

    #[test]
    fn each_command_of_a_console_is_a_run_of_its_own() {
        let text = "PS C:\\> Set-AzsRegistration @p\nYour environment is now registered and activated using the provided parameters.\n\
            PS C:\\> Get-AzsRegistrationToken @q\nGet-AzsRegistrationToken : The moon is full\n    + FullyQualifiedErrorId : Foo\n";
        let runs = read_module_log(text);
        let told: Vec<_> = runs.iter().map(|run| (run.function.as_deref().unwrap(), run.end.clone())).collect();
        assert_eq!(told, [("Set-AzsRegistration", LogEnd::Done), ("Get-AzsRegistrationToken", LogEnd::NotSeen)]);
        assert_eq!(runs[1].findings[0].code.id, "AZR9009");
        // The prompt that comes back is no step, and takes no error back.
        let time = "2026-11-20.09-10-00";
        let text = format!(
            "PS C:\\> Set-AzsRegistration\nVERBOSE: {time}: *** Begin log: Set-AzsRegistration ***\nVERBOSE: {time}: ** Error **\n\
             VERBOSE: {time}: ScopeLocked : the scope is locked\nPS C:\\> \n"
        );
        let runs = read_module_log(&text);
        assert_eq!((runs.len(), runs[0].end.clone(), runs[0].findings[0].code.id), (1, LogEnd::Failed, "AZR4010"));
    }

    #[test]
    fn an_error_after_success_is_an_error() {
        let time = "2026-11-20.09-10-00";
        let text = format!(
            "{time}: *** Begin log: Set-AzsRegistration ***\n{time}: Your environment is now registered.\n\
             {time}: *** Error ***\n{time}: The moon is full\n"
        );
        let runs = read_module_log(&text);
        assert_eq!(runs[0].end, LogEnd::Failed);
        assert!(runs[0].findings[0].excerpt.contains("The moon is full"));
    }

    #[test]
    fn what_a_later_attempt_went_past_is_no_reason() {
        let time = "2026-11-20.09-10-00";
        let log = |more: &str| {
            format!(
                "{time}: *** Begin log: Set-AzsRegistration ***\n{time}: A failed: another action is in progress: 1\n\
                 {time}: Waiting 10 seconds and trying again...\n{more}"
            )
        };
        let passed = |text: &str| read_module_log(text)[0].findings[0].passed;
        assert!(!passed(&log("")), "it was only tried again");
        assert!(!passed(&log(&format!("{time}: A. Attempt 2 of 3\n"))), "it is tried again");
        assert!(passed(&log(&format!("{time}: A done.\n{time}: Activating Azure Stack.\n"))));
    }

    #[test]
    fn an_error_of_powershell_7_is_shown_without_the_place_in_the_script() {
        let text = "PS C:\\> Set-AzsRegistration @p\nSet-AzsRegistration: C:\\m\\RegisterWithAzure.psm1:201\nLine |\n 201 |          throw $e\n     |          ~~~~~~~~\n     | The moon is full.\n";
        let found = findings(text);
        assert_eq!(found[0].code.id, "AZR9009");
        assert_eq!(found[0].excerpt, "Set-AzsRegistration: C:\\m\\RegisterWithAzure.psm1:201 The moon is full.");
    }

    #[test]
    fn a_number_of_the_directory_that_is_not_known_leads_to_its_page_here_too() {
        let found = findings("Connect-AzAccount : AADSTS50126: Error validating credentials\n");
        assert!(found[0].next.contains("error?code=50126"), "{}", found[0].next);
    }

    #[test]
    fn this_windows_is_not_the_stamp() {
        let pc = "Connect-AzAccount : No such host is known. (login.microsoftonline.com:443)";
        let stamp = "Activation failed: Action plan execution failed. Error: Type 'ActivateAzureBridge' of Role 'AzureBridge' raised an exception: The remote name could not be resolved: 'login.microsoftonline.com'";
        let trusted =
            "New-PSSession : [x] Der WinRM-Client.\n    + FullyQualifiedErrorId : ServerNotTrusted,PSSessionOpenFailed";
        let kerberos = "New-PSSession : Keine Anmeldeserver.\n    + FullyQualifiedErrorId : AuthenticationFailed,PSSessionOpenFailed";
        let other = "New-PSSession : Etwas.\n    + FullyQualifiedErrorId : -2144108387,PSSessionOpenFailed";
        let module = "Set-AzsRegistration : Die Benennung wurde nicht erkannt.\n    + CategoryInfo : ObjectNotFound: (Set-AzsRegistration:String) [], CommandNotFoundException\n    + FullyQualifiedErrorId : CommandNotFoundException";
        let parameter = "Set-AzsRegistration : Kein Parameter.\n    + FullyQualifiedErrorId : NamedParameterNotFound,Set-AzsRegistration";
        for (text, code) in [
            (pc, "AZR4001"),
            (stamp, "AZR2021"),
            (trusted, "AZR9011"),
            (kerberos, "AZR9011"),
            (other, "AZR9011"),
            (module, "AZR9008"),
            (parameter, "AZR9004"),
        ] {
            assert_eq!(findings(text)[0].code.id, code, "{text}");
        }
    }
}
