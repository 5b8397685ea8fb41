//! What a command shows: data to stdout, talk and progress to stderr, colour only on a terminal.

use std::io::{self, BufWriter, IsTerminal, Write};

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
}
