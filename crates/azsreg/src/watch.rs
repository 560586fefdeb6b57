//! Who looks on: progress on a terminal, lines where there is none, and the log.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use azsreg_arm::Prompt;
use azsreg_model::{Problem, StepReport};
use azsreg_operations::{Watch, waits};
use azsreg_pep::News;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

use crate::cli::{Global, Output};
use crate::door::{Line, Log, clean};
use crate::view;

/// Starts the log: to a file if asked, to stderr with `-v`.
pub(crate) fn start_log(global: &Global) -> Result<(), Problem> {
    let file = global.log_file.as_deref().map(crate::state::log_file).transpose()?.flatten();
    let filter = "off,azsreg=debug,azsreg_arm=debug,azsreg_pep=debug,azsreg_operations=debug";
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(true);
    match (file, global.verbose) {
        (Some(file), true) => base.with_writer(Mutex::new(Log(file)).and(|| Log(std::io::stderr()))).init(),
        (Some(file), false) => base.with_writer(Mutex::new(Log(file))).init(),
        (None, true) => base.with_writer(|| Log(std::io::stderr())).without_time().init(),
        (None, false) => {}
    }
    Ok(())
}

/// The progress line of this command, if it has one.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// No progress is drawn any more, however the command ended.
pub(crate) fn end() {
    if let Some(bar) = BAR.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}

/// Does something while no progress is drawn.
pub(crate) fn suspended<T>(work: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

/// How often it is said what is waited for, where no progress line shows it.
const EVERY: Duration = Duration::from_secs(30);

/// How many ends of steps were told on stderr.
static TOLD: AtomicUsize = AtomicUsize::new(0);

/// How many ends of steps were told already.
pub(crate) fn told() -> usize {
    TOLD.load(Ordering::Relaxed)
}

/// How often, in a test build, as the test wants it.
fn every() -> Duration {
    #[cfg(feature = "crash-points")]
    if let Some(every) = std::env::var("AZSREG_WAITS_EVERY_MS").ok().and_then(|text| text.parse().ok()) {
        return Duration::from_millis(every);
    }
    EVERY
}

/// What goes on, as far as it is known here.
#[derive(Debug, Clone)]
struct Doing {
    what: String,
    since: Timestamp,
    begun: Instant,
    /// No new try after this.
    limit: Option<Duration>,
    /// How far it is, or why it waits.
    detail: String,
}

#[derive(Debug, Default)]
struct Shared {
    doing: Mutex<(Option<Doing>, bool)>,
    changed: Condvar,
}

impl Shared {
    fn doing(&self) -> MutexGuard<'_, (Option<Doing>, bool)> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says every so often what is waited for, until the screen is gone.
    fn watch(&self, every: Duration, say: impl Fn(&[Line])) {
        let mut state = self.doing();
        let mut said = 0;
        let mut of = None;
        loop {
            let (Some(doing), false) = (&state.0, state.1) else {
                if state.1 {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if of != Some(doing.begun) {
                (of, said) = (Some(doing.begun), 0);
            }
            let due = doing.begun + every * (said + 1);
            let now = Instant::now();
            if now < due {
                let waited = self.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
                continue;
            }
            said = u32::try_from((now - doing.begun).as_millis() / every.as_millis().max(1)).unwrap_or(u32::MAX - 1);
            let doing = doing.clone();
            drop(state);
            // Who has not answered for a third of it is named.
            say(&waiting_lines(&doing, &waits::now(), now, every / 3));
            state = self.doing();
        }
    }
}

/// What is waited for, since when and until when; then why, and who has not answered.
fn waiting_lines(doing: &Doing, waits: &[waits::Wait], now: Instant, late: Duration) -> Vec<Line> {
    let at = |instant: Instant| {
        let ahead = SignedDuration::try_from(instant.saturating_duration_since(doing.begun)).unwrap_or_default();
        doing.since.checked_add(ahead).unwrap_or(doing.since).strftime("%H:%M:%S").to_string()
    };
    let tries = waits.iter().filter(|wait| wait.whose.is_none()).map(|wait| wait.since + wait.limit);
    let until = doing.limit.map(|limit| doing.begun + limit).into_iter().chain(tries).min();
    let mut head = format!("waiting {}: {}, since {}", length(now - doing.begun), doing.what, at(doing.begun));
    if let Some(until) = until {
        let _ = write!(head, ", tries until {}", at(until));
    }
    let mut lines = vec![Line::of(&format!("{head} UTC"))];
    if !doing.detail.is_empty() {
        lines.push(Line::of("  ").then(&doing.detail));
    }
    for wait in waits {
        let waited = now.saturating_duration_since(wait.since);
        if let Some(whose) = wait.whose.as_ref().filter(|_| waited >= late) {
            let until = at(wait.since + wait.limit);
            lines.push(Line::of(&format!("  no answer of {whose} for {}, given up at {until}", length(waited))));
        }
    }
    lines
}

/// Such as `1 h 2 min` or `1 min 30 s`.
fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Plain lines on stderr, for whoever reads them later.
struct Lines {
    shared: Arc<Shared>,
}

impl Lines {
    fn new() -> Self {
        let shared = Arc::<Shared>::default();
        let watched = Arc::clone(&shared);
        // Beside the command: what blocks that is waited for, too. Without a thread there are the lines of steps.
        let _ = std::thread::Builder::new().name("waits".into()).spawn(move || {
            watched.watch(every(), |lines| lines.iter().for_each(Line::tell));
        });
        Self { shared }
    }

    fn doing(&self, change: impl FnOnce(&mut Option<Doing>)) {
        change(&mut self.shared.doing().0);
        self.shared.changed.notify_all();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.shared.doing().1 = true;
        self.shared.changed.notify_all();
    }
}

/// Progress for a person: a line that changes on a terminal, lines one after the other where there is none.
#[derive(Clone)]
pub(crate) struct Screen {
    bar: Option<ProgressBar>,
    lines: Option<Rc<Lines>>,
    /// Whether a step's effect has begun.
    pub(crate) acting: Rc<Cell<bool>>,
    done: Rc<RefCell<Vec<StepReport>>>,
    step: Rc<Cell<Option<&'static str>>>,
    /// Why there is a wait, where the stamp has said so.
    why: Rc<RefCell<String>>,
    total: usize,
    /// Nobody is asked: the simulated directory approves by itself.
    rehearsal: bool,
    /// Whether a person may be asked at all, and whether one sees what is said.
    asks: bool,
    seen: bool,
    /// Whether a token or key of an unknown form is refused.
    strict: bool,
}

impl Screen {
    pub(crate) fn new(global: &Global, total: usize) -> Self {
        let terminal = std::io::stderr().is_terminal() && !global.verbose && global.output == Output::Human;
        let bar = (terminal && !global.no_progress).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed:>5}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
            bar
        });
        let lines = (!terminal && !global.no_progress).then(|| Rc::new(Lines::new()));
        Self {
            bar,
            lines,
            acting: Rc::default(),
            done: Rc::default(),
            step: Rc::default(),
            why: Rc::default(),
            total,
            rehearsal: false,
            asks: !global.non_interactive,
            seen: std::io::stderr().is_terminal(),
            strict: global.strict,
        }
    }

    /// A screen that does not ask anybody to sign in.
    pub(crate) fn rehearsal(self) -> Self {
        Self { rehearsal: true, ..self }
    }

    /// A screen of a look that nobody waits for.
    pub(crate) fn quiet(self) -> Self {
        self.clear();
        Self { bar: None, lines: None, asks: false, ..self }
    }

    /// Says what goes on.
    pub(crate) fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("- {}", clean(text)));
        }
        self.begin(text);
    }

    /// Something else goes on from here.
    fn begin(&self, what: &str) {
        self.why.take();
        if let Some(lines) = &self.lines {
            let doing = Doing {
                what: what.to_owned(),
                since: Timestamp::now(),
                begun: Instant::now(),
                limit: None,
                detail: String::new(),
            };
            lines.doing(|state| *state = Some(doing));
        }
    }

    /// How far it is, or why it waits.
    pub(crate) fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("- {}", clean(text)));
        }
        if let Some(lines) = &self.lines {
            lines.doing(|state| {
                if let Some(doing) = state {
                    text.clone_into(&mut doing.detail);
                }
            });
        }
    }

    /// Nothing is waited for but the person.
    pub(crate) fn asks(&self) {
        if let Some(lines) = &self.lines {
            lines.doing(|state| *state = None);
        }
    }

    /// The steps that ended well, and the one that had begun.
    pub(crate) fn so_far(&self) -> (Vec<StepReport>, Option<&'static str>) {
        (self.done.borrow().clone(), self.step.get())
    }

    /// Why there is a wait; empty where there is none, or no reason is known.
    pub(crate) fn waits_because(&self) -> String {
        self.why.borrow().clone()
    }

    /// Takes progress of the stamp.
    pub(crate) fn news(&self) -> Box<dyn Fn(News)> {
        let (bar, lines) = (self.bar.clone(), self.lines.as_ref().map(Rc::downgrade));
        let why = Rc::clone(&self.why);
        Box::new(move |news| {
            let percent = if news.percent >= 0 { format!(" {} %", news.percent) } else { String::new() };
            let text = format!("{}{percent}", azsreg_model::redact::of_server(&news.status));
            if news.warns {
                return suspended(|| Line::of("warning: ").then(&text).tell());
            }
            if let Some(bar) = &bar {
                bar.set_message(format!("- {}", clean(&text)));
            }
            let mut first = false;
            if let Some(lines) = lines.as_ref().and_then(std::rc::Weak::upgrade) {
                lines.doing(|state| {
                    if let Some(doing) = state {
                        first = doing.detail != text;
                        doing.detail.clone_from(&text);
                    }
                });
            }
            if news.waits {
                // Whoever reads lines is not left without one until the next is due.
                if first {
                    Line::of("waiting: ").then(&text).tell();
                }
                why.replace(text);
            }
        })
    }

    /// Clears the progress line: nothing is waited for.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.asks();
    }

    /// A line beside the progress.
    pub(crate) fn aside(&self, text: &str) {
        self.asides(&[text]);
    }

    /// Lines beside the progress.
    pub(crate) fn asides<T: AsRef<str>>(&self, lines: &[T]) {
        let tell = || lines.iter().for_each(|line| Line::of(line.as_ref()).tell());
        match &self.bar {
            Some(bar) => bar.suspend(tell),
            None => tell(),
        }
    }

    /// Which step it is; of how many, where that is known.
    fn counted(&self) -> String {
        let of = if self.total > 0 { format!("/{}", self.total) } else { String::new() };
        format!("[{}{of}]", self.done.borrow().len() + 1)
    }
}

impl Watch for Screen {
    fn step_started(&mut self, step: &'static str, title: &str) {
        tracing::info!(step, "step");
        let count = self.counted();
        if let Some(bar) = &self.bar {
            bar.set_message("");
            bar.set_prefix(format!("{count} {}", clean(title)));
        }
        if self.lines.is_some() {
            self.aside(&format!("{count} {title}"));
        }
        self.begin(title);
    }

    fn tried_for(&mut self, limit: Duration) {
        if let Some(lines) = &self.lines {
            lines.doing(|state| {
                if let Some(doing) = state {
                    doing.limit = Some(limit);
                }
            });
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
        if self.lines.is_some() {
            view::step_line(report).tell();
            TOLD.fetch_add(1, Ordering::Relaxed);
            // What comes until the next step begins is the command's own.
            self.begin("what comes next");
        }
    }

    fn waiting(&mut self, why: &str) {
        self.detail(&format!("{why}; waiting"));
    }

    fn progress(&mut self, _: &str, done: u64, of: u64) {
        use azsreg_operations::marketplace::fetch::amount;
        if self.bar.is_some() || self.lines.is_some() {
            let percent = done.saturating_mul(100).checked_div(of).unwrap_or(0).min(100);
            self.detail(&format!("{percent} %, {} of {}", amount(done), amount(of)));
        }
    }

    fn note(&mut self, text: &str) {
        self.aside(text);
    }

    fn strict(&self) -> bool {
        self.strict
    }

    fn warning(&mut self, problem: &Problem) {
        self.aside(&format!("warning[{}]: {}", problem.code.id, problem.message));
        let next = problem.then();
        if !next.is_empty() && !next.starts_with("Nothing") {
            self.aside(&format!(" next: {next}"));
        }
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

    fn may_ask(&self, was_asked: bool) -> bool {
        // Who was asked before is there, whatever the screen is.
        self.asks && (self.seen || was_asked)
    }

    fn again(&self, why: &str) {
        self.aside(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(what: &str, limit: Option<u64>, detail: &str) -> Doing {
        let since = "2026-11-28T10:14:05Z".parse().unwrap();
        Doing {
            what: what.into(),
            since,
            begun: Instant::now(),
            limit: limit.map(Duration::from_secs),
            detail: detail.into(),
        }
    }

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| format!("{}\n", line.as_str())).collect()
    }

    #[test]
    fn a_wait_says_what_for_since_when_and_until_when() {
        let step = doing("Activate the stamp", Some(3_600), "the stamp is busy; waiting");
        let lines = waiting_lines(&step, &[], step.begun + Duration::from_secs(90), EVERY);
        assert_eq!(
            text(&lines),
            "waiting 1 min 30 s: Activate the stamp, since 10:14:05, tries until 11:14:05 UTC\n  the stamp is busy; waiting\n"
        );
        assert!(lines.iter().all(|line| line.as_str().len() <= 80));
    }

    #[test]
    fn who_does_not_answer_is_named() {
        let phase = doing("signing in to Azure", None, "");
        let _tries = waits::tries(Duration::from_secs(300));
        let _answer = waits::answer_of("login.example.com", Duration::from_secs(120));
        let of = |wait: &waits::Wait| wait.whose.as_deref().is_none_or(|whose| whose == "login.example.com");
        let mut waits: Vec<_> = waits::now().into_iter().filter(of).collect();
        waits.iter_mut().for_each(|wait| wait.since = phase.begun);
        let lines = waiting_lines(&phase, &waits, phase.begun + Duration::from_secs(30), EVERY);
        assert_eq!(
            text(&lines),
            "waiting 30 s: signing in to Azure, since 10:14:05, tries until 10:19:05 UTC\n  no answer of login.example.com for 30 s, given up at 10:16:05\n"
        );
    }

    #[test]
    fn it_is_said_as_often_as_it_is_due_and_no_more_when_the_screen_is_gone() {
        let every = Duration::from_millis(20);
        let (send, said) = std::sync::mpsc::channel();
        let lines = Lines { shared: Arc::default() };
        let shared = Arc::clone(&lines.shared);
        let thread = std::thread::spawn(move || {
            shared.watch(every, |lines| {
                let _ = send.send(text(lines));
            });
        });
        let begun = Instant::now();
        lines.doing(|state| *state = Some(doing("checking", None, "")));
        for _ in 0..3 {
            assert!(said.recv_timeout(Duration::from_secs(20)).unwrap().contains(": checking, since "));
        }
        assert!(begun.elapsed() >= every * 3, "not before it is due");
        // What begins is waited for from its own beginning.
        lines.doing(|state| {
            *state = Some(Doing { begun: Instant::now() + Duration::from_secs(3_600), ..doing("later", None, "") })
        });
        while let Ok(text) = said.recv_timeout(every * 5) {
            assert!(!text.contains("later"), "{text}");
        }
        drop(lines);
        thread.join().unwrap();
        assert!(said.recv().is_err());
    }

    #[test]
    fn lengths_are_short() {
        for (seconds, text) in
            [(0, "0 s"), (30, "30 s"), (60, "1 min"), (90, "1 min 30 s"), (3_600, "1 h"), (3_725, "1 h 2 min")]
        {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
    }
}
