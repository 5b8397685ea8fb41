//! Both versions of the message, written. Layouts stand in `reader.rs`.

use hashbrown::HashMap;
use tsdbctl_model::Labels;
use tsdbctl_model::protobuf::Writer;
use tsdbctl_model::sample::Exemplar;

use crate::histogram::{HistogramSample, encode};
use crate::reader::Metadata;

/// A float sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Its value.
    pub value: f64,
    /// Unix ms.
    pub timestamp_ms: i64,
    /// When counting began, Unix ms, 0 where unknown; 1.0 has no place for it.
    pub start_timestamp_ms: i64,
}

/// Writes a `prometheus.WriteRequest`.
#[derive(Clone, Debug, Default)]
pub struct WriteRequestWriter {
    message: Writer,
}

impl WriteRequestWriter {
    /// Adds a series.
    pub fn series(
        &mut self,
        labels: &Labels,
        samples: &[Sample],
        exemplars: &[Exemplar],
        histograms: &[HistogramSample],
    ) {
        fn write_labels(w: &mut Writer, labels: &Labels) {
            for label in labels {
                w.message(1, |w| {
                    w.string(1, &label.name);
                    w.string(2, &label.value);
                });
            }
        }
        self.message.message(1, |w| {
            write_labels(w, labels);
            for sample in samples {
                w.message(2, |w| {
                    w.double(1, sample.value);
                    w.unsigned(2, sample.timestamp_ms as u64);
                });
            }
            for exemplar in exemplars {
                w.message(3, |w| {
                    write_labels(w, &exemplar.labels);
                    w.double(2, exemplar.value);
                    w.unsigned(3, exemplar.timestamp_ms as u64);
                });
            }
            for histogram in histograms {
                w.message(4, |w| encode(w, histogram, false));
            }
        });
    }

    /// Adds a family's metadata.
    pub fn metadata(&mut self, metadata: &Metadata<'_>) {
        self.message.message(3, |w| {
            w.unsigned(1, metadata.metric_type.number().into());
            w.string(2, metadata.family);
            w.string(4, metadata.help);
            w.string(5, metadata.unit);
        });
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.message.into_bytes()
    }
}

/// Writes an `io.prometheus.write.v2.Request`.
#[derive(Clone, Debug, Default)]
pub struct WriteV2Writer {
    symbols: HashMap<String, u32>,
    /// The symbols as fields, in order of their numbers; the empty one is written at the end.
    written: Writer,
    message: Writer,
}

impl WriteV2Writer {
    fn symbol(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.symbols.get(text) {
            return *number;
        }
        let number = self.symbols.len() as u32 + 1;
        self.symbols.insert(text.to_owned(), number);
        self.written.bytes(4, text.as_bytes());
        number
    }

    fn refs(&mut self, labels: &Labels) -> Vec<u32> {
        let mut refs = Vec::with_capacity(2 * labels.len());
        for label in labels {
            refs.push(self.symbol(&label.name));
            refs.push(self.symbol(&label.value));
        }
        refs
    }

    /// Adds a series with its metadata, whose family is not sent.
    pub fn series(
        &mut self,
        labels: &Labels,
        samples: &[Sample],
        exemplars: &[Exemplar],
        histograms: &[HistogramSample],
        metadata: &Metadata<'_>,
    ) {
        let refs = self.refs(labels);
        let exemplar_refs: Vec<Vec<u32>> = exemplars.iter().map(|e| self.refs(&e.labels)).collect();
        let (help, unit) = (self.symbol(metadata.help), self.symbol(metadata.unit));
        self.message.message(5, |w| {
            w.unsigned_repeated(1, &refs);
            for sample in samples {
                w.message(2, |w| {
                    w.double(1, sample.value);
                    w.unsigned(2, sample.timestamp_ms as u64);
                    w.unsigned(3, sample.start_timestamp_ms as u64);
                });
            }
            for histogram in histograms {
                w.message(3, |w| encode(w, histogram, true));
            }
            for (exemplar, refs) in exemplars.iter().zip(&exemplar_refs) {
                w.message(4, |w| {
                    w.unsigned_repeated(1, refs);
                    w.double(2, exemplar.value);
                    w.unsigned(3, exemplar.timestamp_ms as u64);
                });
            }
            w.message(5, |w| {
                w.unsigned(1, metadata.metric_type.number().into());
                w.unsigned(3, u64::from(help));
                w.unsigned(4, u64::from(unit));
            });
        });
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        let mut first = Writer::default();
        first.bytes(4, b"");
        [first.into_bytes(), self.written.into_bytes(), self.message.into_bytes()].concat()
    }
}
