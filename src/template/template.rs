//! A template on its own: parsed once, run over any data.

use tsdbctl_model::quote::go_quote;

use crate::ast::Ast;
use crate::error::TemplateError;
use crate::exec::{Limits, Source, Start, run};
use crate::func::FunctionSet;
use crate::parse::parse;
use crate::reflect::Cell;
use crate::rule::Environment;
use crate::value::Value;

/// A parsed template with all that its text defines. Missing keys are zero values (`missingkey=zero`).
#[derive(Clone, Debug)]
pub struct Template {
    name: Box<str>,
    text: Box<str>,
    ast: Ast,
}

impl Template {
    /// Parses `text` as the template called `name`.
    ///
    /// # Errors
    /// Go's text, `template: NAME:LINE: …`; its span is in `text`.
    pub fn parse(name: &str, text: &str, functions: FunctionSet) -> Result<Self, TemplateError> {
        let ast = parse(name, text, functions)?;
        Ok(Self { name: name.into(), text: text.into(), ast })
    }

    /// The syntax tree.
    pub fn ast(&self) -> &Ast {
        &self.ast
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The template as Go prints it, with what it defines behind it.
    pub fn print(&self) -> String {
        let mut out = String::new();
        for tree in &self.ast.trees {
            if tree.name == self.name {
                out.insert_str(0, &self.ast.text(tree.root));
            } else {
                out.push_str(&format!("{{{{define {}}}}}", go_quote(&tree.name)));
                out.push_str(&self.ast.text(tree.root));
                out.push_str("{{end}}");
            }
        }
        out
    }

    /// Renders the template over `data`.
    ///
    /// # Errors
    /// Go's text, `template: NAME:LINE:COLUMN: executing …`; its span is in the text that was parsed.
    pub fn execute(
        &self,
        data: Value,
        environment: &mut dyn Environment,
        limits: Limits,
    ) -> Result<String, TemplateError> {
        let start = Start { statement: 0, variables: Vec::new() };
        self.execute_from(&self.name, data.into(), start, environment, limits)
    }

    pub(crate) fn execute_from(
        &self,
        tree: &str,
        data: Cell,
        start: Start,
        environment: &mut dyn Environment,
        limits: Limits,
    ) -> Result<String, TemplateError> {
        let source = Source { name: &self.name, text: &self.text, ast: &self.ast };
        run(source, tree, data, start, environment, limits)
    }
}
