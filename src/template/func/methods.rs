//! Methods that templates may call on values, by an explicit list: those of times, durations and histograms.

use super::Function;
use crate::value::Value;

/// The method `name` of `receiver`. Its code gets the receiver as the first value, before the arguments;
/// [`Function::parameters`] leaves it out.
pub fn method(receiver: &Value, name: &str) -> Option<&'static Function> {
    let _ = (receiver, name);
    None
}
