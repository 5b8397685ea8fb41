//! Which group a series belongs to, and the labels of the groups.

use hashbrown::HashMap;
use tsdbctl_model::symbols::{NAME, Sym, SymLabels};

use super::operator::{Eval, SeriesList};

/// `by (labels)` or `without (labels)`.
#[derive(Clone, Debug, Default)]
pub struct Grouping {
    /// Label names as written.
    pub labels: Vec<String>,
    /// `without`.
    pub without: bool,
}

/// Groups in order of first appearance.
#[derive(Default)]
pub struct Groups {
    /// Group of each input series.
    pub of_series: Vec<u32>,
    /// Labels of each group, and whether a member loses its name at the end.
    pub series: SeriesList,
}

impl Grouping {
    /// The symbols of the listed names.
    pub fn symbols(&self, ev: &mut Eval) -> Vec<Sym> {
        self.labels.iter().map(|l| ev.symbols.intern(l)).collect()
    }

    /// The labels of the group that `labels` belongs to.
    pub fn reduce(&self, names: &[Sym], labels: &SymLabels, out: &mut Vec<(Sym, Sym)>) {
        out.clear();
        if self.without {
            out.extend(labels.iter().filter(|(n, _)| *n != NAME && !names.contains(n)));
        } else if !names.is_empty() {
            out.extend(labels.iter().filter(|(n, _)| names.contains(n)));
        }
    }

    /// Assigns every series of `list` to a group.
    pub fn assign(&self, ev: &mut Eval, list: &SeriesList) -> Groups {
        let names = self.symbols(ev);
        let mut index: HashMap<Vec<(Sym, Sym)>, u32> = HashMap::new();
        let mut of_series = Vec::with_capacity(list.len());
        let mut drops = Vec::new();
        let mut order: Vec<Vec<(Sym, Sym)>> = Vec::new();
        let mut key = Vec::new();
        for i in 0..list.len() {
            self.reduce(&names, list.labels(i), &mut key);
            let group = match index.get(&key) {
                Some(g) => *g,
                None => {
                    let g = order.len() as u32;
                    index.insert(key.clone(), g);
                    order.push(key.clone());
                    drops.push(false);
                    g
                }
            };
            drops[group as usize] |= list.drop_name(i);
            of_series.push(group);
        }
        let mut series = SeriesList::new();
        for (labels, drop) in order.iter().zip(drops) {
            series.push(labels, drop);
        }
        Groups { of_series, series }
    }
}
