//! Rules that gave nothing because the data has nothing that they select.

use std::collections::BTreeSet;

use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::{Matcher, SymbolTable};
use tsdbctl_promql::engine::QueryOptions;
use tsdbctl_rules::eval::overlay::{Selections, name_fits};
use tsdbctl_rules::eval::{RulePlace, note};
use tsdbctl_rules::group::Rule;
use tsdbctl_storage::{Control, Queryable, SelectHints};
use tsdbctl_tsdb::Database;

use super::Plan;
use crate::ui::Ui;

/// Most selectors that are looked up.
const LOOKED_UP: usize = 200;

/// Names selectors of rules outside of `gave` for which there are no series in the time that is looked at.
pub(super) fn say(
    plan: &Plan,
    gave: &BTreeSet<RulePlace>,
    options: &QueryOptions,
    database: &Database,
    control: &Control,
    ui: &mut Ui,
) -> anyhow::Result<()> {
    let recorded: Vec<&str> = plan
        .groups
        .iter()
        .flat_map(|g| &g.rules)
        .filter(|r| matches!(r, Rule::Record(_)))
        .map(Rule::name)
        .collect();
    let mut looked_up = 0;
    for (group, spec) in plan.groups.iter().enumerate() {
        let (Some(first), Some(last)) = (spec.slots.get(0), spec.slots.last()) else { continue };
        for (rule, of) in spec.rules.iter().enumerate() {
            let place = RulePlace { group, rule };
            if gave.contains(&place) {
                continue;
            }
            let mut selections = Selections::default();
            for slot in [first, last] {
                let t = slot.ts_ms.saturating_sub(spec.query_offset_ms);
                note(&of.expr().expr, t, options, control, &mut selections);
            }
            for matchers in &selections.matchers {
                looked_up += 1;
                let is_recorded = recorded.iter().any(|n| name_fits(n, matchers));
                // `absent(x)` gives something where there is nothing, so that it is told for what gave nothing alone.
                if looked_up > LOOKED_UP || is_recorded || any(database, &selections, matchers, control)? {
                    continue;
                }
                let names: Vec<Matcher> =
                    matchers.iter().filter(|m| m.name == METRIC_NAME).cloned().collect();
                let by_name = names.len() < matchers.len() && any(database, &selections, &names, control)?;
                let origin = plan.origin(place);
                let why =
                    if by_name { "none of its series has these labels" } else { "there are no such series" };
                ui.warn(format!(
                    "{}: group {:?}, {} {:?} gives nothing: {} is not in the data; {why}",
                    origin.place(),
                    origin.group,
                    if origin.is_alert { "alert" } else { "rule" },
                    origin.name,
                    text(matchers),
                ));
            }
        }
    }
    Ok(())
}

fn any(
    database: &Database,
    times: &Selections,
    matchers: &[Matcher],
    control: &Control,
) -> anyhow::Result<bool> {
    if matchers.is_empty() {
        return Ok(true);
    }
    let list = [matchers.to_vec()];
    let querier = database.querier(times.mint, times.maxt, &list, control)?;
    let hints = SelectHints { start: times.mint, end: times.maxt, ..SelectHints::default() };
    Ok(!querier.select(&hints, matchers, &mut SymbolTable::new(), control)?.is_empty())
}

fn text(matchers: &[Matcher]) -> String {
    let list: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", list.join(", "))
}
