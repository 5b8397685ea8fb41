//! The times at which groups are evaluated.

/// One evaluation of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When, Unix ms.
    pub ts_ms: i64,
    /// It is before what was asked for, so that the life of alerts is known from there on.
    pub lead: bool,
    /// A server starts here: nothing is known of alerts and series of before, and two runs write no alerts.
    pub starts_anew: bool,
}

/// The evaluations of a group, by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots {
    /// At `first`, `first + step`, … up to `last`; those before `shown_from` are leads.
    Every {
        /// The first, Unix ms.
        first: i64,
        /// Distance, ms, at least 1.
        step: i64,
        /// Nothing after this.
        last: i64,
        /// The first that was asked for.
        shown_from: i64,
    },
    /// These.
    At(Vec<Slot>),
}

impl Slots {
    /// Slots `k * step + offset` in `start..=end`, with `lead_ms` before them. A start in between is no slot.
    pub fn aligned(start: i64, end: i64, step: i64, offset: i64, lead_ms: i64) -> Self {
        let step = step.max(1);
        let first_from = |t: i64| t.saturating_add((offset.saturating_sub(t)).rem_euclid(step));
        let shown_from = first_from(start);
        let leads = lead_ms.max(0).div_euclid(step) + i64::from(lead_ms.max(0) % step != 0);
        let first = shown_from.saturating_sub(leads.saturating_mul(step));
        Self::Every { first, step, last: end, shown_from }
    }

    /// The slots of a server that are known by what it stored, by time and each once. Where two or more are missing it
    /// was down; with alerts its first two runs then wrote nothing.
    pub fn stored(times: &[i64], step: i64, with_alerts: bool) -> Self {
        let step = step.max(1);
        let mut slots: Vec<Slot> = Vec::with_capacity(times.len() + 2);
        let mut before: Option<i64> = None;
        for &ts_ms in times {
            let starts_anew = before.is_none_or(|b| ts_ms.saturating_sub(b) > 2 * step);
            let mut silent = if starts_anew && with_alerts { 2 } else { 0 };
            // No slot is taken twice.
            while silent > 0 && before.is_some_and(|b| ts_ms - silent * step <= b) {
                silent -= 1;
            }
            for k in (1..=silent).rev() {
                slots.push(Slot { ts_ms: ts_ms - k * step, lead: false, starts_anew: k == silent });
            }
            slots.push(Slot { ts_ms, lead: false, starts_anew: starts_anew && silent == 0 });
            before = Some(ts_ms);
        }
        Self::At(slots)
    }

    /// Evaluation `k`.
    pub fn get(&self, k: usize) -> Option<Slot> {
        match self {
            Self::Every { first, step, last, shown_from } => {
                let ts_ms = i64::try_from(k).ok()?.checked_mul(*step)?.checked_add(*first)?;
                (ts_ms <= *last).then_some(Slot { ts_ms, lead: ts_ms < *shown_from, starts_anew: false })
            }
            Self::At(slots) => slots.get(k).copied(),
        }
    }

    /// The last one.
    pub fn last(&self) -> Option<Slot> {
        self.len().checked_sub(1).and_then(|k| self.get(k))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Every { first, step, last, .. } if last >= first => {
                usize::try_from((last - first) / step + 1).unwrap_or(usize::MAX)
            }
            Self::Every { .. } => 0,
            Self::At(slots) => slots.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The distance of slots, where there are several.
    pub fn distance_ms(&self) -> Option<i64> {
        match self {
            Self::Every { step, .. } => Some(*step),
            Self::At(slots) => slots.windows(2).map(|w| w[1].ts_ms - w[0].ts_ms).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(slots: &Slots) -> Vec<String> {
        let show = |s: Slot| {
            let (lead, anew) = (if s.lead { "lead " } else { "" }, if s.starts_anew { "new " } else { "" });
            format!("{lead}{anew}{}", s.ts_ms)
        };
        (0..slots.len()).filter_map(|k| slots.get(k)).map(show).collect()
    }

    #[test]
    fn slots_are_multiples_and_an_offset() {
        let slots = Slots::aligned(100, 145, 20, 7, 30);
        assert_eq!(times(&slots), ["lead 67", "lead 87", "107", "127"]);
        assert_eq!(slots.last().map(|s| s.ts_ms), Some(127));
        assert_eq!(times(&Slots::aligned(107, 107, 20, 7, 0)), ["107"]);
        assert!(Slots::aligned(108, 120, 20, 7, 0).is_empty());
        assert_eq!(times(&Slots::aligned(-50, -20, 20, 5, 0)), ["-35"]);
    }

    #[test]
    fn a_server_was_down_where_two_are_missing() {
        let slots = Slots::stored(&[100, 110, 130, 170, 180], 10, false);
        assert_eq!(times(&slots), ["new 100", "110", "130", "new 170", "180"]);
        let slots = Slots::stored(&[100, 110, 140, 180], 10, true);
        assert_eq!(
            times(&slots),
            ["new 80", "90", "100", "110", "new 120", "130", "140", "new 160", "170", "180"]
        );
    }
}
