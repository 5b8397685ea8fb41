//! The table of functions: names, argument and return types.

use super::ast::ValueType;

/// A function's signature.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments; the last repeats or may be left out as `variadic` says.
    pub arg_types: &'static [ValueType],
    /// 0: exactly the arguments; n > 0: up to n of the last may be left out or added as upstream's table says;
    /// -1: any number of the last.
    pub variadic: i32,
    /// What it returns.
    pub return_type: ValueType,
    /// Needs `promql-experimental-functions`.
    pub experimental: bool,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
