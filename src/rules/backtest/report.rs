//! What a backtest found: per alert its spans and figures; and two versions side by side.

use tsdbctl_model::Labels;
use tsdbctl_model::symbols::{Sym, SymbolTable};

use super::machine::{Holds, Span, SpanEnd, SpanState};

/// A firing that begins within this time of the same series' previous one is a flap, ms.
pub const FLAP_WITHIN_MS: i64 = 3_600_000;

const WEEK_MS: f64 = 7.0 * 86_400_000.0;

/// What a backtest found.
#[derive(Default)]
pub struct Report {
    /// First evaluation of the range, Unix ms.
    pub start_ms: i64,
    /// End of the range, Unix ms.
    pub end_ms: i64,
    /// Strings of the series' labels.
    pub symbols: SymbolTable,
    /// The alerts in the order of files, groups and rules.
    pub alerts: Vec<AlertReport>,
    /// Where a server would have seen something else than what is stored.
    pub notes: Vec<String>,
}

/// One alerting rule.
#[derive(Clone, Debug, Default)]
pub struct AlertReport {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// `file:line:column` of the rule.
    pub place: String,
    /// Its expression as it stands in the file.
    pub expr: String,
    /// Its labels with the group's, raw.
    pub labels: Vec<(String, String)>,
    /// `for` and `keep_firing_for`.
    pub holds: Holds,
    /// Distance of evaluations, ms.
    pub interval_ms: i64,
    /// Evaluations in the range.
    pub evaluations: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The first few failures: Unix ms and text.
    pub errors: Vec<(i64, String)>,
    /// Series times evaluations in the range at which the expression held.
    pub held_steps: u64,
    /// Evaluations before the range failed: what was active at its start is not known for sure.
    pub start_unknown: bool,
    /// Selectors of its expression that no series of the range matches, and why; only told of alerts that never were.
    pub unmatched: Vec<String>,
    /// The alerts by labels that were there in the range.
    pub series: Vec<SeriesReport>,
}

/// One alert by its labels.
#[derive(Clone, Debug, Default)]
pub struct SeriesReport {
    /// Its labels, sorted, in the report's symbols.
    pub labels: Vec<(Sym, Sym)>,
    /// Pending and firing, by time; the first may have begun before the range.
    pub spans: Vec<Span>,
    /// What it said when it began to fire, by time; empty unless that was asked for.
    pub firings: Vec<Firing>,
    /// Evaluations in the range at which the expression held.
    pub held_steps: u64,
    /// Whether what came before the evaluations could have made its state at the start another one.
    pub start_unknown: bool,
}

/// What an alert said when it began to fire.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// When, Unix ms.
    pub at_ms: i64,
    /// Its value; `None` of a histogram.
    pub value: Option<f64>,
    /// Its annotations, by name, in the report's symbols.
    pub annotations: Vec<(Sym, Sym)>,
}

/// Figures of one alert over the range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Series that were pending or firing.
    pub series: u64,
    /// Times a series became pending.
    pub pending: u64,
    /// Times a series was pending and went away before it fired.
    pub pending_only: u64,
    /// Times a series began to fire.
    pub firing: u64,
    /// Times a series was resolved.
    pub resolved: u64,
    /// Firings within an hour of the same series' previous one.
    pub flaps: u64,
    /// Longest firing, the part in the range, ms.
    pub longest_ms: i64,
    /// Sum of all firings, the parts in the range, ms.
    pub firing_ms: i64,
    /// Notifications: one when a series begins to fire, one when it is resolved.
    pub notifications: u64,
    /// Series whose state at the start is unknown.
    pub start_unknown: u64,
}

impl AlertReport {
    /// The figures of this alert.
    pub fn summary(&self, start_ms: i64, end_ms: i64) -> Summary {
        let mut sum = Summary { series: self.series.len() as u64, ..Summary::default() };
        for series in &self.series {
            sum.start_unknown += u64::from(series.start_unknown);
            let mut before: Option<i64> = None;
            for span in &series.spans {
                let begins = span.start_ms >= start_ms;
                match span.state {
                    SpanState::Pending => {
                        sum.pending += u64::from(begins);
                        sum.pending_only += u64::from(span.end == SpanEnd::Gone);
                    }
                    SpanState::Firing => {
                        sum.firing += u64::from(begins);
                        sum.resolved += u64::from(span.end == SpanEnd::Gone);
                        let again = before.is_some_and(|end| span.start_ms - end <= FLAP_WITHIN_MS);
                        sum.flaps += u64::from(begins && again);
                        let within = span.end_ms.min(end_ms) - span.start_ms.max(start_ms);
                        sum.longest_ms = sum.longest_ms.max(within);
                        sum.firing_ms += within;
                        before = Some(span.end_ms);
                    }
                }
            }
        }
        sum.notifications = sum.firing + sum.resolved;
        sum
    }
}

impl Report {
    /// The figures of one alert.
    pub fn summary(&self, alert: &AlertReport) -> Summary {
        alert.summary(self.start_ms, self.end_ms)
    }

    /// Notifications of all alerts.
    pub fn notifications(&self) -> u64 {
        self.alerts.iter().map(|a| self.summary(a).notifications).sum()
    }

    /// A count over the range as a rate per week.
    pub fn per_week(&self, count: u64) -> f64 {
        let range = (self.end_ms - self.start_ms) as f64;
        if range > 0.0 { count as f64 * WEEK_MS / range } else { 0.0 }
    }

    /// A series' labels as strings.
    pub fn labels(&self, series: &SeriesReport) -> Labels {
        self.symbols.labels(&series.labels)
    }
}

/// What became of an alert between two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the new version has it.
    Added,
    /// Only the old version has it.
    Removed,
    /// It notifies more often.
    Noisier,
    /// It notifies less often.
    Quieter,
    /// Another name, and nothing else.
    Renamed,
    /// As often, at other times or of other series.
    Different,
    /// Nothing changed.
    Same,
}

impl Change {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Noisier => "noisier",
            Self::Quieter => "quieter",
            Self::Renamed => "renamed",
            Self::Different => "different",
            Self::Same => "same",
        }
    }
}

/// An alert in two versions, by its place in each report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// In the old report.
    pub old: Option<usize>,
    /// In the new report.
    pub new: Option<usize>,
    /// What changed.
    pub change: Change,
}

/// Two versions side by side: alerts of one name belong together, the n-th with the n-th; those of the same raw labels
/// first. Of those that are left, alerts that differ in nothing but the name belong together as well.
pub fn compare(old: &Report, new: &Report) -> Vec<Pair> {
    let mut partner: Vec<Option<usize>> = vec![None; new.alerts.len()];
    let mut taken = vec![false; old.alerts.len()];
    type Fits = fn(&AlertReport, &AlertReport) -> bool;
    let fits: [Fits; 3] = [
        |a, b| a.name == b.name && a.labels == b.labels,
        |a, b| a.name == b.name,
        |a, b| (&a.expr, &a.labels, a.holds, a.interval_ms) == (&b.expr, &b.labels, b.holds, b.interval_ms),
    ];
    for fits in fits {
        for (n, alert) in new.alerts.iter().enumerate() {
            if partner[n].is_some() {
                continue;
            }
            let mut left = old.alerts.iter().enumerate().filter(|(o, _)| !taken[*o]);
            if let Some((o, _)) = left.find(|(_, other)| fits(alert, other)) {
                taken[o] = true;
                partner[n] = Some(o);
            }
        }
    }
    let mut pairs: Vec<Pair> = partner
        .into_iter()
        .enumerate()
        .map(|(n, o)| match o {
            None => Pair { old: None, new: Some(n), change: Change::Added },
            Some(o) => {
                let change = change((old, &old.alerts[o]), (new, &new.alerts[n]));
                Pair { old: Some(o), new: Some(n), change }
            }
        })
        .collect();
    let gone = (0..old.alerts.len()).filter(|o| !taken[*o]);
    pairs.extend(gone.map(|o| Pair { old: Some(o), new: None, change: Change::Removed }));
    pairs
}

fn change(old: (&Report, &AlertReport), new: (&Report, &AlertReport)) -> Change {
    let notifications = |(report, alert): (&Report, &AlertReport)| report.summary(alert).notifications;
    match notifications(new).cmp(&notifications(old)) {
        std::cmp::Ordering::Greater => Change::Noisier,
        std::cmp::Ordering::Less => Change::Quieter,
        std::cmp::Ordering::Equal => {
            let is_renamed = old.1.name != new.1.name;
            let all = |(report, alert): (&Report, &AlertReport)| -> Vec<(Labels, Vec<Span>)> {
                let mut all: Vec<_> = alert
                    .series
                    .iter()
                    .map(|s| {
                        let mut labels = report.labels(s);
                        labels.remove("alertname");
                        (labels, s.spans.clone())
                    })
                    .collect();
                all.sort_by(|a, b| a.0.cmp(&b.0));
                all
            };
            match all(old) == all(new) {
                true if is_renamed => Change::Renamed,
                true => Change::Same,
                false => Change::Different,
            }
        }
    }
}

/// Growth of all notifications, percent; `None` where there were none before and there are some now.
pub fn noise_growth_percent(old: &Report, new: &Report) -> Option<f64> {
    let (old, new) = (old.notifications(), new.notifications());
    match (old, new) {
        (0, 0) => Some(0.0),
        (0, _) => None,
        _ => Some((new as f64 - old as f64) / old as f64 * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(state: SpanState, start: i64, end: i64, how: SpanEnd) -> Span {
        Span { state, start_ms: start * 60_000, end_ms: end * 60_000, end: how }
    }

    fn alert(name: &str, spans: Vec<Span>) -> AlertReport {
        let series = vec![SeriesReport { spans, ..SeriesReport::default() }];
        AlertReport { name: name.to_string(), expr: name.to_string(), series, ..AlertReport::default() }
    }

    fn report(alerts: Vec<AlertReport>) -> Report {
        Report { start_ms: 600_000, end_ms: 600_000 + 7 * 86_400_000, alerts, ..Report::default() }
    }

    #[test]
    fn figures_count_what_begins_in_the_range() {
        use SpanEnd::{Fired, Gone, Open};
        use SpanState::{Firing, Pending};
        let alert = alert(
            "A",
            vec![
                span(Firing, 5, 20, Gone),
                span(Pending, 30, 31, Gone),
                span(Pending, 40, 42, Fired),
                span(Firing, 42, 50, Gone),
                span(Firing, 200, 260, Open),
            ],
        );
        let report = report(vec![alert]);
        let sum = report.summary(&report.alerts[0]);
        let wanted = Summary {
            series: 1,
            pending: 2,
            pending_only: 1,
            firing: 2,
            resolved: 2,
            flaps: 1,
            longest_ms: 60 * 60_000,
            firing_ms: 78 * 60_000,
            notifications: 4,
            start_unknown: 0,
        };
        assert_eq!(sum, wanted);
        assert_eq!(report.per_week(4), 4.0);
    }

    #[test]
    fn versions_are_paired_by_name_and_labels() {
        use SpanEnd::Gone;
        use SpanState::Firing;
        let fires = |n: i64| (0..n).map(|i| span(Firing, 20 + 10 * i, 25 + 10 * i, Gone)).collect::<Vec<_>>();
        let with = |a: AlertReport, severity: &str| AlertReport {
            labels: vec![("severity".to_string(), severity.to_string())],
            ..a
        };
        let old = report(vec![
            with(alert("A", fires(1)), "page"),
            with(alert("A", fires(2)), "info"),
            alert("B", fires(1)),
            alert("C", fires(1)),
        ]);
        let new = report(vec![
            with(alert("A", fires(3)), "info"),
            with(alert("A", fires(1)), "page"),
            alert("B", vec![span(Firing, 21, 25, Gone)]),
            alert("D", fires(1)),
        ]);
        let got: Vec<_> = compare(&old, &new).iter().map(|p| (p.old, p.new, p.change)).collect();
        assert_eq!(
            got,
            [
                (Some(1), Some(0), Change::Noisier),
                (Some(0), Some(1), Change::Same),
                (Some(2), Some(2), Change::Different),
                (None, Some(3), Change::Added),
                (Some(3), None, Change::Removed),
            ]
        );
        assert_eq!(noise_growth_percent(&old, &new), Some(20.0));
        // Rules that are equal but for the name.
        let rule = |name: &str, expr: &str| AlertReport { expr: expr.to_string(), ..alert(name, fires(1)) };
        let old = report(vec![rule("Old", "a > 1"), rule("Other", "b > 1"), rule("Kept", "c > 1")]);
        let new = report(vec![rule("Kept", "c > 1"), rule("New", "a > 1"), rule("Another", "d > 1")]);
        let got: Vec<_> = compare(&old, &new).iter().map(|p| (p.old, p.new, p.change)).collect();
        assert_eq!(
            got,
            [
                (Some(2), Some(0), Change::Same),
                (Some(0), Some(1), Change::Renamed),
                (None, Some(2), Change::Added),
                (Some(1), None, Change::Removed),
            ]
        );
        let (old, new) = (report(vec![alert("A", fires(5))]), new);
        assert_eq!(noise_growth_percent(&old, &new).map(f64::round), Some(-40.0));
        assert_eq!(noise_growth_percent(&report(Vec::new()), &new), None);
        assert_eq!(noise_growth_percent(&report(Vec::new()), &report(Vec::new())), Some(0.0));
        assert_eq!(noise_growth_percent(&new, &report(Vec::new())), Some(-100.0));
    }
}
