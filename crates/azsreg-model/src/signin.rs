//! What is said where Azure wants more of a sign-in than it has.

use crate::codes::code;
use crate::problem::Problem;

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
