//! What a command shows: data to stdout, talk and progress to stderr, colour only on a terminal.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where a command writes.
pub struct Ui {
    out: BufWriter<io::Stdout>,
    /// Whether stdout is a terminal.
    pub out_is_terminal: bool,
    /// Whether stderr is a terminal.
    pub err_is_terminal: bool,
    /// Whether to use colour on stderr.
    pub colour: bool,
    /// `-v`.
    pub verbose: bool,
}

/// Colours of words on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Errors.
    Red,
    /// Warnings.
    Yellow,
    /// Infos and places.
    Blue,
    /// Hints.
    Green,
    /// Headlines.
    Bold,
}

impl Ui {
    /// The process's own streams.
    pub fn stdio(verbose: bool) -> Self {
        let err_is_terminal = io::stderr().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal,
            colour: err_is_terminal && !no_colour,
            verbose,
        }
    }

    /// Data goes here.
    pub fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Hands buffered data to the system.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// One line of talk; a stderr that fails is not worth an error.
    pub fn say(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr(), "{}", text.as_ref());
    }

    /// One line of talk under `-v`.
    pub fn detail(&mut self, text: impl AsRef<str>) {
        if self.verbose {
            self.say(text);
        }
    }

    /// `text` in a colour, where stderr has colours.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_string();
        }
        let code = match tone {
            Tone::Red => "1;31",
            Tone::Yellow => "1;33",
            Tone::Blue => "1;34",
            Tone::Green => "1;32",
            Tone::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// `error: …`
    pub fn error(&mut self, text: impl AsRef<str>) {
        let word = self.paint(Tone::Red, "error");
        self.say(format!("{word}: {}", text.as_ref()));
    }

    /// `warning: …`
    pub fn warn(&mut self, text: impl AsRef<str>) {
        let word = self.paint(Tone::Yellow, "warning");
        self.say(format!("{word}: {}", text.as_ref()));
    }

    /// `info: …`
    pub fn info(&mut self, text: impl AsRef<str>) {
        let word = self.paint(Tone::Blue, "info");
        self.say(format!("{word}: {}", text.as_ref()));
    }

    /// A bar for `total` things called `unit`, shown on a terminal once the work has lasted a second.
    pub fn progress(&self, total: u64, unit: &'static str) -> Progress {
        Progress { total, unit, started: Instant::now(), shown: None, on: self.err_is_terminal, done: 0 }
    }
}

/// A progress bar that begins to show after a second.
pub struct Progress {
    total: u64,
    unit: &'static str,
    started: Instant,
    shown: Option<ProgressBar>,
    on: bool,
    done: u64,
}

impl Progress {
    /// How many there are, once that is known.
    pub fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    /// None at all.
    pub fn hidden() -> Self {
        Self { total: 0, unit: "", started: Instant::now(), shown: None, on: false, done: 0 }
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.done += 1;
        if !self.on {
            return;
        }
        if let Some(bar) = &self.shown {
            bar.set_position(self.done);
        } else if self.started.elapsed() > Duration::from_secs(1) {
            let bar = ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} {msg}, {eta} left")
            {
                bar.set_style(style);
            }
            bar.set_message(self.unit);
            bar.set_position(self.done);
            self.shown = Some(bar);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// A number with its noun.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
