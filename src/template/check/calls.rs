//! Calls of functions: how many arguments, of which types, and what certain functions say of them.

use tsdbctl_model::duration::parse_signed_duration_ms;
use tsdbctl_model::float_text::parse_float;
use tsdbctl_model::regexp::Search;

use crate::ast::NodeId;
use crate::func::{Form, Function, Parameter};

use super::types::{Type, result};
use super::{Checker, Operand, Severity};

impl Checker<'_> {
    pub(super) fn call(
        &mut self,
        id: NodeId,
        function: &'static Function,
        args: &[NodeId],
        last: Option<Operand>,
    ) -> Type {
        let name = function.name;
        let mut operands: Vec<Operand> = Vec::with_capacity(args.len() + 1);
        for (i, arg) in args.iter().enumerate() {
            let skipped = i > 0 && matches!(function.form, Form::And | Form::Or);
            let of = self.within(!skipped, looks_only(name), |c| c.operand(*arg));
            operands.push((*arg, of));
        }
        operands.extend(last);
        let (least, got) = (function.parameters.len(), operands.len());
        let fits = if function.variadic.is_some() { got >= least } else { got == least };
        if !fits {
            let want =
                if function.variadic.is_some() { format!("at least {least}") } else { least.to_string() };
            let message = format!("wrong number of args for {name}: want {want} got {got}");
            let hint = match (got < least, name) {
                (true, "humanize" | "humanize1024" | "humanizePercentage" | "humanizeDuration") => {
                    format!("give it a value: {name} $value")
                }
                (true, "reReplaceAll") => "reReplaceAll PATTERN REPLACEMENT TEXT".to_string(),
                (true, "label") => "… | first | label \"NAME\"".to_string(),
                (true, _) => format!("give {name} what it works on, or pipe it in: … | {name}"),
                (false, _) => "take the surplus away; a call within a call needs parentheses".to_string(),
            };
            self.fails(id, "template-arity", message, &hint);
            return result(function, &operands);
        }
        let mut all_pass = true;
        for (i, (node, of)) in operands.iter().enumerate() {
            let Some(parameter) = function.parameters.get(i).copied().or(function.variadic) else { continue };
            if !of.passes_as(parameter) {
                all_pass = false;
                let (want, got) = (parameter.go_type(), of.go_type());
                let message = format!("wrong type for an argument of {name}; expected {want}; got {got}");
                let hint = match (parameter, of) {
                    (Parameter::String, Type::Int | Type::Float) => "turn it into text with printf or print",
                    (Parameter::Sample, Type::Samples { .. }) => "take the `first` of it",
                    _ => "",
                };
                self.fails(*node, "template-kind", message, hint);
            }
        }
        if all_pass {
            self.arguments(id, name, &operands);
        }
        result(function, &operands)
    }

    /// What a function says of arguments whose types its parameters take.
    pub(super) fn arguments(&mut self, id: NodeId, name: &str, operands: &[Operand]) {
        match name {
            "humanize" | "humanize1024" | "humanizeDuration" | "humanizePercentage" | "humanizeTimestamp"
            | "toTime" | "toDuration" => self.number(name, &operands[0]),
            "eq" | "ne" | "lt" | "le" | "gt" | "ge" => self.comparison(id, name, operands),
            "len" => {
                if let (node, of @ (Type::Bool | Type::Int | Type::Float | Type::Sample | Type::Data)) =
                    &operands[0]
                {
                    self.fails(*node, "template-kind", format!("len of type {}", of.go_type()), "");
                }
            }
            "index" => self.index(operands),
            "first" => {
                if let (_, Type::Samples { may_be_empty: true }) = operands[0] {
                    self.report(
                        id,
                        Severity::Note,
                        "template-first",
                        "`first` fails where the query gives nothing, and the whole text with it".to_string(),
                        "put it into {{ with query \"…\" }}{{ . | first | value }}{{ end }}",
                    );
                }
            }
            "match" | "reReplaceAll" => {
                if let (node, Type::Text(Some(pattern))) = &operands[0]
                    && let Err(error) = Search::new(pattern)
                {
                    self.fails(*node, "template-regexp", error.to_string(), "");
                }
            }
            "query" => {
                if let (node, Type::Text(Some(query))) = &operands[0]
                    && let Err(message) = self.knowledge.check_query(query)
                {
                    self.fails(*node, "template-query", message, "");
                }
            }
            "parseDuration" => {
                if let (node, Type::Text(Some(text))) = &operands[0]
                    && let Err(error) = parse_signed_duration_ms(text)
                {
                    let hint = "durations are whole numbers with units, the longest first: 1h30m, 90s";
                    self.fails(*node, "template-number", error.to_string(), hint);
                }
            }
            "slice" => {
                if let (
                    node,
                    of @ (Type::Bool | Type::Int | Type::Float | Type::Labels | Type::TextMap | Type::AnyMap),
                ) = &operands[0]
                {
                    let message = format!("can't slice item of type {}", of.go_type());
                    self.fails(*node, "template-kind", message, "only texts and lists have parts");
                }
            }
            "call" => {
                if let (node, of) = &operands[0]
                    && of.is_known()
                {
                    let message = format!("call of a {}, which is no function", of.go_type());
                    self.fails(*node, "template-kind", message, "write the function's name first");
                }
            }
            "printf" => self.printf(id, operands),
            _ => {}
        }
    }

    pub(super) fn number(&mut self, name: &str, (node, of): &Operand) {
        let message = match of {
            Type::Unknown | Type::Int | Type::Float | Type::Text(None) => return,
            Type::Text(Some(text)) => match parse_float(text) {
                Ok(_) => return,
                Err(error) => format!("{name} of {text:?}: {error}"),
            },
            other => format!("{name}: can't convert {} to float", other.go_type()),
        };
        let hint = match of {
            Type::Samples { .. } => "take one number of it: query \"…\" | first | value",
            Type::Sample => "take its number: … | value",
            _ => "",
        };
        self.fails(*node, "template-number", message, hint);
    }

    fn comparison(&mut self, id: NodeId, name: &str, operands: &[Operand]) {
        let [(_, a), rest @ ..] = operands else { return };
        if rest.is_empty() {
            self.fails(id, "template-comparison", "missing argument for comparison".to_string(), "");
            return;
        }
        let ordered = matches!(name, "lt" | "le" | "gt" | "ge");
        for (i, (node, b)) in rest.iter().enumerate() {
            if !a.is_known() || !b.is_known() {
                continue;
            }
            let (kind_a, kind_b) = (a.comparable(), b.comparable());
            // A duration's kind is not known here: a pointer compares with nothing, what it points at does.
            let message = if kind_a != kind_b && (!ordered || (kind_a.is_some() && kind_b.is_some())) {
                format!("incompatible types for comparison: {} and {}", a.go_type(), b.go_type())
            } else if ordered && (matches!(a, Type::Bool) || kind_a.is_none() || kind_b.is_none()) {
                "invalid type for comparison".to_string()
            } else {
                continue;
            };
            let hint = match (a, b) {
                (Type::Float, Type::Int) | (Type::Int, Type::Float) => {
                    "write the whole number with a decimal point: 90.0"
                }
                _ => "",
            };
            // Further arguments are looked at only where the earlier ones differ.
            self.within(i == 0, false, |c| c.fails(*node, "template-comparison", message, hint));
        }
    }

    pub(super) fn index(&mut self, operands: &[Operand]) {
        let [(node, of), (key, key_type), ..] = operands else { return };
        match (of, key_type) {
            (Type::Labels, Type::Text(Some(name))) if operands.len() == 2 => {
                let name = name.clone();
                self.label(*key, &name);
            }
            (Type::Labels | Type::TextMap | Type::AnyMap, Type::Bool | Type::Int | Type::Float) => {
                let message = format!("value has type {}; should be string", key_type.go_type());
                self.fails(*key, "template-kind", message, "");
            }
            (Type::Bool | Type::Int | Type::Float | Type::Sample | Type::Data, _) => {
                let message = format!("can't index item of type {}", of.go_type());
                self.fails(*node, "template-kind", message, "");
            }
            _ => {}
        }
    }

    /// Verbs against the types of a `printf` whose format is written in the template.
    pub(super) fn printf(&mut self, id: NodeId, operands: &[Operand]) {
        let [(format_node, Type::Text(Some(format))), args @ ..] = operands else { return };
        let code = "template-printf";
        let (format, ends_early) = match unfinished(format) {
            Some(before) => (before, true),
            None => (format.as_str(), false),
        };
        if ends_early {
            self.misprints(
                *format_node,
                code,
                "the format ends in a single %: it prints %!(NOVERB)".to_string(),
                "write %% for the sign itself",
            );
        }
        let Some(verbs) = verbs(format) else { return };
        for (i, verb) in verbs.iter().enumerate() {
            let Some((node, of)) = args.get(i) else {
                self.misprints(
                    *format_node,
                    code,
                    format!("no value is left for %{verb}: it prints %!{verb}(MISSING)"),
                    "add the value behind the format; the sign itself is written %%",
                );
                return;
            };
            let wrong = match of {
                Type::Bool => !matches!(verb, 't' | 'v' | 'T'),
                Type::Int => !matches!(verb, 'v' | 'T' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U'),
                Type::Float => {
                    !matches!(verb, 'v' | 'T' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E')
                }
                Type::Text(_) | Type::Html => !matches!(verb, 'v' | 'T' | 's' | 'x' | 'X' | 'q'),
                _ => false,
            };
            if wrong {
                let hint = match of {
                    Type::Float => "use %.0f, or %g for the shortest form",
                    Type::Int => "use %d",
                    Type::Text(_) => "use %s",
                    _ => "",
                };
                let message = format!("%{verb} cannot print a {0}: it prints %!{verb}({0}=…)", of.go_type());
                self.misprints(*node, code, message, hint);
            }
        }
        if args.len() > verbs.len() {
            let message = format!("{} values for {} verbs: it prints %!(EXTRA …)", args.len(), verbs.len());
            self.misprints(id, code, message, "take the values away that have no verb, or add verbs");
        }
    }
}

/// What stands before a single `%` at the end of a format.
fn unfinished(format: &str) -> Option<&str> {
    let before =
        format.trim_end_matches(|c: char| c.is_ascii_digit() || "+-# .".contains(c)).strip_suffix('%')?;
    let signs = before.bytes().rev().take_while(|b| *b == b'%').count();
    (signs % 2 == 0).then_some(before)
}

/// Functions of which the result does not print an empty argument as such.
pub(super) fn looks_only(name: &str) -> bool {
    matches!(
        name,
        "and"
            | "or"
            | "not"
            | "eq"
            | "ne"
            | "lt"
            | "le"
            | "gt"
            | "ge"
            | "len"
            | "index"
            | "args"
            | "match"
            | "call"
            | "slice"
            | "query"
            | "label"
    )
}

/// The verbs of a format that take one value each; `None` where it is not that simple.
fn verbs(format: &str) -> Option<Vec<char>> {
    let mut verbs = Vec::new();
    let mut rest = format;
    while let Some((_, after)) = rest.split_once('%') {
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit() || "+-# .".contains(c));
        let verb = after.chars().next()?;
        if matches!(verb, '*' | '[') {
            return None;
        }
        if verb != '%' {
            verbs.push(verb);
        }
        rest = &after[verb.len_utf8()..];
    }
    Some(verbs)
}
