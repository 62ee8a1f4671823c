//! The terminal: another screen while this runs, and keys without return.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Shown in place of what was there, until this is dropped.
pub(super) struct Screen {
    before: Termios,
}

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

impl Screen {
    /// Takes over the terminal.
    pub(super) fn open() -> io::Result<Screen> {
        if !io::stdout().is_terminal() {
            return Err(io::Error::other("the output is no terminal"));
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let mut out = io::stdout();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(Screen { before })
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    /// Shows these lines and nothing else.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        // To the beginning; each line ends with "clear to its end", the last with "clear what is below".
        let text = format!(
            "\x1b[H{}\x1b[J",
            lines.iter().map(|line| format!("{line}\x1b[K")).collect::<Vec<_>>().join("\r\n")
        );
        let mut out = io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Waits, and says whether `q`, escape or Ctrl-C was pressed meanwhile.
    pub(super) fn wait_for_quit(&mut self, wait: Duration) -> io::Result<bool> {
        let stdin = io::stdin();
        let timeout = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout)) {
            // The window changed its size.
            Err(rustix::io::Errno::INTR) | Ok(0) => return Ok(false),
            other => drop(other?),
        }
        let mut keys = [0; 32];
        let count = stdin.lock().read(&mut keys)?;
        // Nothing to read although something came: the terminal is gone.
        Ok(count == 0 || keys.iter().take(count).any(|key| matches!(key, b'q' | 0x1b | 0x03)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        // Nothing helps a terminal that cannot be put back.
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
