//! What the directory says when it refuses, wherever it was asked: here, or by the stamp as it redeems the token.

use crate::codes::{Code, code};
use crate::problem::Problem;

/// The AADSTS number in a text, if there is one.
#[must_use]
pub fn aadsts_number(text: &str) -> Option<u32> {
    let at = text.find("AADSTS")?;
    let digits: String = text[at + 6..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The problem behind an AADSTS number; `text` are the directory's words.
#[must_use]
pub fn aadsts_problem(number: u32, text: &str, by_stamp: bool) -> Problem {
    let entry: &'static Code = match number {
        50_076 => &code::MFA_REQUIRED,
        50_079 => &code::MFA_ENROLMENT,
        53_000..=53_003 => &code::CONDITIONAL_ACCESS,
        700_082 => &code::SIGN_IN_EXPIRED,
        50_173 => &code::SIGN_IN_REVOKED,
        65_001 => &code::CONSENT_REQUIRED,
        50_034 => &code::ACCOUNT_NOT_IN_TENANT,
        50_055 => &code::PASSWORD_CHANGE,
        7_000_215 | 7_000_222 | 700_027 => &code::BAD_CLIENT_SECRET,
        700_016 => &code::UNKNOWN_APPLICATION,
        90_002 => &code::UNKNOWN_TENANT,
        70_018 | 70_020 => &code::SIGN_IN_DECLINED,
        _ => &code::SIGN_IN_REFUSED,
    };
    let sentence = aadsts_sentence(text);
    let message = if by_stamp {
        format!("the directory refused the stamp when it redeemed the sign-in: AADSTS{number}")
    } else {
        format!("the directory refused the sign-in: AADSTS{number}")
    };
    Problem::new(entry, message).detail(sentence)
}

/// Who is asked for more than the sign-in has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// A person whose sign-in is kept: the next `azsreg login` asks for it.
    Person,
    /// A person who signs in for each run: an operator of a stamp.
    Operator,
    /// An application.
    Application,
}

/// What `host` wants of a sign-in, in plain words such as `multi-factor authentication`, and what to do about it.
#[must_use]
pub fn claims_problem(host: &str, wanted: &str, signed: Signed) -> Problem {
    let problem = Problem::new(&code::CLAIMS_NEEDED, format!("{host} asks for {wanted}"));
    match signed {
        Signed::Person => problem,
        Signed::Operator => {
            problem.next("Run the same command again at a terminal, without --non-interactive: it asks there, and resumes.")
        }
        Signed::Application => problem
            .cause("An application can't give a second factor: a policy of the tenant asks for it all the same, or the application was blocked or changed since it signed in.")
            .next("Have the tenant's administrator exempt the application from the policy, or use a person's sign-in (--device-code, --browser); then run the same command again: it resumes."),
    }
}

/// The directory's sentence, from the number on, without its trace ids.
#[must_use]
pub fn aadsts_sentence(text: &str) -> String {
    let start = text.find("AADSTS").unwrap_or(0);
    let text = &text[start..];
    let end = text.find(" Trace ID:").unwrap_or(text.len());
    text[..end].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_inside_the_stamps_words() {
        let text = "Action plan execution failed. Error: Type 'ConfigureBridgeIdentity' raised an exception: invalid_grant: AADSTS53003: Access has been blocked by Conditional Access policies. Trace ID: 1 Correlation ID: 2";
        assert_eq!(aadsts_number(text), Some(53003));
        let problem = aadsts_problem(53003, text, true);
        assert_eq!(problem.code.id, "AZR3012");
        assert_eq!(problem.details, ["AADSTS53003: Access has been blocked by Conditional Access policies."]);
        assert_eq!(aadsts_number("no number"), None);
    }
}
