//! Nothing is lost for good without somebody having agreed to it.

use azsreg_model::{Problem, Remembered, ValueKind, code};
use azsreg_operations::engine::journal::Mark;
use azsreg_operations::engine::session::{Consent, Question};

use crate::ask;
use crate::cli::{CareOptions, Global};
use crate::watch::Screen;

/// The person at the terminal, if there is one.
pub(crate) struct Person<'p> {
    pub(crate) global: &'p Global,
    /// Whether `--yes` has agreed beforehand.
    pub(crate) yes: bool,
    pub(crate) screen: Screen,
}

impl<'p> Person<'p> {
    pub(crate) fn new(global: &'p Global, care: Option<&CareOptions>, screen: &Screen) -> Self {
        Self { global, yes: care.is_some_and(|care| care.yes), screen: screen.clone() }
    }

    fn is_there(&self) -> bool {
        ask::is_there(self.global)
    }

    fn answer(&self, text: &str) -> Result<Option<String>, Problem> {
        self.screen.asks();
        ask::line(text)
    }
}

impl Consent for Person<'_> {
    fn agree(&mut self, question: &Question, changed: bool) -> Result<(), Problem> {
        let Question { what, mark: Mark { lost, .. } } = question;
        let mut text = String::new();
        if changed {
            text.push_str("This changed while you were asked:\n");
        }
        text.push_str(what);
        for item in lost {
            text.push_str(&format!("\n  lost: {item}"));
        }
        if self.yes {
            // What was agreed to beforehand is what was there then.
            if changed {
                let message = format!("it changed while this ran: {what}");
                return Err(Problem::new(&code::CHANGED_MEANWHILE, message));
            }
            if !lost.is_empty() {
                let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                self.screen.asides(&lines);
            }
            return Ok(());
        }
        if !self.is_there() {
            let mut problem = Problem::new(&code::NOT_CONFIRMED, format!("this was not agreed to: {what}"));
            problem.details = lost.iter().map(|item| format!("lost: {item}")).collect();
            return Err(problem);
        }
        match self.answer(&format!("{text}\nGo on? Type yes: "))? {
            Some(answer) if answer.eq_ignore_ascii_case("yes") => Ok(()),
            _ => {
                let problem = Problem::new(&code::NOT_CONFIRMED, format!("{what} The answer was not yes."));
                Err(problem.next("Nothing. If it is what you want, run the same command again and type yes."))
            }
        }
    }

    fn number(&mut self, option: &str, remembered: Option<&Remembered>) -> Option<String> {
        if !self.is_there() {
            return None;
        }
        let what = if option == "--ms-asset-tag" { "asset tag" } else { "agreement number" };
        let known = match remembered {
            None => format!("Azure does not show the {what}, and this machine does not know it."),
            Some(known) => format!(
                "Azure does not show the {what}. This machine wrote {} at {:.0}; something else has written to the registration since.",
                known.text, known.written.at
            ),
        };
        let mut said = known;
        loop {
            let question = format!("{said}\nType the {what} ({option}); leave it empty to stop: ");
            let answer = self.answer(&question).ok().flatten()?;
            match ValueKind::Word.read(&answer) {
                Ok("") => return None,
                // Elsewhere a question is answered so.
                Ok(word) if ["no", "n", "yes", "y", "-"].contains(&word.to_lowercase().as_str()) => {
                    said = format!("{word} is no {what}.");
                }
                Ok(number) => return Some(number.to_owned()),
                Err(odd) => said = format!("It holds {odd}: type it by hand in place of copying it."),
            }
        }
    }
}

/// Lists what is lost and asks, unless `--yes` says so beforehand.
pub(crate) fn agree(
    global: &Global,
    care: &CareOptions,
    screen: &Screen,
    what: &str,
    lost: &[String],
) -> Result<(), Problem> {
    let question = Question { what: what.to_owned(), mark: Mark { lost: lost.to_vec(), ..Mark::default() } };
    Person::new(global, Some(care), screen).agree(&question, false)
}
