//! The one place that asks the person at the terminal. While it asks, no progress is drawn over it, and ^C ends the command at
//! once: a read of the terminal can't be given up, so it has a thread of its own.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use azsreg_model::{Problem, code};

use crate::cli::Global;
use crate::door::{Line, clean};
use crate::{fold, interrupt, watch};

/// Whether a question was answered with ^C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether a question was answered with ^C.
pub(crate) fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Whether there is a person who can be asked.
pub(crate) fn is_there(global: &Global) -> bool {
    !global.non_interactive && std::io::stdin().is_terminal()
}

/// Shows a text, the last line of which is the question, and reads a line. `None`: the input has ended.
pub(crate) fn line(text: &str) -> Result<Option<String>, Problem> {
    let (above, question) = text.rsplit_once('\n').unwrap_or(("", text));
    asked(
        || {
            above.lines().for_each(|line| Line::of(line).tell());
            let question = clean(question).trim_end().to_owned();
            let folded = fold::stderr().map(|width| fold::fold(&question, width)).unwrap_or(question);
            // In one piece: nothing comes after the question.
            write(&mut std::io::stderr(), &format!("{folded} "));
            // Who sends stderr to a file is at the terminal all the same.
            if !std::io::stderr().is_terminal()
                && let Some(mut terminal) = own_terminal()
            {
                let above: String = above.lines().map(|line| format!("{}\n", clean(line))).collect();
                write(&mut terminal, &format!("{above}{folded} "));
            }
        },
        || {
            let mut answer = String::new();
            let read = std::io::stdin().lock().read_line(&mut answer)?;
            if !answer.ends_with('\n') {
                // ^D: what comes next begins a row of its own.
                let _ = writeln!(std::io::stderr());
            }
            Ok((read > 0).then(|| answer.trim().to_owned()))
        },
    )
    .map(|answer| answer.unwrap_or(None))
}

/// Where it can't be written it is not seen, and the answer decides.
fn write(to: &mut impl std::io::Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// The terminal of this process, wherever its outputs go.
fn own_terminal() -> Option<std::fs::File> {
    let name = if cfg!(windows) { "CONOUT$" } else { "/dev/tty" };
    std::fs::File::options().write(true).open(name).ok()
}

/// Asks for a password, which is not shown.
pub(crate) fn password(question: &str) -> Result<String, Problem> {
    let question = clean(question);
    let answer = asked(|| {}, move || rpassword::prompt_password(question))?;
    answer.map_err(|error| Problem::new(&code::SECRET_UNREADABLE, format!("the password could not be read: {error}")))
}

enum Came<T> {
    Answer(std::io::Result<T>),
    Interrupt,
}

/// Reads on a thread, and gives up at ^C.
fn asked<T: Send + 'static>(
    show: impl FnOnce(),
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<std::io::Result<T>, Problem> {
    let terminal = Terminal::now();
    watch::suspended(|| {
        show();
        let (send, came) = mpsc::channel();
        let answers = send.clone();
        let reader = std::thread::Builder::new().name("answer".into());
        let reader = reader.spawn(move || answers.send(Came::Answer(read())));
        let signals = std::thread::Builder::new().name("interrupt".into());
        let signals = signals.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(interrupt::signal());
                let _ = send.send(Came::Interrupt);
            }
        });
        if let Err(error) = reader.and(signals.map(|_| ())) {
            return Ok(Err(error));
        }
        match came.recv() {
            // A read that ^C has broken off is no failure of the terminal.
            Ok(Came::Answer(Err(error))) if error.kind() != std::io::ErrorKind::Interrupted => {
                // What comes next begins a row of its own.
                let _ = writeln!(std::io::stderr());
                Ok(Err(error))
            }
            Ok(Came::Answer(Ok(answer))) => Ok(Ok(answer)),
            Ok(Came::Answer(Err(_)) | Came::Interrupt) => {
                INTERRUPTED.store(true, Ordering::Relaxed);
                terminal.restore();
                let _ = writeln!(std::io::stderr());
                Err(Problem::new(&code::INTERRUPTED, "interrupted before anything was changed"))
            }
            Err(_) => Ok(Err(std::io::ErrorKind::UnexpectedEof.into())),
        }
    })
}

/// How the terminal was set before a password was asked for.
struct Terminal {
    #[cfg(unix)]
    before: Option<libc::termios>,
}

#[cfg(unix)]
#[allow(unsafe_code)]
impl Terminal {
    fn now() -> Self {
        let mut before = std::mem::MaybeUninit::uninit();
        // SAFETY: tcgetattr fills the structure where it gives 0, and only then is it read.
        let before = unsafe { (libc::tcgetattr(0, before.as_mut_ptr()) == 0).then(|| before.assume_init()) };
        Self { before }
    }

    fn restore(&self) {
        if let Some(before) = &self.before {
            // SAFETY: the structure is the one that tcgetattr gave.
            unsafe { libc::tcsetattr(0, libc::TCSANOW, before) };
        }
    }
}

#[cfg(not(unix))]
impl Terminal {
    fn now() -> Self {
        Self {}
    }

    fn restore(&self) {}
}
