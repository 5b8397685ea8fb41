//! What is known of the labels of series: of each name whether it is there, and what decided that.

use std::collections::{BTreeMap, BTreeSet};

use tsdbctl_model::{Labels, Span};

/// What is known of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every series has it; with this value, where that is known.
    Certain(Option<String>),
    /// A series may have it.
    Possible,
    /// No series has it.
    Impossible,
}

/// A presence and the part of the expression that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub presence: Presence,
    pub at: Span,
}

/// The labels of the series that one arm gives.
#[derive(Clone, Debug)]
pub struct LabelSet {
    /// The arm's place in the expression.
    pub span: Span,
    pub(super) named: BTreeMap<String, Known>,
    /// Of all names that are not in `named`: [`Presence::Possible`] or [`Presence::Impossible`].
    pub(super) rest: Known,
}

impl LabelSet {
    pub(super) fn open(span: Span) -> Self {
        Self { span, named: BTreeMap::new(), rest: Known { presence: Presence::Possible, at: span } }
    }

    pub(super) fn closed(span: Span) -> Self {
        Self { span, named: BTreeMap::new(), rest: Known { presence: Presence::Impossible, at: span } }
    }

    pub(super) fn known(&self, name: &str) -> &Known {
        self.named.get(name).unwrap_or(&self.rest)
    }

    /// What is known of a label.
    pub fn presence(&self, name: &str) -> &Presence {
        &self.known(name).presence
    }

    /// The part of the expression that decided about a label: the aggregation that drops it, the matcher's selector.
    pub fn decided_at(&self, name: &str) -> Span {
        self.known(name).at
    }

    /// Whether series may carry labels that the expression does not name.
    pub fn is_open(&self) -> bool {
        self.rest.presence == Presence::Possible
    }

    /// Names that the expression speaks of, with what is known of each.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Presence)> {
        self.named.iter().map(|(name, known)| (name.as_str(), &known.presence))
    }

    /// Whether a series may have these labels.
    pub fn admits(&self, labels: &Labels) -> bool {
        labels.iter().all(|l| match self.presence(&l.name) {
            Presence::Certain(Some(value)) => *value == l.value,
            Presence::Certain(None) | Presence::Possible => true,
            Presence::Impossible => false,
        }) && self.named().all(|(name, p)| !matches!(p, Presence::Certain(_)) || labels.has(name))
    }

    pub(super) fn put(&mut self, name: &str, presence: Presence, at: Span) {
        if presence == self.rest.presence && presence == Presence::Possible {
            self.named.remove(name);
        } else {
            self.named.insert(name.to_string(), Known { presence, at });
        }
    }

    /// What other names may still be asked of: those named here or there, and none in particular.
    pub(super) fn names_with(&self, other: &Self) -> Vec<String> {
        let all: BTreeSet<&String> = self.named.keys().chain(other.named.keys()).collect();
        all.into_iter().cloned().collect()
    }

    /// The set that covers both.
    pub(super) fn join(&self, other: &Self) -> Self {
        let join = |a: &Known, b: &Known| -> Known {
            let presence = match (&a.presence, &b.presence) {
                (x, y) if x == y => x.clone(),
                (Presence::Certain(_), Presence::Certain(_)) => Presence::Certain(None),
                _ => Presence::Possible,
            };
            Known { presence, at: a.at }
        };
        let mut out = Self {
            span: Span {
                start: self.span.start.min(other.span.start),
                end: self.span.end.max(other.span.end),
            },
            named: BTreeMap::new(),
            rest: join(&self.rest, &other.rest),
        };
        for name in self.names_with(other) {
            let known = join(self.known(&name), other.known(&name));
            out.named.insert(name, known);
        }
        out
    }

    pub(super) fn same_labels(&self, other: &Self) -> bool {
        self.rest.presence == other.rest.presence
            && self.names_with(other).iter().all(|n| self.presence(n) == other.presence(n))
    }
}

/// What a series matched with another of the same label value can have; `None` if they can never be equal.
pub(super) fn meet(a: &Known, b: &Known) -> Option<Known> {
    use Presence::{Certain, Impossible, Possible};
    match (&a.presence, &b.presence) {
        (Impossible, Certain(_)) | (Certain(_), Impossible) => None,
        (Certain(Some(x)), Certain(Some(y))) if x != y => None,
        (Impossible, _) | (Certain(Some(_)), _) => Some(a.clone()),
        (_, Impossible | Certain(Some(_))) => Some(b.clone()),
        (Certain(None), _) => Some(a.clone()),
        (_, Certain(None)) => Some(b.clone()),
        (Possible, Possible) => Some(a.clone()),
    }
}
