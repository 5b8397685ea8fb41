//! Templates and what they give, whole text against whole text.

mod cases;
mod world;

#[test]
fn templates_give_what_upstream_gives() {
    let cases = cases::all();
    let mut wrong = Vec::new();
    for case in &cases {
        let got = world::render("A", &case.template, 1.5);
        if got != case.expected {
            wrong.push(format!(
                "table.txt:{}: {}\n  got      {got:?}\n  expected {:?}",
                case.line, case.template, case.expected
            ));
        }
    }
    assert!(cases.len() > 100, "the table is read");
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn carets_stand_under_what_is_at_fault() {
    for (template, at, hint) in [
        ("a {{ nofunc }}", "nofunc", ""),
        ("a {{ humanise 1 }}", "humanise", "did you mean `humanize`?"),
        ("a {{ $lables.job }}", "$lables", ""),
        (
            "a {{ if gt $value 90 }}x{{ end }}",
            "gt $value 90",
            "compare a float with a float: write the number with a decimal point, such as 90.0",
        ),
        (
            "a {{ eq $labels.n 7 }}",
            "eq $labels.n 7",
            "a label is a text: compare it with a text, such as \"90\"",
        ),
        (
            "é\n{{ (query \"m\").Len }}",
            "(query \"m\").Len",
            "a query gives a list: take one with `first`, or `range` over it",
        ),
        ("{{ .labels.job }}", ".labels.job", "did you mean `.Labels`?"),
        ("{{ toUpper (print 1 | len) }}", "(print 1 | len)", ""),
        ("{{ print (toUpper $value) }}", "$value", ""),
        ("{{ range 2.0 }}{{ end }}", "2.0", ""),
        ("{{ with $labels }}{{ .job.x }}{{ end }}", ".job.x", ""),
        ("{{ define \"T\" }}{{ .x }}{{ end }}{{ template \"T\" 1 }}", ".x", ""),
        ("{{ if $labels.job == \"a\" }}{{ end }}", "=", "`=` sets a variable; to compare, write `eq A B`"),
        (
            "{{ $value > 1 }}",
            ">",
            "templates have no operators: write `lt A B`, `gt A B`, `not A`, `and A B`",
        ),
        ("a{{ if 1 }}b{{ $x }}", "$x", ""),
        ("a{{ if 1 }}b", "{{ if 1 }}", "add the missing {{end}}"),
        ("{{ $value 1 }}", "$value", ""),
        ("{{ 1 | printf }}", "printf", ""),
        ("{{ \"a", "\"a", ""),
    ] {
        let error = world::error("A", template, 1.5);
        let span = error.span.start as usize..error.span.end as usize;
        assert_eq!(&template[span], at, "{template}: {}", error.message);
        assert_eq!(error.hint.as_deref().unwrap_or_default(), hint, "{template}");
    }
}
