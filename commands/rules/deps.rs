//! `tsdbctl rules deps`: which rule reads what which rule writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tsdbctl_model::Span;
use tsdbctl_rules::alerting::AlertRule;
use tsdbctl_rules::depend::{Edge, Reason, RuleNode, edges};
use tsdbctl_rules::file::{ReadOptions, RuleKind};
use tsdbctl_rules::group::Rule;
use tsdbctl_rules::recording::RecordRule;
use tsdbctl_yaml::Source;

use super::input::inputs;
use crate::data::FeatureFlags;
use crate::exit::ExitStatus;
use crate::findings;
use crate::ui::{Ui, counted};

/// Show which rules read what others record, within groups and across them.
///
/// Within a group a rule sees what earlier rules wrote at the same slot, and of later rules what they wrote at the slot
/// before. Across groups it sees what was written by then, up to an interval old. Given several files, all of them are
/// looked at together.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rule files, or FILE:path.to.key for a part of a file; standard input if there are none.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
    /// Exit with 3 if there is any of these: cycle (rules that read each other in a circle), late-read (a rule reads
    /// a later one of its group), unknown (a selector names no metric). With commas between.
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub deny: Vec<Kind>,
    /// Pass over fields that rule files do not have.
    #[arg(long)]
    pub ignore_unknown_fields: bool,
    /// Read all documents of a file.
    #[arg(long)]
    pub all_documents: bool,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
}

/// How dependencies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// A graph for Graphviz: `dot -Tsvg`.
    Dot,
    /// One JSON object.
    Json,
}

/// What can be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Rules that read each other in a circle, or themselves.
    Cycle,
    /// A rule that reads a later one of its group.
    LateRead,
    /// A rule of which it is not known what it reads.
    Unknown,
}

/// A rule and where it stands.
struct Node {
    source: Arc<Source>,
    span: Span,
    group: String,
    group_number: usize,
    index: usize,
    rule: Rule,
}

impl Node {
    fn kind(&self) -> &'static str {
        match self.rule {
            Rule::Record(_) => "record",
            Rule::Alert(_) => "alert",
        }
    }

    fn place(&self) -> String {
        self.source.place(self.span)
    }
}

/// What a rule sees of another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Its own values of the slot before.
    Itself,
    /// The values of the same slot.
    SameSlot,
    /// The values of the slot before.
    SlotBefore,
    /// What was written by then.
    ByTime,
}

impl Seen {
    fn of(writer: &Node, reader: &Node) -> Self {
        if writer.group_number != reader.group_number {
            Self::ByTime
        } else if writer.index == reader.index {
            Self::Itself
        } else if writer.index < reader.index {
            Self::SameSlot
        } else {
            Self::SlotBefore
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Itself => "itself",
            Self::SameSlot => "same-slot",
            Self::SlotBefore => "slot-before",
            Self::ByTime => "by-time",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Itself => "itself, as of the slot before",
            Self::SameSlot => "earlier in the group: of the same slot",
            Self::SlotBefore => "later in the group: of the slot before",
            Self::ByTime => "another group: what was written by then",
        }
    }
}

/// Reads between rules whose names are known.
fn reads(edge: &Edge) -> Option<&str> {
    match &edge.reason {
        Reason::Metric(text) | Reason::Alerts(text) | Reason::Template(text) => Some(text),
        Reason::SameName(_) | Reason::Unknown(_) => None,
    }
}

/// Everything that is told.
struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// Rules of each circle, in order.
    cycles: Vec<Vec<usize>>,
    /// Of a rule that may read anything what that is.
    unknown: BTreeMap<usize, String>,
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let options = ReadOptions {
        ignore_unknown_fields: args.ignore_unknown_fields,
        all_documents: args.all_documents,
        features: args.features.features(ui),
    };
    let (mut nodes, mut groups, mut bad) = (Vec::new(), 0, false);
    for input in inputs(&args.files) {
        let file = match input.read_telling(&options, ui)? {
            Ok(file) => file,
            Err(found) => {
                findings::show(ui, &found);
                bad = true;
                continue;
            }
        };
        for spec in &file.groups {
            for (index, rule) in spec.rules.iter().enumerate() {
                nodes.push(Node {
                    source: Arc::clone(&file.source),
                    span: rule.name.span,
                    group: spec.name.value.clone(),
                    group_number: groups,
                    index,
                    rule: match rule.kind {
                        RuleKind::Record => Rule::Record(RecordRule::from_spec(spec, rule)),
                        RuleKind::Alert => Rule::Alert(AlertRule::from_spec(spec, rule)?),
                    },
                });
            }
            groups += 1;
        }
    }
    if bad {
        return Ok(ExitStatus::Failure);
    }
    let graph = graph(nodes);
    match args.output {
        Output::Text => text(&graph, ui)?,
        Output::Dot => dot(&graph, ui)?,
        Output::Json => writeln!(ui.out(), "{}", to_json(&graph))?,
    }
    ui.flush()?;
    let is_late = |e: &&Edge| {
        reads(e).is_some() && Seen::of(&graph.nodes[e.writer], &graph.nodes[e.reader]) == Seen::SlotBefore
    };
    let late = graph.edges.iter().filter(is_late).count();
    let mut denied = Vec::new();
    for (kind, n, one, many) in [
        (Kind::Cycle, graph.cycles.len(), "cycle", "cycles"),
        (Kind::LateRead, late, "read of a later rule of its group", "reads of later rules of their groups"),
        (Kind::Unknown, graph.unknown.len(), "rule that may read anything", "rules that may read anything"),
    ] {
        if n > 0 && args.deny.contains(&kind) {
            denied.push(counted(n as u64, one, many));
        }
    }
    if denied.is_empty() {
        return Ok(ExitStatus::Success);
    }
    ui.error(format!("denied: {}", denied.join(", ")));
    Ok(ExitStatus::Lint)
}

fn graph(nodes: Vec<Node>) -> Graph {
    let list: Vec<RuleNode<'_>> =
        nodes.iter().map(|n| RuleNode { group: n.group_number, index: n.index, rule: &n.rule }).collect();
    let edges = edges(&list);
    let mut unknown = BTreeMap::new();
    for edge in &edges {
        if let Reason::Unknown(text) = &edge.reason {
            unknown.entry(edge.reader).or_insert_with(|| text.clone());
        }
    }
    let cycles =
        cycles(nodes.len(), edges.iter().filter(|e| reads(e).is_some()).map(|e| (e.reader, e.writer)));
    Graph { nodes, edges, cycles, unknown }
}

/// Rules that reach themselves, circle by circle (strongly connected components), each in order.
fn cycles(count: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let (mut out, mut back) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    let mut itself = vec![false; count];
    for (from, to) in pairs {
        out[from].push(to);
        back[to].push(from);
        itself[from] |= from == to;
    }
    // In order of being left, then backwards along the edges.
    let (mut left, mut met) = (Vec::with_capacity(count), vec![false; count]);
    for start in 0..count {
        let mut path = vec![(start, 0)];
        if std::mem::replace(&mut met[start], true) {
            continue;
        }
        while let Some((at, next)) = path.last_mut() {
            match out[*at].get(*next) {
                Some(&to) => {
                    *next += 1;
                    if !std::mem::replace(&mut met[to], true) {
                        path.push((to, 0));
                    }
                }
                None => {
                    left.push(*at);
                    path.pop();
                }
            }
        }
    }
    let mut found = Vec::new();
    let mut taken = vec![false; count];
    for start in left.into_iter().rev() {
        if std::mem::replace(&mut taken[start], true) {
            continue;
        }
        let (mut members, mut stack) = (Vec::new(), vec![start]);
        while let Some(at) = stack.pop() {
            members.push(at);
            for &to in &back[at] {
                if !std::mem::replace(&mut taken[to], true) {
                    stack.push(to);
                }
            }
        }
        if members.len() > 1 || itself[start] {
            members.sort_unstable();
            found.push(members);
        }
    }
    found.sort();
    found
}

fn text(graph: &Graph, ui: &mut Ui) -> anyhow::Result<()> {
    let mut count = 0;
    for (reader, node) in graph.nodes.iter().enumerate() {
        let of: Vec<&Edge> = graph.edges.iter().filter(|e| e.reader == reader).collect();
        let is_unknown = graph.unknown.get(&reader);
        if is_unknown.is_none() && of.is_empty() {
            continue;
        }
        writeln!(ui.out(), "{}: group {:?}, {} {}", node.place(), node.group, node.kind(), node.rule.name())?;
        for edge in of {
            let writer = &graph.nodes[edge.writer];
            let named = |w: &Node| {
                if w.group_number == node.group_number {
                    format!("{} {}", w.kind(), w.rule.name())
                } else {
                    format!("{} {} (group {:?})", w.kind(), w.rule.name(), w.group)
                }
            };
            match &edge.reason {
                Reason::SameName(_) => writeln!(ui.out(), "  writes the same name as {}", named(writer))?,
                Reason::Unknown(_) => {}
                Reason::Metric(by) | Reason::Alerts(by) | Reason::Template(by) => {
                    count += 1;
                    let how = if matches!(edge.reason, Reason::Template(_)) { " in a template" } else { "" };
                    let seen = Seen::of(writer, node).sentence();
                    // The plain name says nothing new.
                    let by = if by == writer.rule.name() { String::new() } else { format!(" by {by}") };
                    writeln!(ui.out(), "  reads {}{by}{how}; {seen}", named(writer))?;
                }
            }
        }
        if let Some(by) = is_unknown {
            writeln!(ui.out(), "  may read anything: {by}")?;
        }
    }
    for cycle in &graph.cycles {
        let names: Vec<&str> = cycle.iter().map(|n| graph.nodes[*n].rule.name()).collect();
        writeln!(ui.out(), "cycle: {}", names.join(", "))?;
    }
    ui.say(format!(
        "{}, {} between them, {}, {} that may read anything",
        counted(graph.nodes.len() as u64, "rule", "rules"),
        counted(count as u64, "read", "reads"),
        counted(graph.cycles.len() as u64, "cycle", "cycles"),
        graph.unknown.len()
    ));
    Ok(())
}

fn dot(graph: &Graph, ui: &mut Ui) -> anyhow::Result<()> {
    let quoted =
        |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let out = ui.out();
    writeln!(out, "digraph rules {{\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];")?;
    let mut group = None;
    for (i, node) in graph.nodes.iter().enumerate() {
        if group != Some(node.group_number) {
            if group.is_some() {
                writeln!(out, "  }}")?;
            }
            group = Some(node.group_number);
            writeln!(out, "  subgraph cluster_{} {{\n    label={};", node.group_number, quoted(&node.group))?;
        }
        let shape = if node.kind() == "alert" { ", shape=octagon" } else { "" };
        writeln!(out, "    r{i} [label={}{shape}];", quoted(node.rule.name()))?;
    }
    if group.is_some() {
        writeln!(out, "  }}")?;
    }
    let in_cycle = |a: usize, b: usize| graph.cycles.iter().any(|c| c.contains(&a) && c.contains(&b));
    for edge in &graph.edges {
        if reads(edge).is_none() {
            continue;
        }
        let seen = Seen::of(&graph.nodes[edge.writer], &graph.nodes[edge.reader]);
        let style = match seen {
            Seen::SlotBefore | Seen::Itself => "style=dashed, ",
            Seen::SameSlot | Seen::ByTime => "",
        };
        let colour = if in_cycle(edge.writer, edge.reader) { "color=red, " } else { "" };
        writeln!(
            out,
            "  r{} -> r{} [{style}{colour}tooltip={}];",
            edge.writer,
            edge.reader,
            quoted(seen.sentence())
        )?;
    }
    for (reader, by) in &graph.unknown {
        writeln!(
            out,
            "  any [label=\"any metric\", shape=plaintext];\n  any -> r{reader} [style=dotted, tooltip={}];",
            quoted(by)
        )?;
    }
    writeln!(out, "}}")?;
    Ok(())
}

fn to_json(graph: &Graph) -> Value {
    let rules = graph.nodes.iter().enumerate().map(|(i, node)| {
        let (line, column) = node.source.line_col(node.span.start as usize);
        let mut out = json!({
            "id": i,
            "file": node.source.name,
            "line": line,
            "column": column,
            "group": node.group,
            "name": node.rule.name(),
            "type": node.kind(),
        });
        if let Some(by) = graph.unknown.get(&i) {
            out["mayReadAnything"] = Value::String(by.clone());
        }
        out
    });
    let reads = graph.edges.iter().filter_map(|e| {
        Some(json!({
            "reader": e.reader,
            "writer": e.writer,
            "by": reads(e)?,
            "inTemplate": matches!(e.reason, Reason::Template(_)),
            "sees": Seen::of(&graph.nodes[e.writer], &graph.nodes[e.reader]).as_str(),
        }))
    });
    let shared = graph.edges.iter().filter_map(|e| match &e.reason {
        Reason::SameName(name) => Some(json!({"rules": [e.writer, e.reader], "name": name})),
        _ => None,
    });
    json!({
        "rules": rules.collect::<Vec<_>>(),
        "reads": reads.collect::<Vec<_>>(),
        "sameName": shared.collect::<Vec<_>>(),
        "cycles": graph.cycles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_each_once() {
        for (count, pairs, want) in [
            (3, vec![(0, 1), (1, 2)], vec![]),
            (3, vec![(0, 1), (1, 0), (1, 2)], vec![vec![0, 1]]),
            (2, vec![(1, 1)], vec![vec![1]]),
            (
                6,
                vec![(0, 1), (1, 2), (2, 0), (3, 4), (4, 3), (2, 3), (5, 5)],
                vec![vec![0, 1, 2], vec![3, 4], vec![5]],
            ),
        ] {
            assert_eq!(cycles(count, pairs.iter().copied()), want, "{pairs:?}");
        }
        let long = (0..100_000).map(|i| (i, (i + 1) % 100_000));
        assert_eq!(cycles(100_000, long).len(), 1);
    }
}
