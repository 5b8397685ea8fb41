//! What a template's functions are to the parser and the execution: names, parameters and code.
//!
//! The execution checks the number of arguments and their types as Go does, before a function is called: a function
//! may rely on what its parameters say. `and`, `or` and `call` are special forms of the execution.

mod casing;
pub mod go;
pub mod methods;
pub mod prometheus;

use crate::rule::Environment;
use crate::value::Value;

/// The Go type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `interface {}`: anything.
    Any,
    /// `reflect.Value`: anything; differs from [`Parameter::Any`] in error texts only.
    Reflect,
    /// `string`: [`Value::Str`].
    String,
    /// `int`: [`Value::Int`].
    Int,
    /// `float64`: [`Value::Float`].
    Float,
    /// `time.Duration`: [`Value::DurationValue`].
    Duration,
    /// `time.Time`: [`Value::TimeValue`].
    Time,
    /// `template.queryResult`: [`Value::Samples`]; `nil` arrives as an empty one.
    Samples,
    /// `*template.sample`: [`Value::Sample`], or [`Value::Nil`].
    Sample,
}

impl Parameter {
    /// The Go name of the type.
    pub fn go_type(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Reflect => "reflect.Value",
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Duration => "time.Duration",
            Self::Time => "time.Time",
            Self::Samples => "template.queryResult",
            Self::Sample => "*template.sample",
        }
    }

    /// Whether `nil` may be passed.
    pub fn can_be_nil(self) -> bool {
        matches!(self, Self::Any | Self::Reflect | Self::Samples | Self::Sample)
    }
}

/// What a function has at hand beside its arguments.
pub struct Call<'a> {
    /// Queries, the time, the URL.
    pub environment: &'a mut dyn Environment,
    /// How many bytes a text may have that the function makes. A function that would make a longer one stops early
    /// and returns [`TOO_LONG`] as its error; its memory must not grow beyond a small multiple of this.
    pub limit_bytes: usize,
}

/// The error of a function that would make a text that is too long.
pub const TOO_LONG: &str = "result is too long";

/// Code of a function. An error is the text that Go's function would give; the execution puts
/// `error calling NAME: ` before it.
pub type Code = fn(&mut Call<'_>, Vec<Value>) -> Result<Value, String>;

/// How the execution treats a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Arguments are evaluated, checked and passed.
    Plain,
    /// `and`: arguments are evaluated until one is false.
    And,
    /// `or`: arguments are evaluated until one is true.
    Or,
    /// `call`: the code also gets the text of the first argument, before the others.
    Call,
    /// A method that exists but that templates cannot call, for this reason.
    Unfit(&'static str),
}

/// A function.
#[derive(Debug)]
pub struct Function {
    /// Its name in templates.
    pub name: &'static str,
    /// Its parameters, the variadic one not counted.
    pub parameters: &'static [Parameter],
    /// The type of any further arguments, if it takes some.
    pub variadic: Option<Parameter>,
    /// How it is called.
    pub form: Form,
    /// What it does.
    pub code: Code,
}

/// The functions a template may use. A later table hides names of earlier ones.
#[derive(Clone, Copy, Debug)]
pub struct FunctionSet {
    tables: &'static [&'static [Function]],
}

impl FunctionSet {
    /// Go's own functions.
    pub const GO: Self = Self { tables: &[go::FUNCTIONS] };
    /// Go's and those that Prometheus gives to templates.
    pub const PROMETHEUS: Self = Self { tables: &[go::FUNCTIONS, prometheus::FUNCTIONS] };

    /// The function of that name.
    pub fn get(self, name: &str) -> Option<&'static Function> {
        self.tables.iter().rev().find_map(|table| table.iter().find(|f| f.name == name))
    }

    /// All functions, hidden ones left out.
    pub fn iter(self) -> impl Iterator<Item = &'static Function> {
        self.tables.iter().enumerate().flat_map(move |(i, table)| {
            table
                .iter()
                .filter(move |f| !self.tables[i + 1..].iter().any(|t| t.iter().any(|g| g.name == f.name)))
        })
    }
}
