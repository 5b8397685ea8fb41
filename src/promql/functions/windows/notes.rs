//! Which annotations a series has earned, collected over its windows and handed out once.

use tsdbctl_model::Span;
use tsdbctl_storage::annotations::{Annotation, HistogramOperation};

use super::{SeriesInfo, WindowQuery};
use crate::engine::Column;

/// A kind of annotation that windows raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Note {
    MixedFloatsHistograms = 1,
    NotCounter = 1 << 1,
    NotGauge = 1 << 2,
    MixedSchemas = 1 << 3,
    ReconciledAddition = 1 << 4,
    ReconciledSubtraction = 1 << 5,
    ReconciledAggregation = 1 << 6,
    ResetCollision = 1 << 7,
    HistogramsIgnored = 1 << 8,
}

/// A set of notes and the count of windows with overlapping start timestamps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes {
    kinds: u16,
    overlaps: i64,
}

impl Notes {
    /// Adds one kind.
    pub(super) fn add(&mut self, note: Note) {
        self.kinds |= note as u16;
    }

    /// Adds a window with an overlap.
    pub(super) fn add_overlap(&mut self) {
        self.overlaps += 1;
    }

    /// Adds all of another set.
    pub(super) fn merge(&mut self, other: Self) {
        self.kinds |= other.kinds;
        self.overlaps += other.overlaps;
    }

    /// Hands out what was collected.
    pub(super) fn hand_out(self, name: &str, span: Span, emit: &mut dyn FnMut(Annotation)) {
        let has = |note: Note| self.kinds & note as u16 != 0;
        if self.overlaps > 0 {
            emit(Annotation::start_time_overlap(name, self.overlaps, span));
        }
        if self.kinds == 0 {
            return;
        }
        if has(Note::MixedFloatsHistograms) {
            emit(Annotation::mixed_floats_histograms(name, span));
        }
        if has(Note::NotCounter) {
            emit(Annotation::native_histogram_not_counter(name, span));
        }
        if has(Note::NotGauge) {
            emit(Annotation::native_histogram_not_gauge(name, span));
        }
        if has(Note::MixedSchemas) {
            emit(Annotation::mixed_exponential_custom_histograms(name, span));
        }
        if has(Note::ReconciledAddition) {
            emit(Annotation::mismatched_custom_buckets(HistogramOperation::Addition, span));
        }
        if has(Note::ReconciledSubtraction) {
            emit(Annotation::mismatched_custom_buckets(HistogramOperation::Subtraction, span));
        }
        if has(Note::ReconciledAggregation) {
            emit(Annotation::mismatched_custom_buckets(HistogramOperation::Aggregation, span));
        }
        if has(Note::ResetCollision) {
            emit(Annotation::histogram_counter_reset_collision(HistogramOperation::Aggregation, span));
        }
        if has(Note::HistogramsIgnored) {
            emit(Annotation::histogram_ignored_in_mixed_range(name, span));
        }
    }

    /// The info of `rate` and `increase` over a series with a float result that is not named like a counter.
    pub(super) fn possible_non_counter(
        &self,
        query: &WindowQuery,
        series: &SeriesInfo,
        out: &Column,
        emit: &mut dyn FnMut(Annotation),
    ) {
        let name = series.metric_name;
        if name.is_empty() {
            return;
        }
        let unlike = if query.type_and_unit {
            !matches!(series.type_label, "counter" | "histogram")
        } else {
            !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
        };
        if unlike && out.present.iter().any(|w| *w != 0) {
            emit(if query.type_and_unit {
                Annotation::possible_non_counter_label(name, series.type_label, query.arg_span)
            } else {
                Annotation::possible_non_counter(name, query.arg_span)
            });
        }
    }
}
