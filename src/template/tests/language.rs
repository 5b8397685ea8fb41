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
