//! Which place a block's symbols have among its strings in order. Writers put them down sorted, and series name them by
//! ordinal, so that mostly nothing is to be kept; indices of version 1 name them by offset, their tables in any order.

use tsdbctl_storage::StorageError;

use crate::index::{Damage, Index};

/// From the names that series entries give to symbols to places in order.
#[derive(Debug)]
pub(crate) enum Names {
    /// The ordinals are the places, of so many.
    AsTheyAre(u32),
    /// Symbols by name, sorted, and their places.
    Mapped(Vec<(u32, u32)>),
}

impl Names {
    /// The place of a symbol; `None` if it is not there.
    #[inline]
    pub(crate) fn place(&self, name: u32) -> Option<u32> {
        match self {
            Self::AsTheyAre(count) => (name < *count).then_some(name),
            Self::Mapped(places) => {
                let i = places.binary_search_by_key(&name, |p| p.0).ok()?;
                Some(places[i].1)
            }
        }
    }
}

/// The symbols of a block in order.
#[derive(Debug)]
pub(crate) struct SymbolOrder {
    pub(crate) names: Names,
    /// Names of the symbols in order, each string once; not kept where all are, in the table's order.
    in_order: Option<Vec<u32>>,
}

impl SymbolOrder {
    /// All symbols of an index.
    pub(crate) fn of_all(index: &Index) -> Result<Self, StorageError> {
        let mut last = String::new();
        let (mut sorted, mut count) = (true, 0u32);
        let mut all = Vec::new();
        let by_ordinal = index.version() > 1;
        index.each_symbol(|name, text| {
            sorted &= count == 0 || *last < *text;
            last.clear();
            last.push_str(text);
            count += 1;
            if !by_ordinal {
                all.push(name);
            }
            Ok(())
        })?;
        if by_ordinal && sorted {
            return Ok(Self { names: Names::AsTheyAre(count), in_order: None });
        }
        if by_ordinal {
            all = (0..count).collect();
        }
        Self::of_some(index, all)
    }

    /// Those symbols alone; `names` are sorted, each once.
    pub(crate) fn of_some(index: &Index, names: Vec<u32>) -> Result<Self, StorageError> {
        let mut texts: Vec<(&str, u32)> = Vec::with_capacity(names.len());
        for name in names {
            texts.push((index.symbol(name)?, name));
        }
        texts.sort_unstable();
        let mut places = Vec::with_capacity(texts.len());
        let mut in_order: Vec<u32> = Vec::with_capacity(texts.len());
        let mut last = None;
        for (text, name) in texts {
            if last != Some(text) {
                in_order.push(name);
                last = Some(text);
            }
            places.push((name, in_order.len() as u32 - 1));
        }
        places.sort_unstable();
        Ok(Self { names: Names::Mapped(places), in_order: Some(in_order) })
    }

    /// Calls `each` with the strings in order.
    pub(crate) fn each(
        &self,
        index: &Index,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match &self.in_order {
            Some(names) => names.iter().try_for_each(|name| each(index.symbol(*name)?)),
            None => index.each_symbol(|_, text| each(text)),
        }
    }
}

impl Index {
    /// Calls `each` with the name that series entries give to a symbol and its string, in the table's order.
    pub(crate) fn each_symbol(
        &self,
        mut each: impl FnMut(u32, &str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (mut table, start) = self.symbol_table()?;
        let cut = |at: usize| self.corrupt(Damage::at(start + at, "symbol table is cut short"));
        let count = table.be32().ok_or_else(|| cut(0))?;
        for ordinal in 0..count {
            let at = table.pos();
            let bytes = table.uvarint_bytes().ok_or_else(|| cut(at))?;
            let Ok(text) = std::str::from_utf8(bytes) else {
                return Err(self.corrupt(Damage::at(start + at, "symbol is not UTF-8")));
            };
            each(if self.version() == 1 { (start + at) as u32 } else { ordinal }, text)?;
        }
        self.check_intact()
    }
}
