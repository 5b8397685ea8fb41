//! Memory of one size: blocks of 64 bytes in pages, with a free list. What is freed feeds the neighbours, nothing is
//! copied when a series grows, and pages never move.

/// Bytes of a block that hold data; four more link it to the block before.
pub const BLOCK_DATA: usize = 60;
/// No block.
pub const NONE: u32 = u32::MAX;

/// A cache line of a chain.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Block {
    /// Content.
    pub data: [u8; BLOCK_DATA],
    /// The block before this one, or [`NONE`].
    pub before: u32,
}

/// Blocks of one shard.
#[derive(Debug, Default)]
pub struct BlockPool {}

impl BlockPool {
    /// A block, its data as it was left, `before` as given.
    pub fn take(&mut self, before: u32) -> u32 {
        let _ = before;
        todo!()
    }

    /// Gives a chain back, from its last block on.
    pub fn free_chain(&mut self, last: u32) {
        let _ = last;
        todo!()
    }

    /// A block.
    pub fn get(&self, block: u32) -> &Block {
        let _ = block;
        todo!()
    }

    /// A block, to change.
    pub fn get_mut(&mut self, block: u32) -> &mut Block {
        let _ = block;
        todo!()
    }

    /// Bytes of all pages.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}
