//! What all readers share: the sink, the things that cannot be read, the wish to stop.

use std::time::Duration;

use tsdbctl_model::Span;
use tsdbctl_platform::signal::StopFlag;

use super::input::{Input, More};
use super::sink::{Sink, Stop};
use crate::data::now_ms;
use crate::diagnostic::show_line;
use crate::ui::{Progress, Tone, Ui};

/// What to do about something that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnError {
    /// Name it, store what came before it, end.
    #[default]
    Stop,
    /// Name it and go on behind it.
    Skip,
}

/// Problems that are shown in full; the others are counted.
const SHOWN: u64 = 10;
/// Characters of a reason that are shown: some quote what they could not read, however long it is.
const REASON_SHOWN: usize = 300;
/// A writer that sends nothing for this long may be waiting for an acknowledgement.
const PAUSE: Duration = Duration::from_millis(2);
/// How often the wish to stop is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(100);

/// One run of the command.
pub struct Run<'a> {
    /// Where samples go.
    pub sink: Sink,
    /// Where talk goes.
    pub ui: &'a mut Ui,
    /// What to do about what cannot be read.
    pub on_error: OnError,
    /// `--timestamp`, for samples without one.
    pub timestamp_ms: Option<i64>,
    /// Whether samples that have no time cannot be read.
    pub needs_times: bool,
    /// Whether start timestamps are stored.
    pub start_timestamps: bool,
    /// Set by a signal.
    pub stop: StopFlag,
    /// Lines, families, series or bodies that could not be read.
    pub unreadable: u64,
    /// Steps for each piece of about a MiB.
    pub progress: Progress,
}

impl Run<'_> {
    /// The time of samples that come now and have none.
    pub fn now_ms(&self) -> i64 {
        self.timestamp_ms.unwrap_or_else(now_ms)
    }

    /// A start timestamp, if such are stored.
    pub fn start(&self, start_timestamp_ms: i64) -> i64 {
        if self.start_timestamps { start_timestamp_ms } else { 0 }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self) -> Result<(), Stop> {
        if self.stop.is_set() { Err(Stop::Asked) } else { Ok(()) }
    }

    /// Something at `place` (`file:line:column` or the like) cannot be read.
    ///
    /// # Errors
    /// If that ends the run.
    pub fn unreadable(&mut self, place: &str, reason: &str, line: Option<Line<'_>>) -> Result<(), Stop> {
        self.unreadable += 1;
        if self.unreadable <= SHOWN {
            let cut = reason.char_indices().nth(REASON_SHOWN).map(|p| p.0);
            let (shown, more) = cut.map_or((reason, ""), |at| (&reason[..at], "…"));
            self.ui.error(format!("{place}: {shown}{more}"));
            if let Some(line) = line {
                let text = String::from_utf8_lossy(line.text);
                // The column counts bytes of the line, the text may have more for what is no UTF-8.
                let before = String::from_utf8_lossy(&line.text[..line.column.min(line.text.len())]).len();
                show_line(self.ui, &text, line.number, Span::new(before, before));
                if line.text.ends_with(b"\r") && reason.contains("\\r") {
                    let word = self.ui.paint(Tone::Green, "hint");
                    self.ui.say(format!(
                        "  = {word}: lines end as in DOS; pipe it: tr -d '\\r' <FILE | tsdbctl ingest -"
                    ));
                }
            }
        } else if self.unreadable == SHOWN + 1 {
            self.ui.say("further ones are only counted");
        }
        match self.on_error {
            OnError::Stop => Err(Stop::Unreadable),
            OnError::Skip => Ok(()),
        }
    }

    /// Waits for more of the input. What has come is committed meanwhile if the input is silent.
    ///
    /// # Errors
    /// If the input fails, the store does, or a signal came.
    pub fn more(&mut self, input: &mut Input) -> Result<More, Stop> {
        if input.is_complete() {
            return Ok(More::End);
        }
        let (mut wait, mut silent) = (PAUSE, Duration::ZERO);
        loop {
            self.check()?;
            match input.more(wait)? {
                More::Idle => {
                    silent += wait;
                    self.sink.idle(silent)?;
                    wait = TICK;
                }
                other => return Ok(other),
            }
        }
    }

    /// As [`Run::more`], but says so when the input is silent for a moment.
    ///
    /// # Errors
    /// If the input fails.
    pub fn more_or_idle(&mut self, input: &mut Input) -> Result<More, Stop> {
        self.check()?;
        Ok(input.more(PAUSE)?)
    }

    /// Reads all that is left of the input, `limit` bytes at most.
    ///
    /// # Errors
    /// If there is more, or reading fails.
    pub fn read_to_end(&mut self, input: &mut Input, limit: usize) -> Result<(), Stop> {
        while self.more(input)? != More::End {
            if input.bytes().len() > limit {
                let name = &input.name;
                return Err(Stop::Failed(anyhow::anyhow!("{name}: a body of more than {limit} bytes")));
            }
        }
        Ok(())
    }
}

/// A line that is shown with a mark under the place.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its bytes, without the newline.
    pub text: &'a [u8],
    /// Its number, from 1.
    pub number: usize,
    /// Where the mark stands, bytes from its beginning.
    pub column: usize,
}

/// The line of `bytes` that holds `offset`, numbered from `first`; `offset` is where the mark stands.
pub fn line_at(bytes: &[u8], offset: usize, first: usize) -> Line<'_> {
    let offset = offset.min(bytes.len());
    let start = memchr::memrchr(b'\n', &bytes[..offset]).map_or(0, |p| p + 1);
    let end = memchr::memchr(b'\n', &bytes[offset..]).map_or(bytes.len(), |p| offset + p);
    let number = first + memchr::memchr_iter(b'\n', &bytes[..start]).count();
    Line { text: &bytes[start..end], number, column: offset - start }
}
