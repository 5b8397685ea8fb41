//! Memory of one size: blocks of 64 or of 32 bytes in pages, with free lists. What is freed feeds the neighbours, nothing
//! is copied when a series grows, and pages never move. Pages without a block in use are given back.

/// Bytes of a block that hold data; four more link it to the block before.
pub const BLOCK_DATA: usize = 60;
/// No block.
pub const NONE: u32 = u32::MAX;

/// Bytes of half a block that hold data.
pub const HALF_BLOCK_DATA: usize = 28;

/// Blocks of a page: 64 KiB, or half of that.
const PAGE: usize = 1024;
/// No free block in a page.
const NO_FREE: u16 = u16::MAX;

/// A cache line of a chain.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Block {
    /// Content.
    pub data: [u8; BLOCK_DATA],
    /// The block before this one, or [`NONE`].
    pub before: u32,
}

/// Half a cache line of a chain.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub struct HalfBlock {
    /// Content.
    pub data: [u8; HALF_BLOCK_DATA],
    /// The block before this one, or [`NONE`].
    pub before: u32,
}

const _: () = assert!(size_of::<Block>() == 64 && size_of::<HalfBlock>() == 32);

/// What a pool is made of.
pub trait Link: Copy {
    /// One without content.
    const EMPTY: Self;
    /// The block before this one, or [`NONE`].
    fn before(&mut self) -> &mut u32;
}

impl Link for Block {
    const EMPTY: Self = Self { data: [0; BLOCK_DATA], before: NONE };

    #[inline]
    fn before(&mut self) -> &mut u32 {
        &mut self.before
    }
}

impl Link for HalfBlock {
    const EMPTY: Self = Self { data: [0; HALF_BLOCK_DATA], before: NONE };

    #[inline]
    fn before(&mut self) -> &mut u32 {
        &mut self.before
    }
}

#[derive(Debug)]
struct Page<B> {
    /// None if it was given back.
    blocks: Box<[B]>,
    /// First free block that was in use before; each leads to the next by `before`.
    free: u16,
    /// Blocks from here on were never used.
    fresh: u16,
    /// Blocks in use.
    used: u16,
    /// Whether it is in the list of pages with room.
    listed: bool,
}

impl<B> Page<B> {
    fn new(blocks: Box<[B]>, listed: bool) -> Self {
        Self { blocks, free: NO_FREE, fresh: 0, used: 0, listed }
    }
}

/// Whole blocks of one shard.
pub type BlockPool = Pool<Block>;
/// Half blocks of one shard.
pub type HalfBlockPool = Pool<HalfBlock>;

/// Blocks of one shard.
#[derive(Debug)]
pub struct Pool<B> {
    pages: Vec<Page<B>>,
    /// Pages that may have room, the one to take from last.
    with_room: Vec<u32>,
    /// Numbers of pages that were given back.
    vacant: Vec<u32>,
    /// Pages without a block in use.
    empty: usize,
    used: usize,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { pages: Vec::new(), with_room: Vec::new(), vacant: Vec::new(), empty: 0, used: 0 }
    }
}

impl<B: Link> Pool<B> {
    /// A block, its data as it was left, `before` as given.
    #[inline]
    pub fn take(&mut self, before: u32) -> u32 {
        loop {
            let Some(number) = self.with_room.last().copied() else {
                self.add_page();
                continue;
            };
            let page = &mut self.pages[number as usize];
            let slot = if page.free != NO_FREE {
                let slot = page.free;
                page.free = *page.blocks[usize::from(slot)].before() as u16;
                slot
            } else if usize::from(page.fresh) < page.blocks.len() {
                page.fresh += 1;
                page.fresh - 1
            } else {
                page.listed = false;
                self.with_room.pop();
                continue;
            };
            if page.used == 0 {
                self.empty -= 1;
            }
            page.used += 1;
            self.used += 1;
            *page.blocks[usize::from(slot)].before() = before;
            return number << 10 | u32::from(slot);
        }
    }

    #[cold]
    fn add_page(&mut self) {
        let page = Page::new(vec![B::EMPTY; PAGE].into_boxed_slice(), true);
        let number = match self.vacant.pop() {
            Some(number) => {
                self.pages[number as usize] = page;
                number
            }
            None => {
                self.pages.push(page);
                (self.pages.len() - 1) as u32
            }
        };
        self.empty += 1;
        self.with_room.push(number);
    }

    /// Gives a chain back, from its last block on.
    pub fn free_chain(&mut self, last: u32) {
        let mut block = last;
        while block != NONE {
            block = self.free(block);
        }
    }

    /// Gives one block back; the one before it.
    fn free(&mut self, block: u32) -> u32 {
        let number = block >> 10;
        let page = &mut self.pages[number as usize];
        let slot = (block & 1023) as u16;
        let place = &mut page.blocks[usize::from(slot)];
        let before = std::mem::replace(place.before(), u32::from(page.free));
        page.free = slot;
        page.used -= 1;
        self.used -= 1;
        if !page.listed {
            page.listed = true;
            self.with_room.push(number);
        }
        if page.used == 0 {
            self.empty += 1;
            // One page in eight may wait for use; what is more goes back.
            if self.empty > 1 + (self.pages.len() - self.vacant.len()) / 8 {
                self.pages[number as usize] = Page::new(Box::default(), false);
                self.empty -= 1;
                self.vacant.push(number);
                self.with_room.retain(|n| *n != number);
            }
        }
        before
    }

    /// A block.
    #[inline]
    pub fn get(&self, block: u32) -> &B {
        &self.pages[(block >> 10) as usize].blocks[(block & 1023) as usize]
    }

    /// A block, to change.
    #[inline]
    pub fn get_mut(&mut self, block: u32) -> &mut B {
        &mut self.pages[(block >> 10) as usize].blocks[(block & 1023) as usize]
    }

    /// Blocks in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes of all pages.
    pub fn bytes(&self) -> usize {
        (self.pages.len() - self.vacant.len()) * PAGE * size_of::<B>()
            + self.pages.capacity() * size_of::<Page<B>>()
            + (self.with_room.capacity() + self.vacant.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_kept_apart_reused_and_given_back() {
        let mut pool = BlockPool::default();
        let mut chains: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut x = 7u64;
        for round in 0..60_000u32 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (x >> 33) as usize;
            // Grows to some thousand chains, then shrinks.
            let grows =
                round < 30_000 && !pick.is_multiple_of(5) || pick.is_multiple_of(5) && round >= 30_000;
            if grows || chains.is_empty() {
                if pick.is_multiple_of(3) || chains.is_empty() {
                    chains.push((NONE, Vec::new()));
                }
                let i = pick % chains.len();
                let (last, content) = &mut chains[i];
                *last = pool.take(*last);
                pool.get_mut(*last).data[17] = round as u8;
                content.push(round as u8);
            } else {
                let (last, content) = chains.swap_remove(pick % chains.len());
                let mut block = last;
                for byte in content.iter().rev() {
                    assert_eq!(pool.get(block).data[17], *byte);
                    block = pool.get(block).before;
                }
                assert_eq!(block, NONE);
                pool.free_chain(last);
            }
            assert_eq!(pool.used(), chains.iter().map(|c| c.1.len()).sum::<usize>());
        }
        let peak = pool.bytes();
        for (last, _) in chains.drain(..) {
            pool.free_chain(last);
        }
        assert_eq!(pool.used(), 0);
        assert!(pool.bytes() < 3 * 65_536 + 8192, "{} of {peak}", pool.bytes());
        let block = pool.take(NONE);
        assert_eq!(pool.get(block).before, NONE);
    }
}
