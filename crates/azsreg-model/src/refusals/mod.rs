//! One table of refusals: what Azure, the directory, the stamp and the PowerShell module say, and what that means. The client
//! and the log reader look here; `docs/reference/refusals.md` is made of it.

mod table;
mod words;

use std::borrow::Cow;
use std::sync::LazyLock;

pub use table::REFUSALS;
pub(crate) use words::squeeze;

use crate::codes::{Code, code};
use crate::problem::Problem;
use crate::redact::of_server;
use words::Pattern;

/// Whose words they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Microsoft Entra ID, or AD FS.
    Directory,
    /// Azure's Resource Manager and what is behind it.
    Azure,
    /// The stamp, its privileged endpoint, or Windows on the way there.
    Stamp,
    /// The PowerShell module, and PowerShell.
    Module,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It ends by itself: wait, to an end.
    Wait,
    /// It may go through: a few more tries.
    Again,
    /// Ask the person: a sign-in is missing something.
    Ask,
    /// It will fail again: refuse.
    Refuse,
}

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Who runs the command.
    You,
    /// An owner of the subscription.
    Subscription,
    /// Who keeps its policies.
    Policy,
    /// An administrator of the directory.
    Directory,
    /// An operator of the stamp.
    Stamp,
    /// Who keeps the network between the two sides.
    Network,
    /// Microsoft's support.
    Microsoft,
    /// It passes by itself.
    Passes,
}

impl Who {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::Subscription => "an owner of the subscription",
            Self::Policy => "who keeps the subscription's policies",
            Self::Directory => "an administrator of the directory",
            Self::Stamp => "an operator of the stamp",
            Self::Network => "who keeps the network",
            Self::Microsoft => "Microsoft's support",
            Self::Passes => "it passes by itself",
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Refusal {
    /// The row of `facts-errors.md`; 0: none.
    pub row: u8,
    /// Whose words.
    pub plane: Plane,
    /// What is done.
    pub class: Class,
    /// Who can mend it.
    pub who: Who,
    /// What it is.
    pub code: &'static Code,
    /// What is said: `|` is between alternatives, `…` between parts that follow each other closely. A part without a blank is
    /// an id: Azure's code, an AADSTS number, PowerShell's, Windows's or WinRM's. Behind `=` it counts as an answer's code alone.
    pub said: &'static str,
    /// What happened, what to run, and why, where the code's own words are not the best.
    words: &'static [&'static str],
}

impl Refusal {
    /// What happened, as a sentence without its subject's name.
    #[must_use]
    pub fn what(&self) -> Option<&'static str> {
        self.words.first().copied().filter(|words| !words.is_empty())
    }

    /// What to run next.
    #[must_use]
    pub fn next(&self) -> &'static str {
        self.words.get(1).copied().unwrap_or(self.code.next)
    }

    /// What to run next, where these are the words: a number of the directory's that the table does not know has a page of its own.
    #[must_use]
    pub fn next_for(&self, text: &str) -> Cow<'static, str> {
        match aadsts_number(text).filter(|_| self.said.contains("invalid_grant")) {
            Some(number) => format!(
                "Read https://login.microsoftonline.com/error?code={number}  and do what it says, then azsreg login."
            )
            .into(),
            None => self.next().into(),
        }
    }

    /// Why it happens.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        self.words.get(2).copied().unwrap_or(self.code.cause)
    }

    /// The problem, with the words of the other side.
    #[must_use]
    pub fn problem(&self, what: impl Into<String>, said: impl Into<String>) -> Problem {
        let mut problem = Problem::new(self.code, what).detail(said);
        problem.next = self.words.get(1).map(|next| (*next).to_owned());
        problem.cause = self.words.get(2).map(|cause| (*cause).to_owned());
        problem
    }
}

/// The alternatives of all rows, in order.
static PATTERNS: LazyLock<Vec<(Pattern, &'static Refusal)>> = LazyLock::new(|| {
    let choices = |refusal: &'static Refusal| refusal.said.split('|').map(move |said| (Pattern::new(said), refusal));
    REFUSALS.iter().flat_map(choices).collect()
});

/// What Azure's code and message mean. The code decides; what the message says does where the code is of no help.
#[must_use]
pub fn of_azure(code: &str, message: &str) -> Option<&'static Refusal> {
    let (text, _) = squeeze(&format!("{code} {message}"));
    let azure = || PATTERNS.iter().filter(|(_, row)| row.plane == Plane::Azure);
    let by_code = azure().find(|(pattern, _)| pattern.is_of(code) && pattern.find(&text).is_some());
    let by_words = || azure().find(|(pattern, _)| pattern.is_sentence() && pattern.find(&text).is_some());
    by_code.or_else(by_words).map(|(_, row)| *row)
}

/// What the words of the directory mean.
#[must_use]
pub fn of_directory(text: &str) -> Option<&'static Refusal> {
    in_text(text, |row| row.plane == Plane::Directory)
}

/// What the stamp's words mean: those of others may be in them.
#[must_use]
pub fn of_stamp(cmdlet: &str, id: &str, text: &str) -> Option<&'static Refusal> {
    in_text(&format!("{cmdlet} failed: {text} {id}"), |row| row.plane != Plane::Module)
}

fn in_text(text: &str, of: impl Fn(&Refusal) -> bool) -> Option<&'static Refusal> {
    let (text, _) = squeeze(text);
    find(&text, of).map(|(_, row)| row)
}

/// The first row whose words are in a squeezed text, and where.
pub(crate) fn find(squeezed: &str, of: impl Fn(&Refusal) -> bool) -> Option<(usize, &'static Refusal)> {
    let rows = PATTERNS.iter().filter(|(pattern, row)| pattern.is_of_texts() && of(row));
    rows.filter_map(|(pattern, row)| pattern.find(squeezed).map(|at| (at, *row))).next()
}

/// The problem behind the directory's words, wherever it was asked: here, or by the stamp as it redeems the token. `None`
/// where the words are not the directory's.
#[must_use]
pub fn directory_problem(text: &str, by_stamp: bool) -> Option<Problem> {
    let refusal = of_directory(text)?;
    let number = aadsts_number(text);
    let about = number.map_or_else(String::new, |number| format!(": AADSTS{number}"));
    let message = match (refusal.what(), by_stamp) {
        (Some(what), _) => format!("{what}{about}"),
        (None, true) => format!("the directory refused the stamp when it redeemed the sign-in{about}"),
        (None, false) => format!("the directory refused the sign-in{about}"),
    };
    let mut problem = refusal.problem(message, aadsts_sentence(text));
    if by_stamp && refusal.code.id == code::CONDITIONAL_ACCESS.id {
        // It is the stamp that the policy looks at: another way of signing in here changes nothing.
        problem.next = None;
    }
    if let Cow::Owned(page) = refusal.next_for(text) {
        problem.next = Some(page);
    }
    Some(problem)
}

/// The AADSTS number in a text, if there is one.
#[must_use]
pub fn aadsts_number(text: &str) -> Option<u32> {
    let at = text.find("AADSTS")?;
    let digits: String = text[at + 6..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The directory's sentence, from the number on, without its trace ids.
#[must_use]
pub fn aadsts_sentence(text: &str) -> String {
    let text = &text[text.find("AADSTS").unwrap_or(0)..];
    let end = text.find(" Trace ID:").unwrap_or(text.len());
    of_server(text[..end].trim()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directorys_words_are_found_inside_the_stamps() {
        let text = "Action plan execution failed. Error: Type 'ConfigureBridgeIdentity' raised an exception: invalid_grant: AADSTS53003: Access has been blocked by Conditional Access policies. Trace ID: 1 Correlation ID: 2";
        assert_eq!(aadsts_number(text), Some(53003));
        let problem = directory_problem(text, true).unwrap();
        assert_eq!(problem.code.id, "AZR3012");
        assert_eq!(problem.details, ["AADSTS53003: Access has been blocked by Conditional Access policies."]);
        assert!(problem.then().contains("the stamp's addresses"), "{}", problem.then());
        assert_eq!(aadsts_number("no number"), None);
    }

    #[test]
    fn an_unknown_number_leads_to_the_directorys_page_and_none_is_taken_for_another() {
        let problem = directory_problem("AADSTS999123: Something new. Trace ID: 1", false).unwrap();
        assert_eq!(problem.code.id, "AZR3016");
        assert!(problem.then().contains("error?code=999123"), "{}", problem.then());
        // A longer number is not the shorter one.
        assert_eq!(directory_problem("AADSTS500341: no", false).unwrap().code.id, "AZR3016");
        for (number, code, next) in [
            (53003, "AZR3012", "--browser"),
            (50097, "AZR3012", "device"),
            (530_032, "AZR3012", "--browser"),
            (50020, "AZR3018", "guest"),
            (700_024, "AZR7002", "clock"),
            (50158, "AZR3010", "--browser"),
            (7_000_215, "AZR3002", "value"),
            (900_439, "AZR3025", "AzureUSGovernment"),
            (900_382, "AZR3025", "--cloud"),
            (900_432, "AZR3025", "--cloud"),
            (7_000_112, "AZR3026", "administrator"),
            (50057, "AZR3027", "administrator"),
            (50105, "AZR3028", "administrator"),
            (90094, "AZR3015", "administrator"),
            (70019, "AZR3005", "new code"),
        ] {
            let problem = directory_problem(&format!("AADSTS{number}: words. Trace ID: 1"), false).unwrap();
            assert_eq!(problem.code.id, code, "{number}");
            assert!(problem.then().contains(next), "{number}: {}", problem.then());
        }
    }

    #[test]
    fn azures_code_decides_and_what_a_message_quotes_does_not() {
        let code = |code, message| of_azure(code, message).map(|row| row.code.id);
        assert_eq!(code("RequestDisallowedByPolicy", "Reasons: 'Multifactor sign-in is needed.'"), Some("AZR3024"));
        assert_eq!(code("RequestDisallowedByPolicy", "Reasons: 'ScopeLocked groups carry a tag.'"), Some("AZR4048"));
        assert_eq!(code("BadRequest", "Reusing cloud identifiers is not allowed."), Some("AZR4007"));
        assert_eq!(code("BadRequest", "the id ScopeLocked is not known"), None);
        assert_eq!(code("SomethingElse", ""), None);
        assert_eq!(code("AuthenticationFailed", "no"), Some("AZR3016"));
        assert_eq!(code("CopyOperationInProgress", "no"), None);
        // The letters of MFA are in other words.
        for words in ["Groups from factory sites carry a cost centre.", "VM form factors", "the system failed"] {
            assert_eq!(code("RequestDisallowedByPolicy", words), Some("AZR4048"), "{words}");
        }
    }

    #[test]
    fn a_cmdlets_failure_is_known_by_its_own_name() {
        let code = |cmdlet, id, text| of_stamp(cmdlet, id, text).map(|row| row.code.id);
        assert_eq!(code("Remove-AzureStackActivation", "", "It is not activated"), Some("AZR2029"));
        assert_eq!(code("Remove-AzureStackActivation", "", "x"), Some("AZR2018"));
        assert_eq!(code("New-AzureStackActivation", "", "the activation key has expired"), Some("AZR2016"));
        assert_eq!(code("New-RegistrationToken", "CommandNotFoundException", "x"), Some("AZR2008"));
        assert_eq!(code("New-RegistrationToken", "", "x"), None);
        // A 403 of a proxy is no missing role, storage's code is no sign-in of ours.
        assert_eq!(code("New-AzureStackActivation", "", "The proxy answered (403) Forbidden."), Some("AZR4057"));
        assert_eq!(code("New-RegistrationToken", "", "Storage said AuthenticationFailed"), None);
    }

    #[test]
    fn ids_decide_in_any_language() {
        for (said, code) in [
            ("Der Zugriff wurde verweigert. AccessDenied,PSSessionOpenFailed", "AZR2035"),
            ("アクセスが拒否されました。 LogonFailure,PSSessionOpenFailed", "AZR2002"),
            ("Le client ne peut pas se connecter. CannotConnect,PSSessionOpenFailed", "AZR2001"),
            ("Die Anzahl der Shells ist erreicht. -2144108123,PSSessionOpenFailed", "AZR2039"),
        ] {
            assert_eq!(of_stamp("New-PSSession", "", said).unwrap().code.id, code, "{said}");
        }
    }

    #[test]
    fn a_row_is_never_hidden_by_one_before_it() {
        for (index, row) in REFUSALS.iter().enumerate() {
            for said in row.said.split('|').filter(|said| !said.starts_with('=')) {
                let text = squeeze(&said.replace('…', "Kind ")).0;
                let (_, found) = find(&text, |_| true).unwrap();
                assert!(
                    std::ptr::eq(found, &REFUSALS[index]) || found.code.id == row.code.id,
                    "{said}: {}",
                    found.said
                );
            }
        }
    }

    #[test]
    fn what_a_token_of_another_version_mends_is_advised_first() {
        let refusal = of_azure("InvalidRegistrationToken", "The registration token is malformed.").unwrap();
        assert!(refusal.next().contains("--token-version"), "{}", refusal.next());
    }

    #[test]
    fn a_stamp_that_is_refused_azure_ad_graph_has_a_code_of_its_own() {
        for words in [
            "Access blocked to AAD Graph API for this application. https://aka.ms/AzureADGraphMigration.",
            "Authorization_RequestDenied: Access blocked to AAD Graph API for this application.",
            "The remote server returned an error: (403) Forbidden. Access blocked to AAD Graph API for this application.",
        ] {
            let refusal = of_stamp("New-AzureBridgeServicePrincipal", "", words).unwrap();
            assert_eq!(refusal.code.id, "AZR4025", "{words}");
            assert!(refusal.next().starts_with("Update the stamp first"), "{}", refusal.next());
        }
    }
}
