//! Who looks on: progress on a terminal, and the log.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal as _;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use azsreg_arm::Prompt;
use azsreg_model::{Problem, StepReport};
use azsreg_operations::Watch;
use azsreg_pep::News;
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

use crate::cli::{Global, Output};

/// Starts the log: to a file if asked, to stderr with `-v`.
pub(crate) fn start_log(global: &Global) -> Result<(), Problem> {
    let file = global.log_file.as_deref().map(crate::state::log_file).transpose()?;
    let filter = "off,azsreg=debug,azsreg_arm=debug,azsreg_pep=debug,azsreg_operations=debug";
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(true);
    match (file, global.verbose) {
        (Some(file), true) => base.with_writer(Mutex::new(file).and(std::io::stderr)).init(),
        (Some(file), false) => base.with_writer(Mutex::new(file)).init(),
        (None, true) => base.with_writer(std::io::stderr).without_time().init(),
        (None, false) => {}
    }
    Ok(())
}

/// Progress for a person, if there is one.
#[derive(Clone)]
pub(crate) struct Screen {
    bar: Option<ProgressBar>,
    /// Whether a step's effect has begun.
    pub(crate) acting: Rc<Cell<bool>>,
    done: Rc<RefCell<Vec<StepReport>>>,
    step: Rc<Cell<Option<&'static str>>>,
    total: usize,
    /// Nobody is asked: the simulated directory approves by itself.
    rehearsal: bool,
}

impl Screen {
    pub(crate) fn new(global: &Global, total: usize) -> Self {
        let shown =
            std::io::stderr().is_terminal() && !global.no_progress && !global.verbose && global.output == Output::Human;
        let bar = shown.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed:>5}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, acting: Rc::default(), done: Rc::default(), step: Rc::default(), total, rehearsal: false }
    }

    /// A screen that does not ask anybody to sign in.
    pub(crate) fn rehearsal(self) -> Self {
        Self { rehearsal: true, ..self }
    }

    /// Says what goes on.
    pub(crate) fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("- {text}"));
        }
    }

    /// The steps that ended well, and the one that had begun.
    pub(crate) fn so_far(&self) -> (Vec<StepReport>, Option<&'static str>) {
        (self.done.borrow().clone(), self.step.get())
    }

    /// Takes progress of the stamp.
    pub(crate) fn news(&self) -> Box<dyn Fn(News)> {
        let bar = self.bar.clone();
        Box::new(move |news| {
            if let Some(bar) = &bar {
                let percent = if news.percent >= 0 { format!(" {} %", news.percent) } else { String::new() };
                bar.set_message(format!("- {}{percent}", news.status));
            }
        })
    }

    /// Clears the progress line.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    pub(crate) fn aside(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| anstream::eprintln!("{text}")),
            None => anstream::eprintln!("{text}"),
        }
    }
}

impl Watch for Screen {
    fn step_started(&mut self, step: &'static str, title: &str) {
        tracing::info!(step, "step");
        if let Some(bar) = &self.bar {
            bar.set_message("");
            // Of how many, where that is known.
            let of = if self.total > 0 { format!("/{}", self.total) } else { String::new() };
            bar.set_prefix(format!("[{}{of}] {title}", self.done.borrow().len() + 1));
        }
    }

    fn acting(&mut self, step: &'static str) {
        self.step.set(Some(step));
        self.acting.set(true);
    }

    fn step_ended(&mut self, report: &StepReport) {
        tracing::info!(step = report.step, state = ?report.state, detail = report.detail, "step ended");
        self.step.set(None);
        self.done.borrow_mut().push(report.clone());
    }

    fn waiting(&mut self, why: &str) {
        self.say(&format!("{why}; waiting"));
    }

    fn progress(&mut self, _: &str, done: u64, of: u64) {
        if let Some(bar) = &self.bar {
            use azsreg_operations::marketplace::fetch::amount;
            let percent = done.saturating_mul(100).checked_div(of).unwrap_or(0).min(100);
            bar.set_message(format!("- {percent} %, {} of {}", amount(done), amount(of)));
        }
    }

    fn note(&mut self, text: &str) {
        self.aside(text);
    }

    fn warning(&mut self, problem: &Problem) {
        self.aside(&format!("warning[{}]: {}", problem.code.id, problem.message));
    }
}

impl Prompt for Screen {
    fn device_code(&self, url: &str, code: &str, message: &str) {
        if self.rehearsal {
            return;
        }
        let text = if message.is_empty() {
            format!("To sign in, open {url} and enter the code {code}.")
        } else {
            message.to_owned()
        };
        self.aside(&text);
    }

    fn browser(&self, url: &str, opened: bool) {
        if opened {
            self.aside("Sign in with the browser window that was opened. If there is none, open this page:");
        } else {
            self.aside("Open this page to sign in:");
        }
        self.aside(&format!("  {url}"));
    }
}
