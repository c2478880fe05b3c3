//! The live table's place: drawn over itself on a terminal, now and then elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use super::{board::Board, table};

/// How often the table is drawn on a terminal.
const ON_TERMINAL: Duration = Duration::from_millis(200);
/// How often elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(10);
/// What goes to the top and empties the terminal.
const EMPTY: &str = "\x1b[H\x1b[2J";
/// What empties the rest of a line.
const REST: &str = "\x1b[K";

/// Where the live table is drawn.
#[derive(Debug)]
pub(super) struct Screen {
    footer: String,
    terminal: bool,
    drawn: Option<Instant>,
    lines: usize,
    size: Option<(u16, u16)>,
}

impl Screen {
    /// Nothing is drawn yet. Elsewhere than on a terminal the footer is told once.
    pub(super) fn new(footer: String) -> Self {
        let terminal = std::io::stdout().is_terminal();
        if !terminal {
            write(&format!("{footer}\n"));
        }
        Self {
            footer,
            terminal,
            drawn: None,
            lines: 0,
            size: None,
        }
    }

    /// Draws if it is time to.
    pub(super) fn draw(&mut self, board: &Board) {
        let every = if self.terminal {
            ON_TERMINAL
        } else {
            ELSEWHERE
        };
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < every) {
            return;
        }
        self.drawn = Some(Instant::now());
        match size().filter(|_| self.terminal) {
            None => write(&table::full(board, width())),
            Some(size) => self.redraw(board, size),
        }
    }

    /// Leaves the last state behind.
    pub(super) fn finish(mut self, board: &Board) {
        match size().filter(|_| self.terminal) {
            None => write(&table::full(board, width())),
            Some(size) => {
                let lines = table::whole(board, size).join("\n");
                write(&format!("{}\x1b[J{lines}\n", self.back()));
            }
        }
    }

    fn redraw(&mut self, board: &Board, size: (u16, u16)) {
        let resized = self.size.replace(size).is_some_and(|old| old != size);
        let mut text = if resized {
            EMPTY.to_owned()
        } else {
            self.back()
        };
        // The cursor needs a line as well.
        let lines = table::fitted(board, (size.0.saturating_sub(1), size.1), &self.footer);
        for line in &lines {
            text += &format!("{line}{REST}\n");
        }
        self.lines = lines.len();
        write(&(text + "\x1b[J"));
    }

    /// What moves the cursor to the beginning of what was drawn.
    fn back(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }
}

/// The width of the terminal on stdout, if it is one and says something sensible.
pub(super) fn width() -> Option<u16> {
    size().map(|(_, columns)| columns)
}

fn size() -> Option<(u16, u16)> {
    let size = console::Term::stdout().size_checked();
    size.filter(|(rows, columns)| *rows >= 5 && *columns >= 40)
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush()); // no one may be looking
}
