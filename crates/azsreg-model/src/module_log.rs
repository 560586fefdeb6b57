//! What went wrong in a log of the PowerShell module, for `azsreg explain --from-log`.
//!
//! The module appends to `C:\MASLogs\Registration\AzureStack.Activation.<Function>-yyyy-MM-dd.log`; each entry begins
//! with a time, each function with `Begin log:`, and a failed attempt is logged, waited for and tried again. A pasted
//! console has the same entries behind `VERBOSE:` and `WARNING:`, may be broken at the window's width, and holds what
//! the module throws without logging it. Both are read here. Either may hold the registration token, the activation key
//! and refresh tokens in clear: an excerpt is redacted from the whole text, before anything is cut out of it.

use crate::codes::{Code, code};

/// The most characters of an excerpt.
const EXCERPT: usize = 300;
/// The most characters, spaces aside, between two parts of a pattern.
const GAP: usize = 300;
/// So many characters of base64 in a row are a secret.
const SECRET: usize = 40;

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFinding {
    /// The line where it is first said, from 1.
    pub line: usize,
    /// What it is.
    pub code: &'static Code,
    /// The log's words, redacted: at most 300 characters on one line.
    pub excerpt: String,
    /// In how many attempts of the module it happened.
    pub times: usize,
}

/// Only warned of (rows 64 and 60): the module goes on in another way.
const HARMLESS: [&str; 2] =
    ["The term 'Find-AzResource' is not recognized", "Disabling Usage Reporting as it is not supported"];

/// A row of `facts-errors.md` (0: none), what is said, and what that means. `|` is between alternatives, `…` between
/// parts that follow each other closely; case, white space and quotes do not matter.
///
/// The first that fits decides, so the most specific come first. Row 42 has no text;
/// 56 and 57 show as 55, 6 as 4, and 60 is harmless.
static PATTERNS: &[(u8, &str, &Code)] = &[
    // The directory's words, mostly inside a failure of the stamp.
    (34, "AADSTS50034", &code::ACCOUNT_NOT_IN_TENANT),
    (35, "AADSTS50055|Force Change Password", &code::PASSWORD_CHANGE),
    (0, "AADSTS50076", &code::MFA_REQUIRED),
    (0, "AADSTS50079", &code::MFA_ENROLMENT),
    (0, "AADSTS53000|AADSTS53001|AADSTS53002|AADSTS53003", &code::CONDITIONAL_ACCESS),
    (0, "AADSTS700082", &code::SIGN_IN_EXPIRED),
    (0, "AADSTS50173", &code::SIGN_IN_REVOKED),
    (0, "AADSTS65001", &code::CONSENT_REQUIRED),
    (0, "AADSTS7000215|AADSTS7000222|AADSTS700027", &code::BAD_CLIENT_SECRET),
    (0, "AADSTS700016", &code::UNKNOWN_APPLICATION),
    (0, "AADSTS90002", &code::UNKNOWN_TENANT),
    (0, "AADSTS70018|AADSTS70020", &code::SIGN_IN_DECLINED),
    (36, "unknown_user_type|AADSTS|invalid_grant", &code::SIGN_IN_REFUSED),
    (38, "blocked to AAD Graph API|AzureADGraphMigration|blockAzureADGraphAccess", &code::GRAPH_RETIREMENT),
    // Azure.
    (1, "InvalidRegistrationToken|registration token is malformed", &code::TOKEN_REFUSED),
    (2, "CloudIdUpdateNotAllowed|already associated with another Cloud identifier", &code::NAME_TAKEN),
    (3, "Cloud identifier […] is already registered", &code::STAMP_REGISTERED_ELSEWHERE),
    (3, "Reusing cloud identifiers is not allowed", &code::STAMP_REGISTERED_ELSEWHERE),
    (5, "authorization to perform action…Microsoft.Authorization/locks/", &code::ACTIONS_MISSING),
    (5, "AuthorizationFailed…Microsoft.Authorization/locks/", &code::ACTIONS_MISSING),
    (4, "AuthorizationFailed|does not have authorization to perform action", &code::FORBIDDEN),
    (4, "Authorization_RequestDenied|Insufficient privileges to complete", &code::FORBIDDEN),
    (4, "(403) Forbidden|status code 403|\"StatusCode\": 403", &code::FORBIDDEN),
    (7, "ParentResourceNotFound|Parent resource '…' not found", &code::PARENT_MISSING),
    (8, "LocationNotAvailableForResourceGroup", &code::LOCATION_NOT_AVAILABLE),
    (0, "InvalidResourceGroupLocation", &code::GROUP_ELSEWHERE),
    (0, "The subscription '…' could not be found", &code::SUBSCRIPTION_NOT_VISIBLE),
    (9, "MissingSubscriptionRegistration|not registered to use namespace", &code::PROVIDER_NOT_REGISTERED),
    (10, "ScopeLocked|scope(s) are locked", &code::SCOPE_LOCKED),
    (11, "Removal of registration resource failed.", &code::STILL_THERE),
    (12, "ResourceMoveNot|ResourceMoveProvider|ResourceMovePolicy|CannotMoveResource", &code::MOVE_REFUSED),
    (13, "not supported for registration: AzureGermanCloud", &code::GERMAN_CLOUD),
    (13, "resource namespace 'Microsoft.AzureStack' is invalid", &code::GERMAN_CLOUD),
    (14, "RegistrationNotFound", &code::REGISTRATION_MISSING),
    (15, "BadCustomerSubscriptionId", &code::CUSTOMER_ID),
    (16, "InvalidCustomerSubscriptionId", &code::CUSTOMER_ID),
    (17, "CustomerSubscriptionNotFound", &code::CUSTOMER_MISSING),
    (18, "UnauthorizedCspRegistration", &code::CSP_NOT_APPROVED),
    (19, "CustomerSubscriptionsNotAllowed", &code::CUSTOMERS_NOT_ALLOWED),
    (20, "InvalidCSPSubscription", &code::CUSTOMER_NOT_CSP),
    (21, "MetadataResolverBadGatewayError", &code::AZURE_FAULT),
    // The offline tool for marketplace items.
    (75, "The subscription does not have Azure Stack registration", &code::NOT_REGISTERED),
    (76, "json file not exist for product|.json.origin file exists|.marketplace file exists", &code::ITEM_UNFINISHED),
    (77, "Property value for…is null. Please check JSON contents", &code::ITEM_DAMAGED),
    (78, "VM vhd source is empty|VM extension zip source is empty|zip source is empty", &code::BLOB_REFUSED),
    (79, "RequestConflict", &code::ITEM_BUSY),
    (0, "ProductJobFailed|Unable to complete syndication operation", &code::ITEM_FAILED),
    // This PowerShell: its context, its sign-in, its modules.
    (22, "ErrorCode: AzureContextNotSet|Azure context is not currently set", &code::MODULE_NO_CONTEXT),
    (22, "Run Connect-AzAccount to login|Run Login-AzureRmAccount to login", &code::MODULE_NO_CONTEXT),
    (23, "ErrorCode: UnknownResourceGroupLocation", &code::LOCATION_NOT_AVAILABLE),
    (23, "Cannot bind argument to parameter 'ResourceGroupLocation'", &code::LOCATION_NOT_AVAILABLE),
    (24, "ErrorCode: MissingMsAssetTag", &code::NO_ASSET_TAG),
    (25, "Token cache is empty", &code::MODULE_SIGN_IN),
    (26, "Token not found for tenant id", &code::MODULE_SIGN_IN),
    (27, "Unable to resolve refresh token from empty context", &code::MODULE_SIGN_IN),
    (28, "Unable to resolve acccount for|Unable to resolve a refresh token for", &code::MODULE_SIGN_IN),
    (29, "ensure you have authenticated with Az Accounts module", &code::MODULE_SIGN_IN),
    (30, "Unable to find type…AuthenticationClientFactory", &code::MODULE_SIGN_IN),
    (30, "Unable to find type…SharedTokenCacheProvider", &code::MODULE_SIGN_IN),
    (31, "argument transformation on parameter 'RefreshToken'", &code::MODULE_SIGN_IN),
    (31, "Cannot convert 'System.Object[]' to the type…parameter 'RefreshToken'", &code::MODULE_SIGN_IN),
    (32, "TokenCache.ReadItems()…null-valued expression", &code::MODULE_CLASH),
    (33, "error loading the extended type data file", &code::MODULE_CLASH),
    (37, "User must be an owner of the subscription", &code::ACTIONS_MISSING),
    (40, "Unable to find package provider 'NuGet'|NuGet provider is required", &code::MODULE_INSTALL),
    (40, "Unable to find module repositories|Unable to find repository", &code::MODULE_INSTALL),
    (40, "Unable to resolve package source|No match was found for the specified", &code::MODULE_INSTALL),
    (41, "ConstrainedLanguage|only core types in this language mode", &code::MODULE_LANGUAGE),
    // The privileged endpoint.
    (45, "Connecting to remote server…Access is denied|AccessDenied,PSSessionOpenFailed", &code::PEP_REFUSED),
    (45, "Connecting to remote server…user name or password is incorrect", &code::PEP_REFUSED),
    (45, "LogonFailure,PSSessionOpenFailed", &code::PEP_REFUSED),
    (44, "Cannot find the…session configuration in the WSMan: drive", &code::PEP_CONFIGURATION),
    (44, "TrustedHosts configuration setting|WinRM client cannot process", &code::PEP_UNREACHABLE),
    (44, "WinRM cannot complete the operation|PSSessionOpenFailed", &code::PEP_UNREACHABLE),
    (44, "Connecting to remote server…failed with the following error", &code::PEP_UNREACHABLE),
    (43, "ScriptsNotAllowed|runspace is in no-language mode", &code::CMDLET_UNKNOWN),
    (46, "another action is in progress", &code::STAMP_BUSY),
    // A cmdlet that is not known: one of the stamp's, one of a module here, or another.
    (39, "The term 'Set-AzureRMsRegistration' is not recognized", &code::MODULE_PARAMETER),
    (47, "The term '…-AzureStack…' is not recognized", &code::CMDLET_UNKNOWN),
    (47, "The term '…-AzureBridge…' is not recognized", &code::CMDLET_UNKNOWN),
    (32, "The term '…-AzureRm…' is not recognized|ObjectNotFound: (…-AzureRm", &code::MODULE_CLASH),
    (40, "The term '…-Azs…' is not recognized", &code::MODULE_INSTALL),
    (32, "The term 'Get-Az…' is not recognized|The term 'Connect-Az…' is not rec", &code::MODULE_CLASH),
    (47, "is not recognized as the name of a cmdlet", &code::CMDLET_UNKNOWN),
    (49, "cannot be found that matches parameter name 'MsAssetTag'", &code::CMDLET_UNKNOWN),
    (49, "cannot be found that matches parameter name 'TokenVersion'", &code::CMDLET_UNKNOWN),
    (69, "cannot be found that matches parameter name", &code::MODULE_PARAMETER),
    // What was given, and files.
    (50, "Cannot bind argument to parameter 'ActivationKey'", &code::MODULE_PARAMETER),
    (58, "Agreement number is null or empty", &code::NO_AGREEMENT_NUMBER),
    (59, "Custom BillingModel is not supported for StampVersion", &code::CUSTOM_UNSUPPORTED),
    (61, "Unable to create file at location", &code::MODULE_FILE),
    (61, "activation key failed:…Could not find a part of the path", &code::MODULE_FILE),
    (62, "Unable to extract CloudId from provided registration", &code::MODULE_TOKEN_CLOUD_ID),
    (63, "Unable to find registration resource with the given", &code::MODULE_PARAMETER),
    (64, "Registration resource not found in Azure", &code::REGISTRATION_MISSING),
    (64, "Registration resource with matching CloudId…was not found", &code::REGISTRATION_MISSING),
    (65, "does not correlate the current environment's Cloud-Id", &code::REGISTRATION_MISSING),
    (66, "Unable to retrieve registration details from", &code::DETAILS_UNKNOWN),
    (67, "Activation record not found", &code::NOT_ACTIVATED),
    (68, "Unexpected token…RegistrationToken.txt", &code::MODULE_PARAMETER),
    (69, "missing mandatory parameters:…RegistrationName", &code::MODULE_PARAMETER),
    // The stamp; last, what only frames an error that is not known.
    (51, "Could not retrieve mandatory hardware info", &code::HARDWARE_INFORMATION),
    (52, "Cannot connect to…to get hardware info", &code::HARDWARE_INFORMATION),
    (48, "Execution timeout", &code::STAMP_TIMEOUT),
    (54, "An error occurred checking stamp information", &code::STAMP_INFORMATION),
    (55, "An error occurred during removal of the activation", &code::DEACTIVATION_FAILED),
    (55, "DeActivation of Azure Stack features failed", &code::DEACTIVATION_FAILED),
    (0, "Activation of Azure Stack features failed…activation key", &code::ACTIVATION_REFUSED),
    (53, "role 'Cloud\\Fabric\\AzureBridge' failed|Action plan execution failed", &code::STAMP_ACTION_FAILED),
    (53, "Activation of Azure Stack features failed", &code::STAMP_ACTION_FAILED),
];

/// What went wrong in a log, or a console's transcript, of the PowerShell module; what was said last comes last.
///
/// Within a run (from one `Begin log:` to the next) the same trouble counts once, with the number of attempts that had
/// it. An error without a known pattern gives nothing.
#[must_use]
pub fn read_module_log(text: &str) -> Vec<LogFinding> {
    let parts = |choice: &str| choice.split('…').map(|part| squeeze(part).0).collect();
    let harmless = HARMLESS.iter().map(|said| (parts(said), None));
    let known = PATTERNS.iter().flat_map(|(_, said, code)| said.split('|').map(|one| (parts(one), Some(*code))));
    let patterns: Vec<(Vec<String>, Option<&'static Code>)> = harmless.chain(known).collect();
    let secret = secrets(text);
    let lower = text.to_ascii_lowercase();
    // Signed in to the privileged endpoint as the hosts' administrator: in the log itself the account is not named.
    let host_account = lower.lines().any(|line| line.contains("credential") && line.contains("\\azurestackadmin"))
        && !lower.contains("\\cloudadmin");
    let (mut run, mut attempt, mut thrown) = (0, 0, false);
    let mut found: Vec<(usize, usize, LogFinding)> = Vec::new();
    for (start, end) in entries(text) {
        let (entry, offsets) = squeeze(&text[start..end]);
        if entry.contains("beginlog:") {
            (run, attempt, thrown) = (run + 1, 0, false);
        } else if is_prompt(&text[start..end]) {
            (attempt, thrown) = (attempt + 1, false);
        } else if entry.contains("tryingagain...") {
            attempt += 1;
        }
        // What follows is the last attempt's error once more, as it is logged, thrown and shown.
        thrown |= entry.contains("*error*");
        let known = patterns.iter().find_map(|(parts, code)| find(&entry, parts).map(|at| (at, *code)));
        let Some((at, Some(mut code))) = known else { continue };
        if code.id == code::REGISTRATION_MISSING.id && shows_other_cloud_id(&entry) {
            code = &code::OTHER_CLOUD_ID;
        }
        if code.id == code::PEP_REFUSED.id && host_account {
            code = &code::NOT_CLOUD_ADMIN;
        }
        let at = start + offsets[at];
        let mut finding = match found.iter().position(|(of, _, finding)| *of == run && finding.code.id == code.id) {
            Some(index) => found.remove(index),
            None => {
                let line = 1 + text[..at].matches('\n').count();
                (run, attempt, LogFinding { line, code, excerpt: excerpt(text, &secret, at, end), times: 1 })
            }
        };
        if finding.1 != attempt && !thrown {
            finding.1 = attempt;
            finding.2.times += 1;
        }
        found.push(finding);
    }
    found.into_iter().map(|(_, _, finding)| finding).collect()
}

/// A missing registration is reported as one with another cloud id: only with an id it is one.
fn shows_other_cloud_id(entry: &str) -> bool {
    let Some((_, shown)) = entry.split_once("resourcecloudid:") else { return false };
    let digits = shown.bytes().take_while(u8::is_ascii_hexdigit).count();
    digits == 8 && shown[digits..].starts_with('-')
}

/// The text in lower case without white space and quotes (a console breaks lines anywhere), and where each byte was.
fn squeeze(text: &str) -> (String, Vec<usize>) {
    let (mut squeezed, mut offsets) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
    for (at, char) in text.char_indices() {
        if !char.is_whitespace() && !matches!(char, '\'' | '"' | '`' | '\u{2018}'..='\u{201f}' | '\u{feff}') {
            squeezed.push(char.to_ascii_lowercase());
            offsets.resize(squeezed.len(), at);
        }
    }
    (squeezed, offsets)
}

/// Where the parts begin, if they follow each other closely. A number is not found inside a longer one.
fn find(text: &str, parts: &[String]) -> Option<usize> {
    let (first, rest) = parts.split_first()?;
    let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    text.match_indices(first.as_str()).map(|(start, _)| start).find(|start| {
        let mut end = start + first.len();
        !(digit(end - 1) && digit(end))
            && rest.iter().all(|part| {
                let reach = text.floor_char_boundary(end + GAP + part.len());
                let at = text[end..reach].find(part.as_str());
                end += at.unwrap_or_default() + part.len();
                at.is_some()
            })
    })
}

/// The entries: each from a time, a stream's name, a prompt or a cmdlet's error to the next one.
fn entries(text: &str) -> Vec<(usize, usize)> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at > 0 && begins_entry(line) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).collect()
}

/// A time, a stream, a prompt, or an error as a console shows it: `New-PSSession : ...`.
fn begins_entry(line: &str) -> bool {
    let is_error = |(head, _): (&str, &str)| {
        head.contains('-') && head.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    has_time(line.as_bytes())
        || ["VERBOSE:", "WARNING:", "DEBUG:"].iter().any(|stream| line.starts_with(stream))
        || is_prompt(line)
        || line.split_once(" : ").is_some_and(is_error)
}

/// `2026-03-01.10-15-00`.
fn has_time(line: &[u8]) -> bool {
    let shape = b"0000-00-00.00-00-00";
    line.len() >= shape.len()
        && shape
            .iter()
            .zip(line)
            .all(|(shape, byte)| if *shape == b'0' { byte.is_ascii_digit() } else { shape == byte })
}

/// `PS C:\>` or `[azs-ercs01]: PS>`.
fn is_prompt(line: &str) -> bool {
    let line = line.lines().next().unwrap_or_default();
    (line.starts_with("PS ") && line.contains('>')) || (line.starts_with('[') && line.contains("]: PS>"))
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

/// Names before a secret; those with `true` also with nothing but a space between.
const SECRET_NAMES: &[(&str, bool)] = &[
    ("refreshtoken", true),
    ("activationkey", true),
    ("registrationtoken", true),
    ("convertto-securestring", true),
    ("refresh_token", false),
    ("accesstoken", false),
    ("access_token", false),
    ("clientsecret", false),
    ("client_secret", false),
    ("password", false),
];

/// Which bytes of a text belong to a secret: long runs of base64 or a JWT's characters, over line breaks, and values
/// of [`SECRET_NAMES`].
fn secrets(text: &str) -> Vec<bool> {
    let bytes = text.as_bytes();
    let mut mask = vec![false; bytes.len()];
    let of_run =
        |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/=_-.%~".contains(byte));
    let mut at = 0;
    while at < bytes.len() {
        let (mut end, mut length) = (at, 0);
        loop {
            let next = end + usize::from(bytes.get(end) == Some(&b'\r'));
            if of_run(end) {
                (end, length) = (end + 1, length + 1);
            } else if length > 0 && bytes.get(next) == Some(&b'\n') && of_run(next + 1) && !has_time(&bytes[next + 1..])
            {
                end = next + 1;
            } else {
                break;
            }
        }
        if length >= SECRET && !is_name(&text[at..end], text[..at].ends_with(':')) {
            mask[at..end].fill(true);
        }
        at = end.max(at + 1);
    }
    let lower = text.to_ascii_lowercase();
    for (name, spaced) in SECRET_NAMES {
        for (start, _) in lower.match_indices(name) {
            if let Some((from, to)) = value_after(text, start, start + name.len(), *spaced) {
                mask[from..to].fill(true);
            }
        }
    }
    mask
}

/// Where the value of a secret's name is, as a parameter, an assignment or in JSON; the name is at `start..end`.
fn value_after(text: &str, start: usize, end: usize, spaced: bool) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let word =
        bytes[..start].iter().rposition(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').map_or(0, |at| at + 1);
    let dashed = word > 0 && bytes[word - 1] == b'-';
    let parameter = dashed && (word < 2 || !bytes[word - 2].is_ascii_alphanumeric());
    // Not `InvalidRegistrationToken : The ...`, nor `New-RegistrationToken : The ...`.
    let alone = parameter || (word == start && !dashed);
    let unquoted = text[end..].trim_start_matches(['"', '\'', '\\']);
    let quoted = text.len() - unquoted.len() > end;
    let rest = unquoted.trim_start();
    let value = match rest.bytes().next()? {
        b'=' => &rest[1..],
        b':' if quoted || alone => &rest[1..],
        b':' | b'-' => return None,
        _ if (parameter || (alone && spaced)) && !quoted && rest.len() < unquoted.len() => rest,
        _ => return None,
    };
    let value = value.trim_start().trim_start_matches('\\');
    let (value, length) = match value.chars().next()? {
        quote @ ('"' | '\'') => (&value[1..], value[1..].find(quote).or(value[1..].find('\n'))),
        _ => (value, value.find(|char: char| char.is_whitespace() || ",;)}\"'".contains(char))),
    };
    let from = text.len() - value.len();
    Some((from, from + length.unwrap_or(value.len())))
}

/// A resource id, an action, a type or a registration's default name: long, but of short words.
fn is_name(run: &str, after_colon: bool) -> bool {
    let lower = run.to_ascii_lowercase();
    (["/subscriptions/", "microsoft.", "azurestack"].iter().any(|start| lower.starts_with(start))
        || (after_colon && lower.starts_with("//")))
        && lower.split(['/', '.', '-', '_', '=']).all(|word| word.len() <= 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJCaWxsaW5nTW9kZWwiOiJDYXBhY2l0eSIsIkNsb3VkSWQiOiJjMGZmZWUifQ==CANARYCANARYCANARY";

    fn found(text: &str) -> Vec<(usize, &'static str, usize)> {
        read_module_log(text).iter().map(|finding| (finding.line, finding.code.id, finding.times)).collect()
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
        for (row, said, code) in PATTERNS {
            for choice in said.split('|') {
                let text = format!("2026-03-01.10-15-00: {}\n", choice.replace('…', "Kind ").to_uppercase());
                assert_eq!(found(&text), [(1, code.id, 1)], "row {row}: {choice}");
            }
        }
        let unseen: Vec<u8> = (1..=69).filter(|row| !PATTERNS.iter().any(|(of, ..)| of == row)).collect();
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
        assert_eq!(read_module_log(&log)[1].excerpt, refused);
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
             2026-03-01.10-15-01: Exception: something failed that nobody knows\n2026-03-01.10-15-02: Your environment \
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
        let [finding] = &read_module_log(&log)[..] else { panic!("{log}") };
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
            for finding in read_module_log(&wrapped.join("\n")) {
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
        let excerpt = &read_module_log(&text)[0].excerpt;
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
            read_module_log(text)[1].excerpt,
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
        assert_eq!(found(denied), [(1, "AZR2002", 1)]);
        assert_eq!(found(&format!("PS C:\\> Get-Credential AZS\\AzureStackAdmin\n{denied}")), [(2, "AZR1009", 1)]);
    }
}
