//! The automaton of expressions that string tests cannot decide: states are made when a value first needs them.

use std::fmt;

use memchr::memmem;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind, meta};
use regex_syntax::hir::{Hir, HirKind, Look};

use super::strings::common_prefix;

/// Bytes that an automaton's description may take. It bounds the time to build it, too: some tenths of a second.
pub(super) const MAX_AUTOMATON_BYTES: usize = 32 << 20;
/// Bytes for the states made on demand; they are forgotten when these are full.
const STATES_BYTES: usize = 2 << 20;

type MakeCache = Box<dyn Fn() -> Cache + Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>;

/// Decides whether the whole of a value matches.
pub(super) struct Automaton {
    required: Required,
    dfa: DFA,
    /// The states made so far, for each thread that is at work.
    states: Pool<Cache, MakeCache>,
}

impl fmt::Debug for Automaton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Automaton").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Automaton {
    /// `None` if it would be too large.
    pub(super) fn new(hir: &Hir) -> Option<Self> {
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(MAX_AUTOMATON_BYTES)),
            )
            .build_from_hir(hir)
            .ok()?;
        let config = Config::new()
            // The longest match of all: the value matches if that is the whole of it.
            .match_kind(MatchKind::All)
            .cache_capacity(STATES_BYTES)
            .skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa).ok()?;
        let maker = dfa.clone();
        let states = Pool::new(Box::new(move || maker.create_cache()) as MakeCache);
        Some(Self { required: Required::of_expression(hir), dfa, states })
    }

    pub(super) fn is_match(&self, value: &str) -> bool {
        if !self.required.allows(value) {
            return false;
        }
        let input = Input::new(value).anchored(Anchored::Yes);
        // Errors need bytes to give up at or a limit to how often states are forgotten; there are neither.
        matches!(self.dfa.try_search_fwd(&mut self.states.get(), &input), Ok(Some(end)) if end.offset() == value.len())
    }

    pub(super) fn prefix(&self) -> &str {
        &self.required.prefix
    }
}

/// Builds the automaton with groups of the anchored expression; `None` if it would be too large.
pub(super) fn with_groups(hir: &Hir) -> Option<meta::Regex> {
    let anchored = Hir::concat(vec![Hir::look(Look::Start), hir.clone(), Hir::look(Look::End)]);
    // Only anchored searches are made, which the reverse automata and literal searches are no help for.
    let config = meta::Config::new()
        .nfa_size_limit(Some(MAX_AUTOMATON_BYTES))
        .auto_prefilter(false)
        .hybrid(false)
        .dfa(false);
    meta::Builder::new().configure(config).build_from_hir(&anchored).ok()
}

/// An expression with its capture groups, looked for anywhere.
pub(super) fn anywhere(hir: &Hir) -> Option<meta::Regex> {
    let config = meta::Config::new().nfa_size_limit(Some(MAX_AUTOMATON_BYTES)).dfa(false);
    meta::Builder::new().configure(config).build_from_hir(hir).ok()
}

/// Literals that every match of an expression has: cheap reasons to say no before the automaton is asked.
#[derive(Clone, Debug, Default)]
struct Required {
    /// What every match starts with, as far as it is known.
    prefix: String,
    /// The first part, if that is a literal.
    front: String,
    suffix: String,
    inner: Vec<memmem::Finder<'static>>,
}

impl Required {
    fn of_expression(hir: &Hir) -> Self {
        let parts: &[Hir] = match hir.kind() {
            HirKind::Concat(parts) => parts,
            _ => std::slice::from_ref(hir),
        };
        let is = |part: &&Hir, look: Look| *part.kind() == HirKind::Look(look);
        let front = parts.iter().take_while(|p| is(p, Look::Start)).count();
        let back = parts[front..].iter().rev().take_while(|p| is(p, Look::End)).count();
        let parts = &parts[front..parts.len() - back];
        let literal = |hir: &Hir| match hir.kind() {
            HirKind::Literal(l) => std::str::from_utf8(&l.0).map(str::to_string).unwrap_or_default(),
            _ => String::new(),
        };
        let mut required = Self { prefix: prefix(hir).0, ..Self::default() };
        for (i, part) in parts.iter().enumerate() {
            let text = literal(part);
            if i == 0 {
                required.front = text;
            } else if i + 1 == parts.len() {
                required.suffix = text;
            } else if !text.is_empty() {
                required.inner.push(memmem::Finder::new(&text).into_owned());
            }
        }
        required
    }

    fn allows(&self, value: &str) -> bool {
        let Some(rest) = value.strip_prefix(&self.front) else { return false };
        let Some(rest) = rest.strip_suffix(&self.suffix) else { return false };
        let mut rest = rest.as_bytes();
        self.inner.iter().all(|finder| match finder.find(rest) {
            Some(at) => {
                rest = &rest[at + finder.needle().len()..];
                true
            }
            None => false,
        })
    }
}

/// What every match starts with, and whether that is all of every match.
fn prefix(hir: &Hir) -> (String, bool) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (String::new(), true),
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => (text.to_string(), true),
            Err(_) => (String::new(), false),
        },
        HirKind::Capture(capture) => prefix(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => (prefix(&repetition.sub).0, false),
        HirKind::Class(_) | HirKind::Repetition(_) => (String::new(), false),
        HirKind::Concat(parts) => {
            let mut all = String::new();
            for part in parts {
                let (text, is_whole) = prefix(part);
                all.push_str(&text);
                if !is_whole {
                    return (all, false);
                }
            }
            (all, true)
        }
        HirKind::Alternation(parts) => {
            let mut parts = parts.iter().map(prefix);
            let Some((first, whole)) = parts.next() else { return (String::new(), false) };
            parts.fold((first, whole), |(shared, whole), (text, is_whole)| {
                let is_same = text == shared;
                (common_prefix(&shared, &text).to_string(), whole && is_whole && is_same)
            })
        }
    }
}
