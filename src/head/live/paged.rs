//! A list that grows by pages: nothing is copied and no more than a page is held in advance.

const SHIFT: u32 = 10;
const PAGE: usize = 1 << SHIFT;

/// The list.
#[derive(Debug)]
pub struct Paged<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Paged<T> {
    /// Adds an item.
    pub fn push(&mut self, item: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => page.push(item),
            _ => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(item);
                self.pages.push(page);
            }
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    /// An item.
    #[inline]
    pub fn get(&self, i: u32) -> Option<&T> {
        self.pages.get((i >> SHIFT) as usize)?.get(i as usize & (PAGE - 1))
    }

    /// An item, to change.
    #[inline]
    pub fn get_mut(&mut self, i: u32) -> Option<&mut T> {
        self.pages.get_mut((i >> SHIFT) as usize)?.get_mut(i as usize & (PAGE - 1))
    }

    /// All items, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten()
    }

    /// Bytes held, without what the items point to.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(|p| p.capacity() * size_of::<T>()).sum::<usize>()
            + self.pages.capacity() * size_of::<Vec<T>>()
    }
}

/// Numbers of live ids, [`NONE`](super::arena::NONE) for others. Ids only grow; pages without live ids are given back.
#[derive(Debug, Default)]
pub struct Places {
    pages: Vec<PlacePage>,
    len: u32,
}

#[derive(Debug, Default)]
struct PlacePage {
    /// Empty if none is alive any more.
    places: Vec<u32>,
    live: u32,
}

impl Places {
    /// Ids given so far.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Gives the next id a place.
    pub fn push(&mut self, place: u32) {
        if (self.len as usize).is_multiple_of(PAGE) {
            self.pages.push(PlacePage { places: Vec::with_capacity(PAGE), live: 0 });
        }
        if let Some(page) = self.pages.last_mut() {
            page.places.push(place);
            page.live += 1;
        }
        self.len += 1;
    }

    /// The place of an id.
    #[inline]
    pub fn get(&self, id: u32) -> u32 {
        let page = self.pages.get((id >> SHIFT) as usize);
        page.and_then(|p| p.places.get(id as usize & (PAGE - 1))).copied().unwrap_or(super::arena::NONE)
    }

    /// Takes the place of an id away.
    pub fn clear(&mut self, id: u32) {
        let is_last = (id >> SHIFT) as usize + 1 == self.pages.len();
        let Some(page) = self.pages.get_mut((id >> SHIFT) as usize) else { return };
        let Some(place) = page.places.get_mut(id as usize & (PAGE - 1)) else { return };
        if *place == super::arena::NONE {
            return;
        }
        *place = super::arena::NONE;
        page.live -= 1;
        // A page that is still filled keeps its length.
        if page.live == 0 && (!is_last || page.places.len() == PAGE) {
            page.places = Vec::new();
        }
    }

    /// Live ids with their places, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        let pages = self.pages.iter().enumerate().filter(|(_, p)| p.live > 0);
        let all = pages
            .flat_map(|(n, p)| (0u32..).map(move |i| (n as u32) << SHIFT | i).zip(p.places.iter().copied()));
        all.filter(|(_, place)| *place != super::arena::NONE)
    }

    /// The places of live ids, to change to others.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut u32> {
        let live = self.pages.iter_mut().filter(|p| p.live > 0);
        live.flat_map(|p| &mut p.places).filter(|place| **place != super::arena::NONE)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(|p| p.places.capacity() * 4).sum::<usize>()
            + self.pages.capacity() * size_of::<PlacePage>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::arena::NONE;

    #[test]
    fn places_of_removed_ids_are_given_back_by_pages() {
        let mut places = Places::default();
        (0..10_000).for_each(|i| places.push(i * 2));
        (0..5000).for_each(|i| places.clear(i));
        assert_eq!(
            (places.get(4999), places.get(5000), places.get(9999), places.get(10_000)),
            (NONE, 10_000, 19_998, NONE)
        );
        assert_eq!(places.iter().count(), 5000);
        assert!(places.bytes() < 7 * PAGE * 4, "{}", places.bytes());
        // All of them, the page being filled too; the next id goes on behind.
        (0..10_000).for_each(|i| places.clear(i));
        places.push(7);
        assert_eq!(
            (places.len(), places.get(10_000), places.iter().collect::<Vec<_>>()),
            (10_001, 7, vec![(10_000, 7)])
        );
    }
}
