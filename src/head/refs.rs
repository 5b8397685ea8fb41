//! Which slot a series reference has: a table by reference, paged because references are dense in practice
//! and anything in a hostile file.

use hashbrown::HashMap;

/// Small pages, because of the references of a fleet with churn few are left in most.
const PAGE_BITS: u32 = 9;
const PAGE: usize = 1 << PAGE_BITS;
/// References from here on go to the hash map.
const DENSE_LIMIT: u64 = 1 << 32;
const NONE: u32 = u32::MAX;

/// References to slots. References of series that are not wanted take no space but for a page's empty cells.
#[derive(Default)]
pub struct RefTable {
    pages: HashMap<u32, u32>,
    last: Option<(u32, u32)>,
    cells: Vec<[u32; PAGE]>,
    sparse: HashMap<u64, u32>,
}

impl RefTable {
    /// The slot of a reference.
    #[inline]
    pub fn get(&mut self, series: u64) -> Option<u32> {
        let slot = if series < DENSE_LIMIT {
            let page = (series >> PAGE_BITS) as u32;
            let at = match self.last {
                Some((p, at)) if p == page => at,
                _ => {
                    let at = self.pages.get(&page).copied().unwrap_or(NONE);
                    self.last = Some((page, at));
                    at
                }
            };
            if at == NONE {
                return None;
            }
            self.cells[at as usize][series as usize % PAGE]
        } else {
            self.sparse.get(&series).copied().unwrap_or(NONE)
        };
        (slot != NONE).then_some(slot)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<[u32; PAGE]>()
            + self.pages.capacity() * 9
            + self.sparse.capacity() * 17
    }

    /// Gives a reference a slot.
    pub fn set(&mut self, series: u64, slot: u32) {
        if series >= DENSE_LIMIT {
            self.sparse.insert(series, slot);
            return;
        }
        let page = (series >> PAGE_BITS) as u32;
        let cells = &mut self.cells;
        let at = *self.pages.entry(page).or_insert_with(|| {
            cells.push([NONE; PAGE]);
            cells.len() as u32 - 1
        });
        self.last = None;
        cells[at as usize][series as usize % PAGE] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_any_size_have_slots() {
        let mut t = RefTable::default();
        let refs = [0, 1, 4095, 4096, 1 << 20, (1 << 32) - 1, 1 << 32, u64::MAX];
        for (slot, r) in refs.iter().enumerate() {
            assert_eq!(t.get(*r), None);
            t.set(*r, slot as u32);
        }
        for (slot, r) in refs.iter().enumerate() {
            assert_eq!(t.get(*r), Some(slot as u32));
        }
        let bytes = t.bytes();
        assert!((4 * PAGE * 4..10 * PAGE * 4).contains(&bytes), "{bytes}");
        t.set(4096, 77);
        assert_eq!((t.get(4096), t.get(4097)), (Some(77), None));
    }
}
