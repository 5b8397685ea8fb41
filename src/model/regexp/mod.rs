//! Regular expressions with RE2's (Go's) syntax and meaning: anchored at both ends, with string fast paths, and
//! those that look anywhere ([`Search`]).

mod automaton;
mod class;
#[cfg(test)]
mod equality;
mod index;
mod items;
mod parse;
mod pattern;
mod search;
mod strings;
mod template;

use std::sync::{Arc, OnceLock};

use regex_automata::meta;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use automaton::{Automaton, MAX_AUTOMATON_BYTES};
use items::{sequences, sequences_of_source};
use parse::{Code, Parsed, message, parse};
use strings::StringTest;

pub use search::Search;

/// So much of an expression is shown where it is refused for its size.
const SHOWN_BYTES: usize = 200;

/// Why an expression was refused; the text is Go's (`error parsing regexp: …`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegexpError {
    /// Go's message.
    pub message: String,
}

/// A compiled, fully anchored (`^(?s:…)$`) expression. Cloning shares everything.
#[derive(Clone, Debug)]
pub struct Regexp {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: String,
    test: Test,
    /// Built when [`Regexp::expand`] is first called.
    groups: OnceLock<Option<Groups>>,
    /// Whether the source was put between the anchors as text, as `label_replace` does.
    wrapped_as_text: bool,
}

#[derive(Debug)]
enum Test {
    Strings(Box<StringTest>),
    Automaton(Box<Automaton>),
}

/// The expression with its capture groups.
#[derive(Debug)]
struct Groups {
    regex: meta::Regex,
    names: Vec<String>,
}

impl Regexp {
    /// Compiles `source` as a matcher does.
    ///
    /// # Errors
    /// If Go's `regexp/syntax` would refuse it, or its automaton would be too large.
    pub fn new(source: &str) -> Result<Self, RegexpError> {
        let simple = sequences_of_source(source).and_then(StringTest::new);
        let test = match simple {
            Some(test) => Test::Strings(Box::new(test)),
            None => {
                let Parsed { hir, .. } =
                    parse(source, true, false).map_err(|message| RegexpError { message })?;
                Test::new(source, hir)?
            }
        };
        Ok(Self::with_test(source, test, false))
    }

    /// Compiles `source` as `label_replace` does, which puts the text itself between `^(?s:` and `)$`: the
    /// messages show that text, and `a)(?:b` is an expression. Capture groups are ready at once.
    ///
    /// # Errors
    /// As [`Regexp::new`].
    pub fn with_groups(source: &str) -> Result<Self, RegexpError> {
        let wrapped = wrap(source);
        let Parsed { hir, names } =
            parse(&wrapped, false, true).map_err(|message| RegexpError { message })?;
        let regex = automaton::with_groups(&hir).ok_or_else(|| too_large(&wrapped))?;
        let this = Self::with_test(source, Test::new(source, hir)?, true);
        this.inner.groups.get_or_init(|| Some(Groups { regex, names }));
        Ok(this)
    }

    fn with_test(source: &str, test: Test, wrapped_as_text: bool) -> Self {
        let inner = Inner { source: source.to_string(), test, groups: OnceLock::new(), wrapped_as_text };
        Self { inner: Arc::new(inner) }
    }

    /// The expression as given.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Whether the whole of `value` matches.
    #[inline]
    pub fn is_match(&self, value: &str) -> bool {
        match &self.inner.test {
            Test::Strings(test) => test.is_match(value),
            Test::Automaton(automaton) => automaton.is_match(value),
        }
    }

    /// The complete set of values that can match, sorted, where it is finite and small (`a|b|c`).
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.inner.test {
            Test::Strings(test) => test.values(),
            Test::Automaton(_) => None,
        }
    }

    /// A case-sensitive prefix that every match starts with; empty if there is none.
    pub fn prefix(&self) -> &str {
        match &self.inner.test {
            Test::Strings(test) => test.prefix(),
            Test::Automaton(automaton) => automaton.prefix(),
        }
    }

    /// Whether string tests decide alone, without an automaton.
    pub fn is_simple(&self) -> bool {
        matches!(self.inner.test, Test::Strings(_))
    }

    /// Go's `Regexp.ExpandString` over the anchored match of `value`; `None` if it does not match.
    pub fn expand(&self, value: &str, template: &str) -> Option<String> {
        let groups = self.inner.groups.get_or_init(|| self.build_groups()).as_ref()?;
        let mut captures = groups.regex.create_captures();
        groups.regex.captures(Input::new(value).anchored(Anchored::Yes), &mut captures);
        captures.is_match().then(|| {
            template::expand(template, &groups.names, |group| {
                let span = captures.get_group(group)?;
                value.get(span.range())
            })
        })
    }

    fn build_groups(&self) -> Option<Groups> {
        let source = &self.inner.source;
        let parsed = if self.inner.wrapped_as_text {
            parse(&wrap(source), false, true)
        } else {
            parse(source, true, true)
        };
        let Parsed { hir, names } = parsed.ok()?;
        Some(Groups { regex: automaton::with_groups(&hir)?, names })
    }
}

impl Test {
    fn new(source: &str, hir: Hir) -> Result<Self, RegexpError> {
        match sequences(&hir).and_then(StringTest::new) {
            Some(test) => Ok(Self::Strings(Box::new(test))),
            None => {
                let automaton = Automaton::new(&hir).ok_or_else(|| too_large(source))?;
                Ok(Self::Automaton(Box::new(automaton)))
            }
        }
    }
}

fn wrap(source: &str) -> String {
    format!("^(?s:{source})$")
}

/// For what Go would take, with hundreds of megabytes. What Go refuses, the parser has refused.
fn too_large(source: &str) -> RegexpError {
    let shown = &source[..source.floor_char_boundary(SHOWN_BYTES)];
    let more = if shown.len() < source.len() { "…" } else { "" };
    RegexpError {
        message: format!(
            "{}: it would take more than {} MiB; use smaller repetition counts or fewer alternatives, or split it over several matchers",
            message(Code::Large, &format!("{shown}{more}")),
            MAX_AUTOMATON_BYTES >> 20
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expressions with values that match and values that do not.
    const MEANINGS: &[(&str, &[&str], &[&str])] = &[
        ("", &[""], &["a"]),
        ("foo", &["foo"], &["", "fo", "foox", "Foo"]),
        ("foo|bar", &["foo", "bar"], &["foobar", "foo|bar"]),
        ("a|", &["a", ""], &["|"]),
        (".*", &["", "a\nb"], &[]),
        (".+", &["a", "\n"], &[""]),
        ("foo.*", &["foo", "foo\n"], &["xfoo"]),
        (".*foo", &["foo", "foofoo"], &["foox"]),
        (".*foo.*", &["foo", "xfoox"], &["fo"]),
        (".*foo.+bar.*", &["fooxbar", "foofoo bar"], &["foobar", "barxfoo"]),
        (".+foo.+", &["xfoox", "éfooé"], &["foox", "xfoo"]),
        ("foo.*oo", &["foooo", "fooxoo"], &["foo"]),
        (".*a.*|.*b.*", &["xa", "b"], &["c"]),
        ("(?i)foo", &["foo", "FOO"], &["fo"]),
        ("(?i)k.*", &["k", "K", "\u{212a}x"], &["x"]),
        (".*(?i:é)", &["É", "xé"], &["e"]),
        ("(?i:foo|bar)x", &["FOOx", "barx"], &["fooX"]),
        ("foo(-[ab])?\\.x", &["foo.x", "foo-a.x"], &["foo-.x", "foo-axx"]),
        ("(a|b)c", &["ac", "bc"], &["c"]),
        ("a.c|b.d", &["axc", "aéc", "b\nd"], &["ac", "axxc", "axd"]),
        (".*a.b.*", &["aab", "xa€b!", "aaabb"], &["ab", "abab", "aéé b"]),
        (".*a.(?i:b)c.*", &["aaxbc", "axBcx"], &["abc", "axbxc"]),
        ("node-[0-9]+", &["node-1", "node-0123"], &["node-", "node-1x", "node-٣"]),
        ("[0-9]+7", &["07", "777"], &["7", "70"]),
        ("[a-z]+-[0-9]+", &["ab-12"], &["ab-", "-12", "ab-cd-12"]),
        ("10\\.[0-9]{1,3}\\.[0-9]{1,3}", &["10.1.255"], &["10.1.2555", "10..1", "10.1"]),
        (".*-[0-9]+", &["-1", "a-b-12"], &["a-", "a1", "a-1x"]),
        ("[^/]+/.*/x", &["a/b/x", "a//x"], &["a/x", "/b/x"]),
        ("[ab]+[0-9]+[ab]*", &["a1", "ab12ba"], &["1a", "a", "a1a1"]),
        (".*a[0-9]+b.*", &["aa1b", "axa1b", "a1a2b"], &["a1", "ab"]),
        (".{2,3}", &["ab", "éé€"], &["a", "abcd"]),
        ("(ab){2,3}", &["abab", "ababab"], &["ab", "abababab"]),
        ("(?:a|b)*c", &["c", "abac"], &["ab"]),
        ("^a|b$", &["a", "b"], &["ab"]),
        ("[^\\x00-\\x{10FFFF}]a|b", &["b"], &["a", ""]),
        ("^foo$", &["foo"], &["^foo$"]),
        ("a^b", &[], &["ab", "a^b"]),
        ("(?m)a$\n^b", &["a\nb"], &["ab"]),
        ("(?-s).*", &["ab"], &["a\nb"]),
        // What `regex` refuses and Go takes.
        ("\\Qa.b\\E+", &["a.b", "a.bb"], &["axb"]),
        ("\\Q.*", &[".*"], &["a"]),
        ("\\0", &["\0"], &["0"]),
        ("\\123", &["S"], &["123"]),
        ("a{,5}", &["a{,5}"], &["aaa"]),
        ("a{", &["a{"], &["a"]),
        ("a{1", &["a{1"], &["a"]),
        ("foo(?i)?", &["foo", "fo"], &["", "FOO"]),
        ("foo\\Q\\E*", &["foooo", "fo"], &["", "foofoo"]),
        ("{", &["{"], &[""]),
        ("[\\d-z]", &["1", "-", "z"], &["y"]),
        ("\\p{^Greek}", &["a"], &["λ"]),
        // What both take and mean differently.
        ("\\d", &["1"], &["٣"]),
        ("\\w", &["a"], &["é"]),
        ("\\s", &["\t", "\x0c"], &["\x0b", "\u{a0}"]),
        ("é\\b.", &[], &["é ", "éé"]),
        ("[a&&b]", &["a", "b", "&"], &["c"]),
        ("[a~~b]", &["a", "~"], &["c"]),
        ("[[a]", &["[", "a"], &["b"]),
        ("[]a]", &["]", "a"], &["b"]),
        ("\\<a\\>", &["<a>"], &["a"]),
        ("(?<n>a)", &["a"], &["b"]),
    ];

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (source, matching, other) in MEANINGS {
            let re = Regexp::new(source).unwrap_or_else(|e| panic!("{source}: {e}"));
            for value in *matching {
                assert!(re.is_match(value), "{source:?} on {value:?}");
                assert!(value.starts_with(re.prefix()), "{source:?}: prefix {:?}", re.prefix());
                assert!(re.expand(value, "").is_some(), "{source:?} with groups on {value:?}");
            }
            for value in *other {
                assert!(!re.is_match(value), "{source:?} on {value:?}");
                assert!(re.expand(value, "").is_none(), "{source:?} with groups on {value:?}");
            }
        }
    }

    #[test]
    fn refusals_carry_gos_text() {
        let cases = [
            ("a**", "invalid nested repetition operator: `**`"),
            ("a++", "invalid nested repetition operator: `++`"),
            ("a*+", "invalid nested repetition operator: `*+`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("(a{100}){100}", "invalid repeat count: `{100}`"),
            ("(?x)", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?R)", "invalid or unsupported Perl syntax: `(?R`"),
            ("(?P<é>a)", "invalid named capture: `(?P<é>`"),
            ("(?P<n", "invalid named capture: `(?P<n`"),
            ("[z--b]", "invalid character class range: `z--`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("\\p{latin}", "invalid character class range: `\\p{latin}`"),
            ("\\p{Greek", "invalid character class range: `\\p{Greek`"),
            ("\\u0041", "invalid escape sequence: `\\u`"),
            ("\\8", "invalid escape sequence: `\\8`"),
            ("\\1", "invalid escape sequence: `\\1`"),
            ("\\Z", "invalid escape sequence: `\\Z`"),
            ("\\x{110000}", "invalid escape sequence: `\\x{110000`"),
            ("[a", "missing closing ]: `[a`"),
            ("x(a", "missing closing ): `x(a`"),
            ("a)b", "unexpected ): `a)b`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a|+?", "missing argument to repetition operator: `+?`"),
            ("a\\", "trailing backslash at end of expression: ``"),
        ];
        for (source, want) in cases {
            let error = Regexp::new(source).expect_err(source).to_string();
            assert_eq!(error, format!("error parsing regexp: {want}"));
        }
    }

    #[test]
    fn deep_and_large_expressions_are_refused_not_crashed_on() {
        let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert!(Regexp::new(&deep(900)).is_ok_and(|re| re.is_match("a")));
        let error = Regexp::new(&deep(100_000)).expect_err("too deep").to_string();
        assert!(
            error.starts_with("error parsing regexp: expression nests too deeply: `("),
            "{}",
            &error[..60]
        );
        // What Go refuses, by its text.
        for (source, want) in [
            ("(a{1000}){1000}".to_string(), "invalid repeat count: `{1000}`"),
            ("((a{100}){100}){10}".to_string(), "invalid repeat count: `{100}`"),
            ("(((a{10}){10}){10}){10}".to_string(), "invalid repeat count: `{10}`"),
            (format!("(?:{}){{1000}}", "[ab]".repeat(4000)), "expression too large: `("),
        ] {
            let error = Regexp::new(&source).expect_err("too large").to_string();
            assert!(error.starts_with(&format!("error parsing regexp: {want}")), "{error:.200}");
        }
        // What Go takes.
        assert!(Regexp::new("((a{10}){10}){10}").is_ok_and(|re| re.is_match(&"a".repeat(1000))));
        assert!(Regexp::new(&format!("(?:{}){{1000}}", "ab".repeat(1000))).is_ok_and(|re| !re.is_match("a")));
        let large = format!("(?:{}){{1000}}", "(?:[^a]\\pL)*".repeat(100));
        for error in [Regexp::new(&large), Regexp::with_groups(&large)] {
            let error = error.expect_err("too large").to_string();
            assert!(error.starts_with("error parsing regexp: expression too large: `"), "{error}");
            assert!(error.contains("…`: it would take more than 32 MiB; use smaller repetition"), "{error}");
        }
    }

    #[test]
    fn most_matchers_need_no_automaton() {
        for source in [
            "a",
            "a|b",
            "(?i)foo",
            "foo.*",
            ".*foo.*bar",
            "prod-(a|b)-.+",
            "(?i:foo|bar).*",
            "a\\.b\\.c",
            "^(a|bc?)$",
            "a+",
            "[0-9]+",
            "a.b",
            "node-[0-9]+7-exam.le",
            "(a|b)*",
            "\\d{1,3}\\.\\d{1,3}:[^:]+",
            "^a$|^b.*$",
        ] {
            assert!(Regexp::new(source).is_ok_and(|re| re.is_simple()), "{source}");
        }
        for source in ["a\\b", "(a|bc)*", "(ab)+", ".*a[0-9]+b.*", "a^b"] {
            assert!(Regexp::new(source).is_ok_and(|re| !re.is_simple()), "{source}");
        }
    }

    #[test]
    fn finite_sets_and_prefixes_are_known() {
        type Case<'a> = (&'a str, Option<&'a [&'a str]>, &'a str);
        let cases: &[Case<'_>] = &[
            ("b|a|b", Some(&["a", "b"]), ""),
            ("foo", Some(&["foo"]), "foo"),
            ("foo(1|2)x", Some(&["foo1x", "foo2x"]), "foo"),
            ("fo[ab]", Some(&["foa", "fob"]), "fo"),
            ("a?", Some(&["", "a"]), ""),
            ("api\\.(x|y.*)", None, "api."),
            ("ab.*|ac.*", None, "a"),
            ("ab|ac.*", None, "a"),
            ("(?i)ab.*", None, ""),
            ("ab[0-9]+", None, "ab"),
            ("éa|éb", Some(&["éa", "éb"]), "é"),
            ("é|è", Some(&["è", "é"]), ""),
            ("(a|b)c", Some(&["ac", "bc"]), ""),
            ("[ab]c", Some(&["ac", "bc"]), ""),
            ("[a-c]{2}|x", Some(&["aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc", "x"]), ""),
            ("(?i)a7", Some(&["A7", "a7"]), ""),
            ("[0-9]{3}", None, ""),
            ("foo(ba.*|bc[0-9]|b)", None, "foob"),
            ("foo(?:ba(cd)*|bc)x\\b", None, "foob"),
            ("(foo)+", None, "foo"),
            ("(ab|ac)+x", None, "a"),
        ];
        for (source, set, prefix) in cases {
            let re = Regexp::new(source).expect(source);
            let want = set.map(|s| s.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(re.set_matches().map(<[String]>::to_vec), want, "{source}");
            assert_eq!(re.prefix(), *prefix, "{source}");
        }
    }

    #[test]
    fn many_alternatives_are_a_set() {
        let names: Vec<String> = (0..60_000).map(|i| format!("host-{i}")).collect();
        let re = Regexp::new(&names.join("|")).expect("literals");
        assert!(re.is_match("host-59999") && !re.is_match("host-60000"));
        let re = Regexp::new(&names[..20_000].join("\\.x|")).expect("escaped literals");
        assert!(
            re.is_simple()
                && re.is_match("host-7.x")
                && re.is_match("host-19999")
                && !re.is_match("host-7ax")
        );
    }

    #[test]
    fn many_alternatives_with_gaps_are_indexed() {
        let join = |make: &dyn Fn(u32) -> String| (0..20_000).map(make).collect::<Vec<_>>().join("|");
        type Case<'a> = (String, &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (
                join(&|i| format!("node-{i}.example")),
                &["node-19999-example", "node-0éexample"],
                &["node-20000-example", "node-7example", "node-7--example"],
            ),
            (
                join(&|i| format!("10.0.{}.{}", i / 256, i % 256)),
                &["10.0.3.77", "10a0b3c77", "10.0.0.255"],
                &["10.0.3.256", "10.0.3", "10.0.3.77."],
            ),
            (join(&|i| format!("{i}-.*")), &["7-", "19999-x"], &["7", "20000-x"]),
            (join(&|i| format!(".+-{i}")), &["x-7", "--19999"], &["-7", "x-20000"]),
            (join(&|i| format!(".*<{i}>.*")), &["<7>", "x<19999>y<"], &["<20000>", "7"]),
            (join(&|i| format!("a.*b{i}")), &["ab7", "axb19999"], &["b7", "ab20000"]),
            (join(&|i| format!("(?i:x){i}[^y]")), &["x7z", "X19999é"], &["x7y", "x20000z"]),
            (format!("pre-({})-post", join(&|i| format!("{i}.x"))), &["pre-7.x-post"], &["pre-7x-post"]),
        ];
        for (source, matching, other) in cases {
            let re = Regexp::new(source).expect("sound");
            let start = &source[..20];
            assert!(re.is_simple(), "{start}");
            matching.iter().for_each(|v| assert!(re.is_match(v), "{start} on {v:?}"));
            other.iter().for_each(|v| assert!(!re.is_match(v), "{start} on {v:?}"));
        }
    }

    #[test]
    fn replacement_is_that_of_label_replace() {
        let cases = [
            ("(.*):(.*)", "a:b", "$2-$1", Some("b-a")),
            ("(.*)", "x", "$1y", Some("")),
            ("(.*)", "x", "${1}y", Some("xy")),
            ("(?P<n>a)|(?P<n>b)", "b", "$n", Some("b")),
            ("a)(b", "ab", "$1", Some("b")),
            ("a|ab", "ab", "$0", Some("ab")),
            ("(a*)(a*)", "aa", "$1,$2", Some("aa,")),
            ("(?U)(a*)(a*)", "aa", "$1,$2", Some(",aa")),
            ("a", "b", "x", None),
        ];
        for (source, value, template, want) in cases {
            let re = Regexp::with_groups(source).expect(source);
            assert_eq!(re.expand(value, template).as_deref(), want, "{source} {template}");
        }
        let error = Regexp::with_groups("(").expect_err("open").to_string();
        assert_eq!(error, "error parsing regexp: missing closing ): `^(?s:()$`");
    }
}
