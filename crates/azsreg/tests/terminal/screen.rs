//! A command in a terminal of its own: what a person sees, and what a person types.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A wait ends where nothing comes for so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn some(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).unwrap()
}

/// A terminal with a command in it.
pub(crate) struct Screen {
    child: Child,
    master: File,
    bytes: Receiver<Vec<u8>>,
    parser: vt100::Parser,
}

impl Screen {
    /// Runs a command in a terminal of so many columns and rows.
    pub(crate) fn of(command: &mut Command, columns: u16, rows: u16) -> Self {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut master, mut slave) = (0, 0);
        // SAFETY: openpty writes two descriptors that are ours from here on; the size is read only.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(opened, 0);
        // SAFETY: both descriptors are open, and no one else has them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.env("AZSREG_NON_INTERACTIVE", "false").env("TERM", "xterm-256color").env_remove("COLUMNS");
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: only calls that are allowed between fork and exec: a session of its own, with the terminal as its own.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The command holds copies of the slave: the end of the output comes when they are all closed.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        drop(slave);
        let (send, bytes) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = reader.read(&mut buffer) {
                if read == 0 || send.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, master, bytes, parser: vt100::Parser::new(some(rows), some(columns), 0) }
    }

    /// The screen as text, row by row, without blanks at the ends.
    pub(crate) fn rows(&self) -> Vec<String> {
        let (_, columns) = self.parser.screen().size();
        self.parser.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect()
    }

    pub(crate) fn text(&self) -> String {
        self.rows().join("\n").trim_end().to_owned()
    }

    /// Takes what comes until the screen is as wanted.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        while !wanted(&self.text()) {
            match self.bytes.recv_timeout(PATIENCE) {
                Ok(bytes) => self.parser.process(&bytes),
                Err(_) => panic!("{what} does not come; the screen is:\n{}", self.text()),
            }
        }
    }

    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Nothing is drawn while a question stands: the spinner ticks eight times a second.
    #[track_caller]
    pub(crate) fn stands_still(&mut self) {
        let before = self.text();
        match self.bytes.recv_timeout(Duration::from_millis(600)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(bytes) => panic!("{:?} came over the question:\n{before}", String::from_utf8_lossy(&bytes)),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended at the question:\n{before}"),
        }
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the structure is read only, and the descriptor is the terminal's.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
        self.parser.screen_mut().set_size(some(rows), some(columns));
    }

    /// Whether what is typed is shown.
    pub(crate) fn echoes(&self) -> bool {
        let mut set = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the structure is read only where tcgetattr has filled it.
        let set = unsafe {
            assert_eq!(libc::tcgetattr(self.master.as_raw_fd(), set.as_mut_ptr()), 0);
            set.assume_init()
        };
        set.c_lflag & libc::ECHO != 0
    }

    /// Takes all that comes.
    #[track_caller]
    pub(crate) fn whole(&mut self) -> String {
        loop {
            match self.bytes.recv_timeout(PATIENCE) {
                Ok(bytes) => self.parser.process(&bytes),
                Err(RecvTimeoutError::Disconnected) => return self.text(),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; the screen is:\n{}", self.text()),
            }
        }
    }

    /// Takes the rest and says how the command ended.
    #[track_caller]
    pub(crate) fn ends(&mut self, code: i32) -> String {
        let text = self.whole();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{status}: {text}");
        text
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
