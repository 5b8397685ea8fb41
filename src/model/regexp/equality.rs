//! String tests and indexes decide as the automaton does, on random expressions and values.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::automaton::Automaton;
use super::index::Index;
use super::items::{sequences, sequences_of_source};
use super::parse::parse;
use super::strings::StringTest;

/// A small alphabet, so that values match: letters of one to three bytes, with case and without.
const TEXT: &str = "[abAé.7€\n]{0,9}";

fn part() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        4 => "[abé7]",
        2 => Just(".".to_string()),
        1 => "\\\\\\.",
        1 => Just("[ab]".to_string()),
        1 => Just("[^a]".to_string()),
        1 => Just("[a-é]".to_string()),
        1 => Just("\\d".to_string()),
        1 => Just("(?i:a)".to_string()),
        1 => Just("(?i:éb)".to_string()),
        1 => Just("(a|b7)".to_string()),
        1 => Just("(?:ab|a.|é)".to_string()),
    ];
    let repeat = prop_oneof![
        6 => Just(""),
        2 => Just("*"),
        2 => Just("+"),
        1 => Just("?"),
        1 => Just("{2}"),
        1 => Just("{1,2}"),
        1 => Just("{1,}"),
        1 => Just("*?"),
    ];
    (one, repeat).prop_map(|(one, repeat)| format!("{one}{repeat}"))
}

fn sequence() -> impl Strategy<Value = String> {
    proptest::collection::vec(part(), 0..6).prop_map(|parts| parts.concat())
}

fn expression() -> impl Strategy<Value = String> {
    let group = proptest::collection::vec(sequence(), 1..4).prop_map(|s| format!("(?:{})", s.join("|")));
    let branch = prop_oneof![
        4 => sequence(),
        1 => (sequence(), group, sequence()).prop_map(|(a, b, c)| [a, b, c].concat()),
        1 => sequence().prop_map(|s| format!("^{s}$")),
    ];
    proptest::collection::vec(branch, 1..4).prop_map(|s| s.join("|"))
}

/// Literals with single characters and gaps in between, enough for an index.
fn many() -> impl Strategy<Value = Vec<String>> {
    let part = prop_oneof![6 => "[abé7]", 2 => Just(".".to_string()), 1 => Just(".*".to_string()), 1 => Just(".+".to_string()),
        1 => Just("(?i:a)".to_string()), 1 => Just("[^b]".to_string()), 1 => Just("7+".to_string())];
    let one = proptest::collection::vec(part, 1..7).prop_map(|parts| parts.concat());
    proptest::collection::vec(one, 1..60)
}

fn automaton(source: &str) -> Result<(Automaton, regex_syntax::hir::Hir), TestCaseError> {
    let hir = parse(source, true, false).map_err(TestCaseError::fail)?.hir;
    Ok((Automaton::new(&hir).ok_or_else(|| TestCaseError::fail("too large"))?, hir))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn string_tests_decide_as_the_automaton(source in expression(), values in proptest::collection::vec(TEXT, 30)) {
        let (automaton, hir) = automaton(&source)?;
        let plain = sequences_of_source(&source).and_then(StringTest::new);
        let parsed = sequences(&hir).and_then(StringTest::new);
        prop_assert!(plain.is_none() || parsed.is_some(), "{source:?} is simple only unparsed");
        for value in &values {
            let want = automaton.is_match(value);
            prop_assert!(!want || value.starts_with(automaton.prefix()), "{source:?} on {value:?}");
            for test in [&plain, &parsed].into_iter().flatten() {
                prop_assert_eq!(test.is_match(value), want, "{:?} on {:?}", source, value);
                prop_assert!(!want || value.starts_with(test.prefix()), "{source:?} on {value:?}");
                if let Some(all) = test.values() {
                    prop_assert_eq!(all.contains(value), want, "{:?} on {:?}", source, value);
                }
            }
        }
    }

    #[test]
    fn indexes_decide_as_the_automaton(sources in many(), values in proptest::collection::vec(TEXT, 30)) {
        let source = sources.join("|");
        let (automaton, hir) = automaton(&source)?;
        let Some(index) = sequences(&hir).and_then(|s| Index::new(&s)) else { return Ok(()) };
        for value in &values {
            prop_assert_eq!(index.matches(value), automaton.is_match(value), "{:?} on {:?}", source, value);
        }
    }
}
