//! The contract between operators: series once, then their columns one after the other.

use tsdbctl_model::symbols::{Sym, SymLabels};
use tsdbctl_model::{Span, SymbolTable};
use tsdbctl_storage::querier::Querier;
use tsdbctl_storage::{Annotation, Annotations, Control, Piece, ReadStats};

use super::account::StepStats;
use super::column::Column;
use super::error::{ErrorKind, QueryError};
use super::options::{QueryOptions, StepGrid};
use super::resolution;

/// The label sets of an operator's output, in output order, packed into one arena.
#[derive(Clone, Debug, Default)]
pub struct SeriesList {
    pairs: Vec<(Sym, Sym)>,
    ends: Vec<u32>,
    drop_name: Vec<bool>,
}

impl SeriesList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// One series without labels: the shape of a scalar.
    pub fn scalar() -> Self {
        let mut list = Self::default();
        list.push(&[], false);
        list
    }

    /// Appends a series; `labels` sorted by the names' strings. `drop_name`: the name is to be removed at
    /// the end of the query (delayed name removal).
    pub fn push(&mut self, labels: &SymLabels, drop_name: bool) {
        self.pairs.extend_from_slice(labels);
        self.ends.push(self.pairs.len() as u32);
        self.drop_name.push(drop_name);
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Labels of series `i`.
    pub fn labels(&self, i: usize) -> &SymLabels {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.pairs[start..self.ends[i] as usize]
    }

    /// Whether series `i` loses its name at the end.
    pub fn drop_name(&self, i: usize) -> bool {
        self.drop_name[i]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.pairs.capacity() * 8 + self.ends.capacity() * 4 + self.drop_name.capacity()
    }
}

/// The value of a label in a set, `EMPTY` if absent.
pub fn label_value(labels: &SymLabels, name: Sym) -> Sym {
    labels.iter().find(|(n, _)| *n == name).map_or(tsdbctl_model::symbols::EMPTY, |(_, v)| *v)
}

/// Copies a label set without the labels that describe the metric (`DropReserved(IsMetadataLabel)`).
pub fn without_metadata(labels: &SymLabels, out: &mut Vec<(Sym, Sym)>) {
    out.clear();
    out.extend(labels.iter().filter(|(n, _)| !tsdbctl_model::symbols::is_metadata(*n)));
}

/// Sets a label in a sorted set; an empty value removes it.
pub fn set_label(symbols: &SymbolTable, labels: &mut Vec<(Sym, Sym)>, name: Sym, value: Sym) {
    let found = labels.binary_search_by(|(n, _)| symbols.resolve(*n).cmp(symbols.resolve(name)));
    match (found, value == tsdbctl_model::symbols::EMPTY) {
        (Ok(i), true) => drop(labels.remove(i)),
        (Ok(i), false) => labels[i].1 = value,
        (Err(_), true) => {}
        (Err(i), false) => labels.insert(i, (name, value)),
    }
}

/// What an evaluation in progress shares between its operators.
pub struct Eval<'q> {
    /// Strings of all labels.
    pub symbols: SymbolTable,
    /// Warnings and infos so far.
    pub annotations: Annotations,
    /// Deadline, interrupt, budget.
    pub control: &'q Control,
    /// Settings.
    pub options: QueryOptions,
    /// The opened data.
    pub querier: &'q dyn Querier,
    /// Where only coarser samples are left than what is wanted, and the first selector that says so.
    coarser: (Vec<Piece>, Option<(u32, Span)>),
    pool: Vec<Column>,
    polls: u32,
    /// The last few texts handed out: series of one selector mostly share their names.
    texts: std::cell::RefCell<Vec<(Sym, std::sync::Arc<str>)>>,
}

impl<'q> Eval<'q> {
    /// A fresh evaluation over an opened querier.
    pub fn new(querier: &'q dyn Querier, options: QueryOptions, control: &'q Control) -> Self {
        Self {
            symbols: SymbolTable::new(),
            annotations: Annotations::default(),
            control,
            options,
            querier,
            coarser: (Vec::new(), None),
            pool: Vec::new(),
            polls: 0,
            texts: std::cell::RefCell::default(),
        }
    }

    /// An empty column of `steps` slots, its bytes taken from the budget.
    ///
    /// # Errors
    /// If the budget does not have them.
    pub fn column(&mut self, steps: usize) -> Result<Column, QueryError> {
        self.control.budget.take("a column of samples", fixed_bytes(steps))?;
        let mut column = self.pool.pop().unwrap_or_default();
        column.reset(steps);
        Ok(column)
    }

    /// Gives a column back.
    pub fn recycle(&mut self, column: Column) {
        self.control.budget.give(fixed_bytes(column.steps()));
        if self.pool.len() < POOLED && (self.pool.len() < 32 || column.steps() < 64) {
            self.pool.push(column);
        }
    }

    /// Accounts for bytes that stay until the query ends.
    ///
    /// # Errors
    /// If the budget does not have them.
    pub fn hold(&self, what: &'static str, bytes: usize) -> Result<(), QueryError> {
        Ok(self.control.budget.take(what, bytes)?)
    }

    /// Asks for interrupt and deadline now and then.
    ///
    /// # Errors
    /// If the query is to stop.
    pub fn poll(&mut self) -> Result<(), QueryError> {
        self.polls = self.polls.wrapping_add(1);
        if self.polls % 16 == 1 {
            self.control.check("expression evaluation")?;
        }
        Ok(())
    }

    /// A symbol's text, shared.
    pub fn shared_text(&self, sym: Sym) -> std::sync::Arc<str> {
        let mut texts = self.texts.borrow_mut();
        if let Some((_, text)) = texts.iter().find(|(s, _)| *s == sym) {
            return text.clone();
        }
        if texts.len() >= 8 {
            texts.remove(0);
        }
        let text: std::sync::Arc<str> = self.symbols.resolve(sym).into();
        texts.push((sym, text.clone()));
        text
    }

    /// Remembers where a selector found coarser samples than it wants.
    pub fn add_coarser(&mut self, rank: u32, span: Span, pieces: Vec<Piece>) {
        if !pieces.is_empty() {
            let first = self.coarser.1.get_or_insert((rank, span));
            if rank < first.0 {
                *first = (rank, span);
            }
            self.coarser.0.extend(pieces);
        }
    }

    /// Says it, once for all selectors.
    pub fn tell_coarser(&mut self) {
        if let (pieces, Some((rank, span))) = std::mem::take(&mut self.coarser)
            && let Some(text) = resolution::note(&pieces)
        {
            self.annotate(rank, Annotation::info(text, span));
        }
    }

    /// Adds an annotation of the node with this rank.
    pub fn annotate(&mut self, rank: u32, annotation: Annotation) {
        self.annotations.add(rank, annotation);
    }
}

/// Columns kept for reuse; of long ones a few are enough.
const POOLED: usize = 1200;

fn fixed_bytes(steps: usize) -> usize {
    steps * 8 + steps.div_ceil(64) * 8
}

/// What an operator did, for `--explain` and `--analyze`.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The operator and its expression.
    pub name: String,
    /// Series that went out.
    pub series: u64,
    /// What reading cost.
    pub read: ReadStats,
}

/// A node of the running query.
///
/// `open` is called once and lists the series; some may turn out to have no samples. Then `next` gives
/// their columns in the same order and `None` after the last. Operators evaluate their inputs to the end,
/// in upstream's order of evaluation where errors or annotations could tell.
pub trait Operator: Send {
    /// Lists the output's series.
    ///
    /// # Errors
    /// If an input fails, or the expression cannot be evaluated.
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError>;

    /// The next series' samples.
    ///
    /// # Errors
    /// As [`Operator::open`].
    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError>;

    /// Evaluation times of the columns.
    fn grid(&self) -> StepGrid;

    /// Replays upstream's sample accounting: `current` samples are in memory when the node starts; raises
    /// `peak` and returns how many are when it has ended.
    fn account(&self, current: i64, peak: &mut i64) -> i64;

    /// Samples per step of this node and all below it.
    fn step_stats(&self) -> StepStats;

    /// Name and counts, for plans.
    fn report(&self) -> Report;

    /// The operators below.
    fn inputs(&self) -> Vec<&dyn Operator>;

    /// The operators below, changeable (`--analyze` wraps them).
    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>>;

    /// Time spent in it and all below it, and most bytes taken; only the clock around an operator knows.
    fn clocked(&self) -> Option<(std::time::Duration, u64)> {
        None
    }
}

/// Evaluates a scalar input to the end: one float per step.
///
/// # Errors
/// As the operator.
pub fn drain_scalar(op: &mut dyn Operator, ev: &mut Eval) -> Result<Vec<f64>, QueryError> {
    let series = op.open(ev)?;
    let mut values = Vec::new();
    while let Some(column) = op.next(ev)? {
        if values.is_empty() && !series.is_empty() {
            values = column.values.clone();
        }
        ev.recycle(column);
    }
    Ok(values)
}

/// One value where all are the same bits: kernels are faster for constants.
pub fn constant_as_one(mut values: Vec<f64>) -> Vec<f64> {
    if values.windows(2).all(|w| w[0].to_bits() == w[1].to_bits()) {
        values.truncate(1);
    }
    values
}

/// The error to report where a later operand failed: upstream evaluates the `earlier` one to the end before, so one of
/// its own comes first.
pub fn earlier_error_first(error: QueryError, earlier: &mut dyn Operator, ev: &mut Eval) -> QueryError {
    if error.kind != ErrorKind::Execution {
        return error;
    }
    loop {
        match earlier.next(ev) {
            Ok(Some(column)) => ev.recycle(column),
            Ok(None) => return error,
            Err(first) => return first,
        }
    }
}

/// Evaluates an input to the end and keeps its columns.
///
/// # Errors
/// As the operator.
pub fn drain(op: &mut dyn Operator, ev: &mut Eval) -> Result<(SeriesList, Vec<Column>), QueryError> {
    let series = op.open(ev)?;
    let mut columns = Vec::with_capacity(series.len());
    while let Some(column) = op.next(ev)? {
        columns.push(column);
    }
    Ok((series, columns))
}
