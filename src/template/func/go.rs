//! The functions that Go gives to every template.

use super::Parameter::{Any, Reflect, String as Text};
use super::{Call, Code, Form, Function, Parameter};
use crate::value::Value;

const fn function(
    name: &'static str,
    parameters: &'static [Parameter],
    variadic: Option<Parameter>,
    code: Code,
) -> Function {
    Function { name, parameters, variadic, form: Form::Plain, code }
}

/// All of them.
pub static FUNCTIONS: &[Function] = &[
    Function { name: "and", parameters: &[Reflect], variadic: Some(Reflect), form: Form::And, code: missing },
    Function { name: "or", parameters: &[Reflect], variadic: Some(Reflect), form: Form::Or, code: missing },
    Function {
        name: "call",
        parameters: &[Reflect],
        variadic: Some(Reflect),
        form: Form::Call,
        code: missing,
    },
    function("html", &[], Some(Any), missing),
    function("index", &[Reflect], Some(Reflect), missing),
    function("slice", &[Reflect], Some(Reflect), missing),
    function("js", &[], Some(Any), missing),
    function("len", &[Reflect], None, missing),
    function("not", &[Reflect], None, missing),
    function("print", &[], Some(Any), missing),
    function("printf", &[Text], Some(Any), missing),
    function("println", &[], Some(Any), missing),
    function("urlquery", &[], Some(Any), missing),
    function("eq", &[Reflect], Some(Reflect), missing),
    function("ge", &[Reflect, Reflect], None, missing),
    function("gt", &[Reflect, Reflect], None, missing),
    function("le", &[Reflect, Reflect], None, missing),
    function("lt", &[Reflect, Reflect], None, missing),
    function("ne", &[Reflect, Reflect], None, missing),
];

fn missing(_: &mut Call<'_>, _: Vec<Value>) -> Result<Value, String> {
    Err("not written yet".to_string())
}
