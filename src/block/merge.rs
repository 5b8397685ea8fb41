//! Several sources as one: series in label order, chunks copied where they do not overlap, decoded, merged and encoded
//! anew where they do.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_storage::{ChunkBatch, ChunkSource, LabelRef, Loss, StorageError};

use crate::chunk_merge::{BadChunk, ChunkMerger, is_in_order};
use crate::first_wins::{self, Conflicts};
use crate::heap;

/// Several sources as one.
pub struct MergedSource {
    inputs: Vec<Input>,
    /// Not kept of a single source, whose symbols are those.
    symbols: Strings,
    /// Inputs that have a series left, by its labels.
    heap: Vec<u32>,
    /// Inputs that have the current series, as they came out of the heap.
    current: Vec<u32>,
    /// The same by their number, and where their chunks end in the batch.
    ends: Vec<(u32, usize)>,
    started: bool,
    scratch: ChunkBatch,
    merger: ChunkMerger,
    /// If the first source's samples are to be kept.
    conflicts: Option<Arc<Conflicts>>,
}

struct Input {
    source: Box<dyn ChunkSource>,
    /// From its symbols to those of all.
    places: Vec<u32>,
    /// Labels of its current series in symbols of all.
    labels: Vec<LabelRef>,
}

impl Input {
    fn advance(&mut self) -> Result<bool, StorageError> {
        if !self.source.next()? {
            return Ok(false);
        }
        let place = |i: u32| self.places[i as usize];
        self.labels.clear();
        self.labels.extend(self.source.labels().iter().map(|(name, value)| (place(*name), place(*value))));
        Ok(true)
    }
}

impl MergedSource {
    /// Merges sources. Chunks that are the same in several are kept once. Of samples with the same time one is kept,
    /// always the same one and the one that upstream keeps, see `chunk_merge`.
    ///
    /// # Errors
    /// If symbols cannot be read.
    pub fn new(mut sources: Vec<Box<dyn ChunkSource>>) -> Result<Self, StorageError> {
        let mut symbols = Strings::default();
        let single = sources.len() == 1;
        if !single {
            for source in &mut sources {
                symbols.add_all(&mut **source)?;
            }
        }
        let mut inputs = Vec::with_capacity(sources.len());
        for mut source in sources {
            let places = if single { Vec::new() } else { symbols.places(&mut *source)? };
            inputs.push(Input { source, places, labels: Vec::new() });
        }
        Ok(Self {
            inputs,
            symbols,
            heap: Vec::new(),
            current: Vec::new(),
            ends: Vec::new(),
            started: false,
            scratch: ChunkBatch::default(),
            merger: ChunkMerger::default(),
            conflicts: None,
        })
    }

    /// Merges sources that have nothing to do with each other: of samples with the same time the first source's is kept,
    /// and the others are counted.
    ///
    /// # Errors
    /// If symbols cannot be read.
    pub fn first_wins(
        sources: Vec<Box<dyn ChunkSource>>,
        conflicts: Arc<Conflicts>,
    ) -> Result<Self, StorageError> {
        Ok(Self { conflicts: Some(conflicts), ..Self::new(sources)? })
    }

    fn less(inputs: &[Input]) -> impl Fn(&u32, &u32) -> bool {
        |a, b| inputs[*a as usize].labels < inputs[*b as usize].labels
    }

    fn advance(&mut self, i: u32) -> Result<(), StorageError> {
        if self.inputs[i as usize].advance()? {
            heap::push(&mut self.heap, i, Self::less(&self.inputs));
        }
        Ok(())
    }

    /// Merges the chunks from `from` on, which are out of order or overlap.
    fn merge(&mut self, from: usize, out: &mut ChunkBatch) -> Result<(), StorageError> {
        self.scratch.clear();
        if from == 0 {
            std::mem::swap(&mut self.scratch, out);
        } else {
            out.iter().skip(from).for_each(|c| self.scratch.push(c));
            out.truncate(from);
        }
        if let Some(conflicts) = &self.conflicts {
            let starts = std::iter::once(from).chain(self.ends.iter().map(|e| e.1));
            let lists: Vec<_> =
                starts.zip(&self.ends).map(|(start, (_, end))| start - from..end - from).collect();
            return first_wins::join(&self.scratch, &lists, conflicts, out)
                .map_err(|bad| self.explain(bad, from));
        }
        self.merger.begin();
        for input in &self.current {
            // Few have the same series; the list is short.
            let Some(i) = self.ends.iter().position(|e| e.0 == *input) else { continue };
            let start = if i == 0 { from } else { self.ends[i - 1].1 };
            self.merger.add(&self.scratch, start - from..self.ends[i].1 - from);
        }
        let merged = self.merger.run(&self.scratch, out);
        merged.map_err(|bad| self.explain(bad, from))
    }

    fn explain(&self, bad: BadChunk, from: usize) -> StorageError {
        let BadChunk { place, reason } = bad;
        let input = self.ends.iter().find(|e| place + from < e.1).map_or(0, |e| e.0);
        let file = self.inputs[input as usize].source.origin().to_owned();
        let mint = self.scratch.get(place).mint;
        let reason = format!("chunk of a series that begins at {mint} ms: {reason}");
        Loss { file, offset: 0, reason }.into()
    }
}

impl ChunkSource for MergedSource {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match &mut *self.inputs {
            [single] => single.source.symbols(each),
            _ => (0..self.symbols.len()).try_for_each(|i| each(self.symbols.get(i))),
        }
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        if let [single] = &mut *self.inputs {
            return single.source.next();
        }
        if self.started {
            for i in 0..self.current.len() {
                self.advance(self.current[i])?;
            }
        } else {
            self.started = true;
            for i in 0..self.inputs.len() {
                self.advance(i as u32)?;
            }
        }
        self.current.clear();
        while let Some(top) = self.heap.first() {
            if let Some(first) = self.current.first()
                && self.inputs[*first as usize].labels != self.inputs[*top as usize].labels
            {
                break;
            }
            self.current.extend(heap::pop(&mut self.heap, Self::less(&self.inputs)));
        }
        Ok(!self.current.is_empty())
    }

    fn labels(&self) -> &[LabelRef] {
        match (&*self.inputs, self.current.first()) {
            ([single], _) => single.source.labels(),
            (inputs, Some(i)) => &inputs[*i as usize].labels,
            (_, None) => &[],
        }
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        if let [single] = &mut *self.inputs {
            return single.source.chunks(out);
        }
        let from = out.len();
        self.ends.clear();
        self.ends.extend(self.current.iter().map(|i| (*i, 0)));
        self.ends.sort_unstable();
        for (i, end) in &mut self.ends {
            self.inputs[*i as usize].source.chunks(out)?;
            *end = out.len();
        }
        if is_in_order(out, from) { Ok(()) } else { self.merge(from, out) }
    }

    fn origin(&self) -> &Path {
        self.inputs.first().map_or(Path::new(""), |i| i.source.origin())
    }
}

/// Sorted strings in one piece of memory.
#[derive(Debug, Default)]
struct Strings {
    text: String,
    ends: Vec<u32>,
}

impl Strings {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.text[start..self.ends[i] as usize]
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
    }

    /// Adds the symbols of a source. Those that are missing are counted first: mostly there are few or none, and what is
    /// there is copied once at most.
    fn add_all(&mut self, source: &mut dyn ChunkSource) -> Result<(), StorageError> {
        let (mut count, mut bytes) = (self.len(), self.text.len());
        let mut at = 0;
        source.symbols(&mut |s| {
            if !self.find_from(&mut at, s) {
                count += 1;
                bytes += s.len();
            }
            Ok(())
        })?;
        if count == self.len() {
            return Ok(());
        }
        if u32::try_from(bytes).is_err() {
            return Err(StorageError::Unsupported {
                file: Path::new("").to_owned(),
                reason: "strings of labels of all blocks together are more than 4 GiB, which an index cannot hold; merge fewer blocks"
                    .to_string(),
            });
        }
        let mut both = Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(count) };
        let mut at = 0;
        source.symbols(&mut |s| {
            let from = at;
            let is_there = self.find_from(&mut at, s);
            (from..at).for_each(|i| both.push(self.get(i)));
            if !is_there {
                both.push(s);
            }
            Ok(())
        })?;
        (at..self.len()).for_each(|i| both.push(self.get(i)));
        *self = both;
        Ok(())
    }

    /// Goes on from a place to that of a string, or of the next if it is not there; whether it is.
    #[inline]
    fn find_from(&self, at: &mut usize, s: &str) -> bool {
        while *at < self.len() {
            match self.get(*at).cmp(s) {
                Ordering::Less => *at += 1,
                Ordering::Equal => return true,
                Ordering::Greater => return false,
            }
        }
        false
    }

    /// The places of a source's symbols, all of which were added.
    fn places(&self, source: &mut dyn ChunkSource) -> Result<Vec<u32>, StorageError> {
        let mut places = Vec::new();
        let mut at = 0;
        source.symbols(&mut |s| {
            self.find_from(&mut at, s);
            places.push(at as u32);
            Ok(())
        })?;
        places.shrink_to_fit();
        Ok(places)
    }
}
