//! What aliases may cost, so that a small text does not become a large tree.

use tsdbctl_model::Span;

use crate::{Node, Value, YamlError};

/// Bytes of text that aliases may add to a tree.
const ALIAS_BYTES_LIMIT: usize = 64 << 20;

/// What aliases may cost: go-yaml's share of all nodes, and an amount of text.
#[derive(Default)]
pub(crate) struct Budget {
    /// All that were read.
    pub(crate) nodes: usize,
    alias_nodes: usize,
    alias_bytes: usize,
    kept_nodes: usize,
}

/// What a tree is made of.
#[derive(Default)]
struct Size {
    nodes: usize,
    /// Bytes of text.
    bytes: usize,
    /// Collections within each other.
    depth: usize,
}

impl Size {
    fn of(node: &Node) -> Self {
        let mut size = Self::default();
        let mut waiting = vec![(node, 0)];
        while let Some((node, around)) = waiting.pop() {
            size.nodes += 1;
            if let Value::Scalar(scalar) = &node.value {
                size.bytes += scalar.text.len();
                continue;
            }
            let depth = around + 1;
            size.depth = size.depth.max(depth);
            waiting.extend(node.elements().iter().map(|node| (node, depth)));
            let both = node.entries().iter().flat_map(|entry| [&entry.key, &entry.value]);
            waiting.extend(both.map(|node| (node, depth)));
        }
        size
    }
}

impl Budget {
    /// An anchored node is copied, also within others that are.
    pub(crate) fn keep(&mut self, node: &Node) -> Result<(), YamlError> {
        let Size { nodes, bytes, .. } = Size::of(node);
        self.kept_nodes += nodes;
        self.alias_bytes += bytes;
        if self.kept_nodes > 1_000_000 || self.alias_bytes > ALIAS_BYTES_LIMIT {
            return Err(YamlError::without_line("document contains excessive aliasing", node.span));
        }
        Ok(())
    }

    /// An alias stands for the node; the depth of that.
    pub(crate) fn spend(&mut self, node: &Node, span: Span) -> Result<usize, YamlError> {
        let Size { nodes, bytes, depth } = Size::of(node);
        self.nodes += nodes;
        self.alias_nodes += nodes;
        self.alias_bytes += bytes;
        // go-yaml's rule: up to 400,000 nodes 99 in 100 may come from aliases, from 4,000,000 on 1 in 10.
        let share = match self.nodes {
            ..=400_000 => 0.99,
            4_000_000.. => 0.10,
            nodes => 0.99 - 0.89 * ((nodes - 400_000) as f64 / 3_600_000.0),
        };
        let too_many = self.alias_nodes > 100
            && self.nodes > 1000
            && self.alias_nodes as f64 / self.nodes as f64 > share;
        if too_many || self.alias_bytes > ALIAS_BYTES_LIMIT {
            return Err(YamlError::without_line("document contains excessive aliasing", span));
        }
        Ok(depth)
    }
}
