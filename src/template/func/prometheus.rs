//! The functions that Prometheus gives to the templates of rules and consoles.

use super::Parameter::{Any, Sample, Samples, String as Text};
use super::{Call, Code, Form, Function, Parameter};
use crate::value::Value;

const fn function(name: &'static str, parameters: &'static [Parameter], code: Code) -> Function {
    Function { name, parameters, variadic: None, form: Form::Plain, code }
}

/// All of them.
pub static FUNCTIONS: &[Function] = &[
    function("query", &[Text], missing),
    function("first", &[Samples], missing),
    function("label", &[Text, Sample], missing),
    function("value", &[Sample], missing),
    function("strvalue", &[Sample], missing),
    Function { name: "args", parameters: &[], variadic: Some(Any), form: Form::Plain, code: missing },
    function("reReplaceAll", &[Text, Text, Text], missing),
    function("safeHtml", &[Text], missing),
    function("match", &[Text, Text], missing),
    function("title", &[Text], missing),
    function("toUpper", &[Text], missing),
    function("toLower", &[Text], missing),
    function("graphLink", &[Text], missing),
    function("tableLink", &[Text], missing),
    function("sortByLabel", &[Text, Samples], missing),
    function("stripPort", &[Text], missing),
    function("stripDomain", &[Text], missing),
    function("humanize", &[Any], missing),
    function("humanize1024", &[Any], missing),
    function("humanizeDuration", &[Any], missing),
    function("humanizePercentage", &[Any], missing),
    function("humanizeTimestamp", &[Any], missing),
    function("toTime", &[Any], missing),
    function("toDuration", &[Any], missing),
    function("now", &[], missing),
    function("pathPrefix", &[], missing),
    function("externalURL", &[], missing),
    function("parseDuration", &[Text], missing),
    function("urlQueryEscape", &[Text], missing),
];

fn missing(_: &mut Call<'_>, _: Vec<Value>) -> Result<Value, String> {
    Err("not written yet".to_string())
}
