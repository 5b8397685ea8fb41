//! Both versions of the message that is sent, read in place.
//!
//! ```text
//! 1.0  WriteRequest  1 TimeSeries*  3 MetricMetadata*
//!      TimeSeries    1 Label*  2 Sample*  3 Exemplar*  4 Histogram*      Label  1 name  2 value
//!      Sample        1 value  2 timestamp                                Exemplar  1 Label*  2 value  3 timestamp
//!      MetricMetadata  1 type  2 metric_family_name  4 help  5 unit
//! 2.0  Request       4 symbol*  5 TimeSeries*
//!      TimeSeries    1 label ref*  2 Sample*  3 Histogram*  4 Exemplar*  5 Metadata
//!      Sample        1 value  2 timestamp  3 start_timestamp
//!      Exemplar      1 label ref*  2 value  3 timestamp                  Metadata  1 type  3 help_ref  4 unit_ref
//! ```

use std::ops::Range;

use tsdbctl_model::protobuf::{Key, Message};
use tsdbctl_model::sample::MetricType;

use crate::error::WireError;
use crate::histogram::{self, HistogramSample};
use crate::writer::Sample;

/// The version of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// The version that a message's first field belongs to; none if it is of neither.
    pub fn of_message(message: &[u8]) -> Option<Self> {
        match message.first()? {
            0x0a | 0x1a => Some(Self::V1),
            0x22 | 0x2a => Some(Self::V2),
            _ => None,
        }
    }

    /// The version that a `Content-Type` names: that of its `proto` parameter, 1.0 without one. `None` if it is not
    /// `application/x-protobuf`, or the parameter names something else.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let mut version = Self::V1;
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("proto") {
                version = match value.trim() {
                    "prometheus.WriteRequest" => Self::V1,
                    "io.prometheus.write.v2.Request" => Self::V2,
                    _ => return None,
                };
            }
        }
        Some(version)
    }
}

/// What is said about a metric family (1.0) or series (2.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'b> {
    /// The family's name; empty in 2.0.
    pub family: &'b str,
    /// Its type.
    pub metric_type: MetricType,
    /// Its help text.
    pub help: &'b str,
    /// Its unit.
    pub unit: &'b str,
}

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct SentExemplar {
    /// Which of [`TimeSeries::exemplar_labels`] are its labels.
    pub labels: Range<usize>,
    /// The observed value.
    pub value: f64,
    /// When, Unix ms; 0 where it is not said.
    pub timestamp_ms: i64,
}

/// One series of a request; used again for the next.
#[derive(Clone, Debug, Default)]
pub struct TimeSeries<'b> {
    /// Names and values as they were sent: perhaps neither sorted nor unique, values perhaps empty.
    pub labels: Vec<(&'b str, &'b str)>,
    /// Float samples.
    pub samples: Vec<Sample>,
    /// Exemplars.
    pub exemplars: Vec<SentExemplar>,
    /// Labels of the exemplars.
    pub exemplar_labels: Vec<(&'b str, &'b str)>,
    /// What 2.0 says about the series; empty in 1.0.
    pub metadata: Metadata<'b>,
    /// Where the series begins in the message.
    pub offset: usize,
    /// Histograms as they were sent. They are decoded one at a time, since a few bytes can be a whole histogram.
    histograms: Vec<(usize, &'b [u8])>,
    refs: Vec<u32>,
    has_start: bool,
}

impl TimeSeries<'_> {
    /// Number of histograms.
    pub fn histogram_count(&self) -> usize {
        self.histograms.len()
    }

    /// A histogram.
    ///
    /// # Errors
    /// If it is none, or there is none of that number.
    pub fn histogram(&self, i: usize) -> Result<HistogramSample, WireError> {
        let (offset, bytes) =
            self.histograms.get(i).ok_or_else(|| WireError::new(self.offset, "no such histogram"))?;
        histogram::decode(bytes, self.has_start).map_err(|(at, reason)| WireError::new(offset + at, reason))
    }

    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.exemplars.clear();
        self.exemplar_labels.clear();
        self.histograms.clear();
        self.refs.clear();
        self.metadata = Metadata::default();
    }
}

/// What comes next in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'b> {
    /// A series, in the space that was given.
    Series,
    /// Metadata of a family, in 1.0.
    Metadata(Metadata<'b>),
}

/// Reads a message.
#[derive(Clone, Debug)]
pub struct Reader<'b> {
    body: &'b [u8],
    message: Message<'b>,
    version: Version,
    /// Offset and length of each symbol of 2.0.
    symbols: Vec<(u32, u32)>,
}

fn text<'b>(m: &mut Message<'b>, key: Key, field: &str) -> Result<&'b str, String> {
    std::str::from_utf8(m.bytes(key, field)?).map_err(|_| format!("field {field} is not valid UTF-8"))
}

fn sample(m: &mut Message<'_>, has_start: bool) -> Result<Sample, String> {
    let mut sample = Sample::default();
    while let Some(key) = m.key()? {
        match key.number {
            1 => sample.value = m.double(key, "Value")?,
            2 => sample.timestamp_ms = m.unsigned(key, "Timestamp")? as i64,
            3 if has_start => sample.start_timestamp_ms = m.unsigned(key, "StartTimestamp")? as i64,
            _ => m.skip(key)?,
        }
    }
    Ok(sample)
}

impl<'b> Reader<'b> {
    /// A reader of a decompressed message.
    ///
    /// # Errors
    /// If the symbols of 2.0 cannot be read.
    pub fn new(message: &'b [u8], version: Version) -> Result<Self, WireError> {
        if u32::try_from(message.len()).is_err() {
            return Err(WireError::new(0, "a message of 4 GiB or more"));
        }
        let (message_name, body) = (if version == Version::V1 { "WriteRequest" } else { "Request" }, message);
        let mut reader =
            Self { body, message: Message::new(body, message_name), version, symbols: Vec::new() };
        if version == Version::V2 {
            let mut m = reader.message;
            reader.read_symbols(&mut m).map_err(|reason| WireError::new(m.offset(), reason))?;
        }
        Ok(reader)
    }

    /// Symbols may stand behind the series that use them, so they are read first.
    fn read_symbols(&mut self, m: &mut Message<'b>) -> Result<(), String> {
        while let Some(key) = m.key()? {
            if key.number == 4 {
                let length = text(m, key, "Symbols")?.len();
                self.symbols.push(((m.offset() - length) as u32, length as u32));
            } else {
                m.skip(key)?;
            }
        }
        if let Some((_, length)) = self.symbols.first()
            && *length != 0
        {
            return Err("the first symbol is not empty".to_owned());
        }
        Ok(())
    }

    fn symbol(&self, at: u32) -> Result<&'b str, String> {
        let found = self.symbols.get(at as usize).and_then(|(offset, length)| {
            let bytes = self.body.get(*offset as usize..)?.get(..*length as usize)?;
            std::str::from_utf8(bytes).ok()
        });
        found.ok_or_else(|| format!("symbol {at} outside of symbols table (size {})", self.symbols.len()))
    }

    fn resolve(&self, refs: &[u32], into: &mut Vec<(&'b str, &'b str)>) -> Result<(), String> {
        if !refs.len().is_multiple_of(2) {
            return Err(format!("invalid labelRefs length {}", refs.len()));
        }
        for pair in refs.chunks_exact(2) {
            into.push((self.symbol(pair[0])?, self.symbol(pair[1])?));
        }
        Ok(())
    }

    /// The next item; a series is put into `series`. What is wrong within a series leaves the reader behind it, so
    /// that reading may go on; what is wrong with the message itself ends it.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn next(&mut self, series: &mut TimeSeries<'b>) -> Result<Option<Item<'b>>, WireError> {
        let mut m = self.message;
        let result = self.next_item(&mut m, series);
        // Behind an error in a length there is no going on.
        if let Err(e) = &result
            && e.0
        {
            self.message = Message::new(&[], "");
        } else {
            self.message = m;
        }
        result.map_err(|(_, error)| error)
    }

    /// The flag of an error says that it is the message's.
    fn next_item(
        &self,
        m: &mut Message<'b>,
        series: &mut TimeSeries<'b>,
    ) -> Result<Option<Item<'b>>, (bool, WireError)> {
        let fatal = |m: &Message<'_>, reason: String| (true, WireError::new(m.offset(), reason));
        loop {
            let Some(key) = m.key().map_err(|e| fatal(m, e))? else { return Ok(None) };
            let wanted = match (self.version, key.number) {
                (Version::V1, 1) | (Version::V2, 5) => true,
                (Version::V1, 3) => false,
                _ => {
                    m.skip(key).map_err(|e| fatal(m, e))?;
                    continue;
                }
            };
            let field = if wanted { "Timeseries" } else { "Metadata" };
            let name = if wanted { "TimeSeries" } else { "MetricMetadata" };
            let mut inner = m.nested(key, field, name).map_err(|e| fatal(m, e))?;
            let offset = inner.offset();
            let result = if !wanted {
                Self::family_metadata(&mut inner).map(Item::Metadata)
            } else {
                series.clear();
                series.offset = offset;
                series.has_start = self.version == Version::V2;
                match self.version {
                    Version::V1 => Self::series_v1(&mut inner, series),
                    Version::V2 => self.series_v2(&mut inner, series),
                }
                .map(|()| Item::Series)
            };
            return result.map(Some).map_err(|reason| (false, WireError::new(inner.offset(), reason)));
        }
    }

    fn family_metadata(m: &mut Message<'b>) -> Result<Metadata<'b>, String> {
        let mut metadata = Metadata::default();
        while let Some(key) = m.key()? {
            match key.number {
                1 => metadata.metric_type = MetricType::of_number(m.unsigned(key, "Type")?),
                2 => metadata.family = text(m, key, "MetricFamilyName")?,
                4 => metadata.help = text(m, key, "Help")?,
                5 => metadata.unit = text(m, key, "Unit")?,
                _ => m.skip(key)?,
            }
        }
        Ok(metadata)
    }

    fn label(m: &mut Message<'b>, key: Key) -> Result<(&'b str, &'b str), String> {
        let mut m = m.nested(key, "Labels", "Label")?;
        let (mut name, mut value) = ("", "");
        while let Some(key) = m.key()? {
            match key.number {
                1 => name = text(&mut m, key, "Name")?,
                2 => value = text(&mut m, key, "Value")?,
                _ => m.skip(key)?,
            }
        }
        Ok((name, value))
    }

    fn series_v1(m: &mut Message<'b>, series: &mut TimeSeries<'b>) -> Result<(), String> {
        while let Some(key) = m.key()? {
            match key.number {
                1 => series.labels.push(Self::label(m, key)?),
                2 => series.samples.push(sample(&mut m.nested(key, "Samples", "Sample")?, false)?),
                3 => {
                    let mut e = m.nested(key, "Exemplars", "Exemplar")?;
                    let first = series.exemplar_labels.len();
                    let (mut value, mut timestamp_ms) = (0.0, 0);
                    while let Some(key) = e.key()? {
                        match key.number {
                            1 => series.exemplar_labels.push(Self::label(&mut e, key)?),
                            2 => value = e.double(key, "Value")?,
                            3 => timestamp_ms = e.unsigned(key, "Timestamp")? as i64,
                            _ => e.skip(key)?,
                        }
                    }
                    let labels = first..series.exemplar_labels.len();
                    series.exemplars.push(SentExemplar { labels, value, timestamp_ms });
                }
                4 => {
                    let bytes = m.bytes(key, "Histograms")?;
                    series.histograms.push((m.offset() - bytes.len(), bytes));
                }
                _ => m.skip(key)?,
            }
        }
        Ok(())
    }

    fn series_v2(&self, m: &mut Message<'b>, series: &mut TimeSeries<'b>) -> Result<(), String> {
        while let Some(key) = m.key()? {
            match key.number {
                1 => m.unsigned_repeated(key, "LabelsRefs", &mut series.refs)?,
                2 => series.samples.push(sample(&mut m.nested(key, "Samples", "Sample")?, true)?),
                3 => {
                    let bytes = m.bytes(key, "Histograms")?;
                    series.histograms.push((m.offset() - bytes.len(), bytes));
                }
                4 => {
                    let mut e = m.nested(key, "Exemplars", "Exemplar")?;
                    let first = series.exemplar_labels.len();
                    let (mut refs, mut value, mut timestamp_ms) = (Vec::new(), 0.0, 0);
                    while let Some(key) = e.key()? {
                        match key.number {
                            1 => e.unsigned_repeated(key, "LabelsRefs", &mut refs)?,
                            2 => value = e.double(key, "Value")?,
                            3 => timestamp_ms = e.unsigned(key, "Timestamp")? as i64,
                            _ => e.skip(key)?,
                        }
                    }
                    self.resolve(&refs, &mut series.exemplar_labels)?;
                    let labels = first..series.exemplar_labels.len();
                    series.exemplars.push(SentExemplar { labels, value, timestamp_ms });
                }
                5 => {
                    let mut d = m.nested(key, "Metadata", "Metadata")?;
                    while let Some(key) = d.key()? {
                        match key.number {
                            1 => {
                                series.metadata.metric_type = MetricType::of_number(d.unsigned(key, "Type")?)
                            }
                            3 => series.metadata.help = self.symbol(d.unsigned(key, "HelpRef")? as u32)?,
                            4 => series.metadata.unit = self.symbol(d.unsigned(key, "UnitRef")? as u32)?,
                            _ => d.skip(key)?,
                        }
                    }
                }
                _ => m.skip(key)?,
            }
        }
        let refs = std::mem::take(&mut series.refs);
        let resolved = self.resolve(&refs, &mut series.labels);
        series.refs = refs;
        resolved
    }
}
