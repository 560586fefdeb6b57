//! A terminal for a command's questions.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::Ran;

/// A terminal for a command's questions: `python3` holds the other end of it.
pub(crate) struct Terminal {
    holder: Child,
    slave: PathBuf,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let script = "import os, pty, sys\nmaster, slave = pty.openpty()\nprint(os.ttyname(slave), flush=True)\nfor line in sys.stdin.buffer: os.write(master, line)\n";
        let mut holder =
            Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut name = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut name).unwrap();
        Self { holder, slave: name.trim().into() }
    }

    /// Runs a command that asks its questions here.
    pub(crate) fn run(&self, command: &mut Command) -> Asked {
        use std::os::unix::fs::OpenOptionsExt as _;
        let slave = std::fs::File::options().read(true).custom_flags(libc::O_NOCTTY).open(&self.slave).unwrap();
        command.env("AZSREG_NON_INTERACTIVE", "false").stdin(slave).stdout(Stdio::piped()).stderr(Stdio::piped());
        Asked { child: command.spawn().unwrap(), said: String::new() }
    }

    pub(crate) fn answer(&mut self, text: &str) {
        writeln!(self.holder.stdin.as_mut().unwrap(), "{text}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A command with a question on the screen.
pub(crate) struct Asked {
    child: Child,
    pub(crate) said: String,
}

impl Asked {
    /// Reads until the question was asked this often.
    #[track_caller]
    pub(crate) fn is_asked(&mut self, times: usize) {
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut bytes = [0; 1024];
        while self.said.matches("Type yes").count() < times {
            let read = stderr.read(&mut bytes).unwrap();
            assert!(read > 0, "it ended without asking: {}", self.said);
            self.said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    pub(crate) fn ends(mut self, code: i32) -> Ran {
        let (mut stdout, mut stderr) = (String::new(), self.said);
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        Ran { stdout, stderr, code: self.child.wait().unwrap().code() }.ends(code)
    }
}
