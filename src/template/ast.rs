//! The syntax tree of a template. Its nodes lie in one vector and name each other by number, so that no nesting,
//! however deep, makes a walk or a drop recurse.

use tsdbctl_model::Span;
use tsdbctl_model::quote::write_go_quote;

use crate::func::Function;
use crate::literal::Number;

/// The number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub(crate) u32);

/// A node with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The place Go's error texts give for it: of a chain, its first field.
    pub pos: u32,
    /// All of its text.
    pub span: Span,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// Nodes one after another.
    List(Vec<NodeId>),
    /// Plain text, trimmed.
    Text(Box<str>),
    /// `{{pipeline}}`
    Action(NodeId),
    /// `{{if}}`, `{{with}}`, `{{range}}`
    Branch {
        /// Which of them.
        kind: BranchKind,
        /// What it looks at.
        pipe: NodeId,
        /// What follows if that is not empty.
        list: NodeId,
        /// What follows `{{else}}`.
        else_list: Option<NodeId>,
    },
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
    /// `{{template "name" pipeline}}`, also of `{{block}}`.
    Template {
        /// Which one.
        name: Box<str>,
        /// Its data.
        pipe: Option<NodeId>,
    },
    /// Commands joined by `|`, with the variables they are for.
    Pipe {
        /// Whether it is `=`, not `:=`.
        assign: bool,
        /// [`NodeKind::Variable`] each.
        variables: Vec<NodeId>,
        /// [`NodeKind::Command`] each.
        commands: Vec<NodeId>,
    },
    /// An operand with its arguments.
    Command(Vec<NodeId>),
    /// A function.
    Identifier(&'static Function),
    /// `$x.A.B`: the name with its `$`, then fields.
    Variable(Vec<Box<str>>),
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `.A.B`
    Field(Vec<Box<str>>),
    /// `(pipeline).A.B` or `function.A.B`
    Chain {
        /// What the fields belong to.
        node: NodeId,
        /// The fields.
        fields: Vec<Box<str>>,
    },
    /// `true`, `false`
    Bool(bool),
    /// A number, with its text.
    Number(Number, Box<str>),
    /// A text, with its quoted form.
    Str {
        /// As written.
        quoted: Box<str>,
        /// What it stands for.
        text: std::sync::Arc<str>,
    },
}

/// The control structures that look at a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchKind {
    /// `if`
    If,
    /// `with`
    With,
    /// `range`
    Range,
}

impl BranchKind {
    /// Its keyword.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::With => "with",
            Self::Range => "range",
        }
    }
}

/// A template by its name.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The name.
    pub name: Box<str>,
    /// A [`NodeKind::List`].
    pub root: NodeId,
}

/// All templates of one text.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    pub(crate) nodes: Vec<Node>,
    /// The templates, each name once.
    pub trees: Vec<Tree>,
}

enum Piece<'a> {
    Node(NodeId),
    Text(&'a str),
}

impl Ast {
    /// The node of that number.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The kind of the node of that number.
    pub fn kind(&self, id: NodeId) -> &NodeKind {
        &self.node(id).kind
    }

    /// The template of that name.
    pub fn tree(&self, name: &str) -> Option<&Tree> {
        self.trees.iter().find(|tree| &*tree.name == name)
    }

    /// The nodes of a list.
    pub fn list(&self, id: NodeId) -> &[NodeId] {
        match self.kind(id) {
            NodeKind::List(nodes) => nodes,
            _ => &[],
        }
    }

    /// The node as Go prints it, in error texts among others.
    pub fn text(&self, id: NodeId) -> String {
        let mut out = String::new();
        let mut todo = vec![Piece::Node(id)];
        while let Some(piece) = todo.pop() {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Node(id) => {
                    let from = todo.len();
                    self.write(id, &mut out, &mut todo);
                    todo[from..].reverse();
                }
            }
        }
        out
    }

    /// Writes what of a node comes first, and lists the rest in order.
    fn write<'a>(&'a self, id: NodeId, out: &mut String, todo: &mut Vec<Piece<'a>>) {
        let names = |out: &mut String, names: &[Box<str>]| {
            for name in names {
                out.push('.');
                out.push_str(name);
            }
        };
        match self.kind(id) {
            NodeKind::List(nodes) => todo.extend(nodes.iter().map(|n| Piece::Node(*n))),
            NodeKind::Text(text) => out.push_str(text),
            NodeKind::Action(pipe) => {
                out.push_str("{{");
                todo.extend([Piece::Node(*pipe), Piece::Text("}}")]);
            }
            NodeKind::Branch { kind, pipe, list, else_list } => {
                out.push_str("{{");
                out.push_str(kind.keyword());
                out.push(' ');
                todo.extend([Piece::Node(*pipe), Piece::Text("}}"), Piece::Node(*list)]);
                if let Some(list) = else_list {
                    todo.extend([Piece::Text("{{else}}"), Piece::Node(*list)]);
                }
                todo.push(Piece::Text("{{end}}"));
            }
            NodeKind::Break => out.push_str("{{break}}"),
            NodeKind::Continue => out.push_str("{{continue}}"),
            NodeKind::Template { name, pipe } => {
                out.push_str("{{template ");
                write_go_quote(out, name);
                if let Some(pipe) = pipe {
                    out.push(' ');
                    todo.push(Piece::Node(*pipe));
                }
                todo.push(Piece::Text("}}"));
            }
            NodeKind::Pipe { assign, variables, commands } => {
                for (i, variable) in variables.iter().enumerate() {
                    if i > 0 {
                        todo.push(Piece::Text(", "));
                    }
                    todo.push(Piece::Node(*variable));
                }
                if !variables.is_empty() {
                    todo.push(Piece::Text(if *assign { " = " } else { " := " }));
                }
                for (i, command) in commands.iter().enumerate() {
                    if i > 0 {
                        todo.push(Piece::Text(" | "));
                    }
                    todo.push(Piece::Node(*command));
                }
            }
            NodeKind::Command(args) => {
                for (i, arg) in args.iter().enumerate() {
                    if i > 0 {
                        todo.push(Piece::Text(" "));
                    }
                    self.operand(*arg, todo);
                }
            }
            NodeKind::Identifier(function) => out.push_str(function.name),
            NodeKind::Variable(parts) => {
                out.push_str(&parts[0]);
                names(out, &parts[1..]);
            }
            NodeKind::Dot => out.push('.'),
            NodeKind::Nil => out.push_str("nil"),
            NodeKind::Field(parts) => names(out, parts),
            NodeKind::Chain { node, fields } => {
                self.operand(*node, todo);
                for field in fields {
                    todo.extend([Piece::Text("."), Piece::Text(field)]);
                }
            }
            NodeKind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            NodeKind::Number(_, text) => out.push_str(text),
            NodeKind::Str { quoted, .. } => out.push_str(quoted),
        }
    }

    fn operand(&self, id: NodeId, todo: &mut Vec<Piece<'_>>) {
        if matches!(self.kind(id), NodeKind::Pipe { .. }) {
            todo.extend([Piece::Text("("), Piece::Node(id), Piece::Text(")")]);
        } else {
            todo.push(Piece::Node(id));
        }
    }

    /// Whether there is nothing but blanks.
    pub(crate) fn is_blank(&self, root: NodeId) -> bool {
        self.list(root).iter().all(|id| match self.kind(*id) {
            NodeKind::Text(text) => text.trim().is_empty(),
            _ => false,
        })
    }
}
