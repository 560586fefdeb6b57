//! What a cmdlet that failed said, wherever PowerShell puts it, and what that means: the table of refusals says.

use azsreg_model::redact::of_server;
use azsreg_model::refusals::{self, REFUSALS, Refusal};
use azsreg_model::{Problem, code};
use azsreg_operations::ports::{Class, PortError};
use azsreg_psrp::messages::ErrorRecord;

/// So many of the last lines of a cmdlet that failed are kept.
const TAIL: usize = 20;

/// What a cmdlet that failed said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failure {
    /// The error that ended it, or stood in place of a result.
    pub record: ErrorRecord,
    /// Those before it.
    pub before: Vec<ErrorRecord>,
    /// The last lines of its verbose, warning and information streams.
    pub said: Vec<String>,
}

impl Failure {
    pub(crate) fn new(record: ErrorRecord, before: Vec<ErrorRecord>, mut said: Vec<String>) -> Self {
        said.drain(..said.len().saturating_sub(TAIL));
        Self { record, before, said }
    }

    /// All texts that may quote what was sent.
    pub(crate) fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let records = std::iter::once(&mut self.record).chain(&mut self.before);
        records.flat_map(ErrorRecord::texts_mut).chain(&mut self.said)
    }

    /// The cmdlet that was not found, where it is one that `cmdlet` calls and not `cmdlet` itself.
    fn lacks(&self, cmdlet: &str) -> Option<&str> {
        let record = &self.record;
        let not_found = record.id.split(',').next() == Some("CommandNotFoundException");
        let other = !record.target.is_empty() && !record.target.eq_ignore_ascii_case(cmdlet);
        (not_found && other).then_some(record.target.as_str())
    }

    /// The row of the table, and the words that it was found by. What an error says decides; what was said on the way does
    /// where the errors tell nothing, since it may be of something that was overcome.
    fn refusal(&self, cmdlet: &str) -> Option<(&'static Refusal, &str)> {
        // What is said of every failure of this cmdlet tells nothing of this one.
        let any = refusals::of_stamp(cmdlet, "", "");
        let of = |id: &str, text: &str| {
            refusals::of_stamp(cmdlet, id, text).filter(|row| any.is_none_or(|any| !std::ptr::eq(any, *row)))
        };
        // The table's order decides, whichever of the texts it is; then the one that says nothing else.
        let rank = |(row, words): &(&'static Refusal, &str)| {
            (REFUSALS.iter().position(|one| std::ptr::eq(one, *row)), words.len())
        };
        let record = &self.record;
        let mut errors: Vec<&str> = self.before.iter().flat_map(ErrorRecord::words).collect();
        let mut by_id = None;
        // That a cmdlet inside is missing is what a busy stamp may say in place of why.
        if self.lacks(cmdlet).is_none() {
            errors.splice(0..0, record.words());
            by_id = of(record.id.split(',').next().unwrap_or_default(), "").map(|row| (row, record.shown()));
        }
        let by_errors =
            errors.into_iter().filter_map(|words| Some((of("", words)?, words))).chain(by_id).min_by_key(rank);
        let by_said = || self.said.iter().filter_map(|line| Some((of("", line)?, line.as_str()))).min_by_key(rank);
        by_errors.or_else(by_said)
    }

    /// With all that was said, each text once, but what only wraps `told`.
    fn told_in(&self, mut problem: Problem, told: Option<&str>) -> Problem {
        let Self { record, before, said } = self;
        let of_record = record.words().into_iter().map(|words| {
            let what = if words == record.advice.trim() { "recommended action: " } else { "" };
            (what, words)
        });
        let of_others = before.iter().flat_map(ErrorRecord::words).map(|words| ("error before: ", words));
        let of_streams = said.iter().map(|line| ("said before: ", line.as_str()));
        for (what, words) in of_record.chain(of_others).chain(of_streams) {
            let shown = of_server(words);
            let wraps = told.is_some_and(|told| shown.contains(told));
            if !wraps && !problem.details.iter().any(|known| known.contains(&*shown)) {
                problem = problem.detail(format!("{what}{words}"));
            }
        }
        problem
    }

    /// What a cmdlet's failure means. What the table does not know may go through: the module tries three times, too.
    pub(crate) fn meaning(&self, cmdlet: &str) -> PortError {
        let Some((refusal, words)) = self.refusal(cmdlet) else { return self.not_known(cmdlet) };
        if refusal.plane == refusals::Plane::Directory {
            let problem = refusals::directory_problem(words, true);
            let problem = problem.unwrap_or_else(|| refusal.problem(format!("{cmdlet} failed"), words));
            let class = if refusal.class == refusals::Class::Again { Class::Again } else { Class::Refused };
            // Its trace ids and times are no part of the directory's sentence.
            let sentence = problem.details.first().cloned();
            return PortError::new(class, self.told_in(problem, sentence.as_deref()));
        }
        let message = match refusal.what() {
            Some(what) if refusal.code.id == code::STAMP_BUSY.id => {
                format!("{what} ({})", of_server(words.rsplit(':').next().unwrap_or_default().trim()))
            }
            Some(what) => what.to_owned(),
            None if refusal.code.id == code::CMDLET_UNKNOWN.id => format!("the stamp refused {cmdlet}"),
            None => format!("{cmdlet} failed"),
        };
        let class = match refusal.class {
            refusals::Class::Wait => Class::Busy,
            refusals::Class::Again => Class::Again,
            refusals::Class::Ask => Class::Refused,
            refusals::Class::Refuse => Class::Permanent,
        };
        PortError::new(class, self.with_id(self.told_in(refusal.problem(message, words), None)))
    }

    fn not_known(&self, cmdlet: &str) -> PortError {
        let words = self.record.shown();
        let mut problem = match refusals::of_stamp(cmdlet, "", "") {
            Some(any) => any.problem(any.what().map_or_else(|| format!("{cmdlet} failed"), str::to_owned), words),
            None => Problem::new(&code::STAMP_ACTION_FAILED, format!("{cmdlet} failed")).detail(words),
        };
        if let Some(inner) = self.lacks(cmdlet) {
            problem = problem.cause(format!(
                "The stamp has {cmdlet}, and did not find {inner}, which that calls: a stamp that is busy or being updated may answer so."
            ));
        }
        PortError::new(Class::Again, self.with_id(self.told_in(problem, None)))
    }

    /// The id of what was thrown as text is that text, a second time.
    fn with_id(&self, problem: Problem) -> Problem {
        let Failure { record, .. } = self;
        match record.id.is_empty() || record.id == record.message {
            true => problem,
            false => problem.detail(format!("FullyQualifiedErrorId: {}", record.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azsreg_model::redact::remember;
    use azsreg_psrp::messages::read_pipeline_state;

    use crate::error::PepError;

    /// What PowerShell 7.6 sends for `throw "TEXT"`, but for members that are of no interest here: the text is the exception's
    /// message, the target and the FullyQualifiedErrorId.
    const THROWN: &str = r#"<Obj RefId="0"><MS><I32 N="PipelineState">5</I32><Obj N="ExceptionAsErrorRecord" RefId="1"><TN RefId="0"><T>System.Management.Automation.ErrorRecord</T><T>System.Object</T></TN><ToString>TEXT</ToString><MS><Obj N="Exception" RefId="2"><TN RefId="1"><T>System.Management.Automation.RuntimeException</T><T>System.SystemException</T><T>System.Exception</T><T>System.Object</T></TN><ToString>System.Management.Automation.RuntimeException: TEXT</ToString><Props><S N="ErrorRecord">TEXT</S><B N="WasThrownFromThrowStatement">true</B><Nil N="TargetSite" /><S N="Message">TEXT</S><Nil N="InnerException" /><Nil N="HelpLink" /><Nil N="Source" /><I32 N="HResult">-2146233087</I32><Nil N="StackTrace" /></Props></Obj><S N="TargetObject">TEXT</S><S N="FullyQualifiedErrorId">TEXT</S><Nil N="InvocationInfo" /><I32 N="ErrorCategory_Category">14</I32><S N="ErrorCategory_Activity"></S><S N="ErrorCategory_Reason">RuntimeException</S><S N="ErrorCategory_TargetName">TEXT</S><S N="ErrorCategory_TargetType">String</S><S N="ErrorCategory_Message">OperationStopped: (TEXT:String) [], RuntimeException</S></MS></Obj></MS></Obj>"#;

    fn told(cmdlet: &str, thrown: &str) -> Problem {
        let escaped = thrown.replace('&', "&amp;").replace('<', "&lt;").replace('\n', "_x000A_");
        let (_, record) = read_pipeline_state(&THROWN.replace("TEXT", &escaped)).unwrap();
        let error = PepError::Cmdlet {
            cmdlet: cmdlet.into(),
            failure: Box::new(Failure::new(record.unwrap(), Vec::new(), Vec::new())),
        };
        *PortError::from(error).problem
    }

    #[test]
    fn what_a_throw_quotes_of_a_secret_is_in_no_part_of_the_problem() {
        let token = "1.AVsAq3V7xYCANARYq3V7xYq3V7xYq3V7xY.AgABAAEAAAD";
        remember(token);
        remember("hunter2!");
        for cmdlet in ["New-AzureBridgeServicePrincipal", "New-AzureStackActivation", "Get-AzureStackStampInformation"]
        {
            for text in [
                format!("the token {token} is not good, nor is hunter2!"),
                format!("Cannot invoke action plan because another action is in progress: {token} hunter2!"),
                format!("AADSTS50034: {token} of 'hunter2!' does not exist"),
                format!("wrapped: {}\n{} hunter2!", &token[..20], &token[20..]),
            ] {
                let shown = format!("{:?}", told(cmdlet, &text));
                assert!(!shown.contains("CANARY") && !shown.contains("hunter2"), "{shown}");
                assert!(shown.contains("[redacted]"), "{shown}");
            }
        }
        let problem = told("New-AzureStackActivation", &format!("the token {token} is not good"));
        assert_eq!(problem.details, ["the token [redacted] is not good"]);
    }
}
