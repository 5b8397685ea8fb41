//! Regular expressions with RE2's (Go's) syntax and meaning, anchored at both ends, with string fast paths.

mod class;
mod parse;
mod strings;
mod template;

use std::sync::{Arc, OnceLock};

use regex_automata::meta;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, Look};

use parse::{Code, Parsed, message, parse};
use strings::{Required, StringTest, plain_alternatives};

/// Bytes that a compiled expression may take, about what Go allows.
const MAX_AUTOMATON_BYTES: usize = 128 << 20;

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
    Strings(StringTest),
    Automaton { required: Required, regex: Box<meta::Regex> },
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
        let test = match plain_alternatives(source) {
            Some(values) => Test::Strings(StringTest::of_values(values)),
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
        let regex = compile(&hir).ok_or_else(|| too_large(&wrapped))?;
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
            Test::Automaton { required, regex } => {
                required.allows(value) && regex.is_match(Input::new(value).anchored(Anchored::Yes))
            }
        }
    }

    /// The complete set of values that can match, sorted, where it is finite and small (`a|b|c`).
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.inner.test {
            Test::Strings(test) => test.values(),
            Test::Automaton { .. } => None,
        }
    }

    /// A case-sensitive prefix that every match starts with; empty if there is none.
    pub fn prefix(&self) -> &str {
        match &self.inner.test {
            Test::Strings(test) => test.prefix(),
            Test::Automaton { required, .. } => &required.prefix,
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
        Some(Groups { regex: compile(&hir)?, names })
    }
}

impl Test {
    fn new(source: &str, hir: Hir) -> Result<Self, RegexpError> {
        if let Some(test) = StringTest::of_expression(&hir) {
            return Ok(Self::Strings(test));
        }
        let required = Required::of_expression(&hir);
        let regex = Box::new(compile(&hir).ok_or_else(|| too_large(source))?);
        Ok(Self::Automaton { required, regex })
    }
}

fn wrap(source: &str) -> String {
    format!("^(?s:{source})$")
}

fn too_large(source: &str) -> RegexpError {
    RegexpError { message: message(Code::Large, source) }
}

/// Builds the automaton of the anchored expression; `None` if it would be too large.
fn compile(hir: &Hir) -> Option<meta::Regex> {
    let anchored = Hir::concat(vec![Hir::look(Look::Start), hir.clone(), Hir::look(Look::End)]);
    meta::Builder::new()
        .configure(meta::Config::new().nfa_size_limit(Some(MAX_AUTOMATON_BYTES)))
        .build_from_hir(&anchored)
        .ok()
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
        let large = format!("(?:{}){{1000}}", "[^a]\\pL".repeat(100));
        let error = Regexp::new(&large).expect_err("too large").to_string();
        assert_eq!(error, format!("error parsing regexp: expression too large: `{large}`"));
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
        ] {
            assert!(Regexp::new(source).is_ok_and(|re| re.is_simple()), "{source}");
        }
        for source in ["a+", "[0-9]+", "a.b", "a\\b", "(a|b)*"] {
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
