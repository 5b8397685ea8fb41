//! A drawing as PNG.

use super::Drawing;

/// The whole file.
///
/// # Errors
/// Always, for now.
pub fn render(_: &Drawing) -> anyhow::Result<Vec<u8>> {
    anyhow::bail!("not yet")
}
