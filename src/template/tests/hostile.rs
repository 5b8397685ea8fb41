//! Templates that nobody would write: no panic, no unbounded time or memory, whatever the text.

mod generator;
mod world;

use proptest::prelude::*;
use tsdbctl_template::exec::Limits;
use tsdbctl_template::{FunctionSet, Template, Value};

fn error(template: &str) -> String {
    world::render("A", template, 1.5).expect_err(&template[..template.len().min(100)])
}

#[test]
fn deep_nesting_is_no_recursion() {
    let parentheses = |n: usize| format!("{{{{ {}1{} }}}}", "(".repeat(n), ")".repeat(n));
    assert_eq!(world::render("A", &parentheses(10_000), 1.5).as_deref(), Ok("1"));
    assert_eq!(error(&parentheses(10_001)), "template: __alert_A:1: max expression depth exceeded");
    let not = format!("{{{{ {}1{} }}}}", "not (".repeat(9_999), ")".repeat(9_999));
    assert_eq!(world::render("A", &not, 1.5).as_deref(), Ok("false"));
    let blocks = format!("{}x{}", "{{ if 1 }}".repeat(50_000), "{{ end }}".repeat(50_000));
    assert_eq!(world::render("A", &blocks, 1.5).as_deref(), Ok("x"));
    let ranges = format!("{}x{}", "{{ range 1 }}".repeat(50_000), "{{ end }}".repeat(50_000));
    assert_eq!(world::render("A", &ranges, 1.5).as_deref(), Ok("x"));
    let chain = format!("{{{{ if 0 }}}}{}{{{{ end }}}}", "{{ else if 0 }}".repeat(50_000));
    assert_eq!(world::render("A", &chain, 1.5).as_deref(), Ok(""));
    let fields = format!("{{{{ {}$labels{}.job }}}}", "(".repeat(9_999), ")".repeat(9_999));
    assert_eq!(world::render("A", &fields, 1.5).as_deref(), Ok("node"));
    assert!(error(&"{{ if 1 }}".repeat(50_000)).ends_with("unexpected EOF"));
    // The whole block is what Go calls the node.
    assert!(
        error(&format!("{}{{{{ .Foo }}}}{}", "{{ if 1 }}".repeat(20_000), "{{ end }}".repeat(20_000)))
            .contains("at <.Foo>")
    );
}

#[test]
fn templates_call_each_other_as_deep_as_in_go() {
    let endless = "{{ define \"T\" }}{{ template \"T\" }}{{ end }}{{ template \"T\" }}";
    assert!(error(endless).ends_with("exceeded maximum template depth (100000)"));
}

/// The error of a template that may write 64 KiB and take 100,000 steps.
fn limited(template: &str) -> String {
    let limits = Limits { output_bytes: 1 << 16, steps: 100_000 };
    let template = Template::parse("t", template, FunctionSet::PROMETHEUS).expect("a template");
    template.execute(Value::Nil, &mut world::World, limits).expect_err("too much").message
}

#[test]
fn output_and_steps_are_bounded() {
    let loops = |body: &str| {
        format!("{{{{ range 1000000 }}}}{{{{ range 1000000 }}}}{body}{{{{ end }}}}{{{{ end }}}}")
    };
    assert!(limited(&loops("")).ends_with("template takes too long"));
    assert!(limited(&loops("0123456789")).ends_with("output is longer than 65536 bytes"));
    assert!(limited(&loops("{{ $x := print 1 2 3 }}")).ends_with("template takes too long"));
    for doubled in [
        "print $x $x",
        "printf \"%s%s\" $x $x",
        "reReplaceAll \"a\" \"aa\" $x",
        "html $x $x",
        "args $x $x",
        "js $x $x",
        "urlquery $x \"é\" $x",
        "println $x $x",
        "safeHtml (print $x $x)",
    ] {
        let error = limited(&format!(
            "{{{{ $x := \"a\" }}}}{{{{ range 1000000 }}}}{{{{ $x = {doubled} }}}}{{{{ end }}}}{{{{ len (print $x) }}}}"
        ));
        assert!(error.contains("too long"), "{doubled}: {error}");
    }
    for wide in ["%50000d", "%.50000f", "%[2]*d", "%1000000d"] {
        let error = limited(&format!(
            "{{{{ range 1000000 }}}}{{{{ len (printf \"{wide}\" 999999 50000) }}}}{{{{ end }}}}"
        ));
        assert!(error.contains("too long"), "{wide}: {error}");
    }
}

#[test]
fn what_is_printed_reads_the_same() {
    for seed in 0..3000 {
        let text = generator::Generator::new(seed).template();
        let Ok(template) = Template::parse(
            "t",
            &format!(
                "{{{{$value := 1}}}}{{{{$labels := .}}}}{{{{$externalLabels := 1}}}}{{{{$externalURL := 2}}}}{text}"
            ),
            FunctionSet::PROMETHEUS,
        ) else {
            continue;
        };
        let printed = template.print();
        match Template::parse("t", &printed, FunctionSet::PROMETHEUS) {
            Ok(again) => assert_eq!(again.print(), printed, "{text}"),
            Err(e) => panic!("{text}\n{printed}\n{e}"),
        }
    }
}

#[test]
fn random_templates_end() {
    for seed in 10_000..12_000 {
        let _ = world::render("A", &generator::Generator::new(seed).template(), 1.5);
    }
}

proptest! {
    #[test]
    fn random_text_never_panics(text in "\\PC{0,60}") {
        let _ = world::render("A", &text, 1.5);
        let _ = world::render("A", &format!("{{{{{text}}}}}"), 1.5);
    }

    #[test]
    fn random_tokens_never_panic(tokens in prop::collection::vec(prop::sample::select(vec![
        "{{", "}}", "{{- ", " -}}", "if", "range", "with", "end", "else", "define", "block", "template", "break",
        "continue", " ", "\n", "$x", ":=", "=", ",", "|", "(", ")", ".", ".A", "nil", "1", "1.5", "\"a\"", "`b`", "'c'",
        "print", "len", "{{/*", "*/}}", "é", "$labels", "{{end}}", "{{else}}", "{{if 1}}", "{{range 2}}", "and", "$",
    ]), 0..40)) {
        let text = tokens.concat();
        let _ = world::render("A", &text, 1.5);
        if let Ok(template) = Template::parse("t", &text, FunctionSet::GO) {
            let printed = template.print();
            // `{` of the text before an action would be read as the action's.
            if !printed.contains("{{{") {
                let again = Template::parse("t", &printed, FunctionSet::GO).map(|t| t.print());
                prop_assert_eq!(again.as_deref(), Ok(printed.as_str()));
            }
            let limits = Limits { output_bytes: 1000, steps: 1000 };
            let _ = template.execute(Value::Int(3), &mut world::World, limits);
        }
    }
}
