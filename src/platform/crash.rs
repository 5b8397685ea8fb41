//! What a crash may leave on the disk, from a recording of what was done, for tests.
//!
//! A power cut keeps only what was synced for sure: a file's bytes and length by [`crate::disk::DiskFile::sync_data`],
//! a directory's names by [`crate::disk::Disk::sync_dir`]. Everything later is pending, and each pending thing may be
//! there or not, in any combination; of a write also its length alone (zeros) or some of its sectors. What was
//! pending when a sync failed stays pending for ever: the system shows it, but no later sync writes it. A rename is
//! there as a whole or not at all, and pending until all directories it concerns were synced.
//!
//! A killed process loses nothing the system took, and the write it was in may be cut anywhere.

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file::FileError;
use crate::random::Generator;
use crate::recorder::{Action, Op, Place, ROOT, Recording};

/// What a disk writes as a whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// The images that crashes during a recording may leave.
#[derive(Clone, Copy, Debug)]
pub struct CrashImages<'a> {
    recording: &'a Recording,
}

/// One content the directory may have after a crash.
#[derive(Clone, Debug)]
pub struct Image {
    /// How many calls were over at the crash; the image may have parts of all of them.
    pub ops: usize,
    /// How many of these were marks.
    pub marks: usize,
    what: String,
    names: Names,
    /// Beside the names; `None` for directories.
    contents: Vec<Option<Arc<Content>>>,
    hash: u64,
}

/// Bytes of a file.
#[derive(Debug)]
struct Content {
    bytes: Arc<Vec<u8>>,
    hash: u64,
}

impl Content {
    fn new(bytes: Arc<Vec<u8>>) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        Self { bytes, hash: hasher.finish() }
    }
}

/// Whether something done is on the disk for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The next sync settles it.
    Pending,
    /// It is.
    Settled,
    /// A sync of it failed: no other settles it.
    Lost,
}

#[derive(Clone, Debug)]
enum Edit {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

#[derive(Clone, Debug)]
struct FileItem {
    op: usize,
    edit: Edit,
    standing: Standing,
}

#[derive(Clone, Debug, Default)]
struct FileState {
    /// On the disk for sure.
    base: Arc<Vec<u8>>,
    /// What was done since, in order; the first is not settled.
    items: Vec<FileItem>,
}

#[derive(Clone, Debug)]
struct NameItem {
    op: usize,
    edits: Vec<(Place, Option<u64>)>,
    /// Directories whose sync it waits for.
    waits: Vec<u64>,
    standing: Standing,
}

/// Paths and numbers, directories before what is in them.
type Names = Arc<Vec<(PathBuf, u64)>>;

/// Names and numbers, by the number of their directory.
type Dirs = BTreeMap<u64, BTreeMap<String, u64>>;

#[derive(Clone, Debug)]
struct State {
    /// On the disk for sure.
    dirs: Dirs,
    /// What was done since, in order; the first is not settled.
    names: Vec<NameItem>,
    files: BTreeMap<u64, FileState>,
    marks: usize,
}

/// What of a pending thing is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kept {
    No,
    Yes,
    /// Of a write the length, of anything else nothing.
    Zeros,
    /// Of a write the first bytes; with the whole length or cut there.
    Head {
        bytes: usize,
        zeros: bool,
    },
    /// Of a write the length and some sectors.
    Sectors(u64),
}

/// A pending thing.
#[derive(Clone, Copy, Debug)]
enum Item {
    Name(usize),
    File(u64, usize),
}

/// What is done about content where names are kept in order.
#[derive(Clone, Copy, Debug)]
enum Data {
    All,
    None,
    Zeros,
    /// What was done before the first name that is missing.
    Before,
}

/// Which pending things an image has.
#[derive(Clone, Copy, Debug)]
enum Variant {
    Nothing,
    All,
    Names,
    Data,
    Zeros,
    AllBut(usize),
    Only(usize),
    Torn(usize, Kept),
    Ordered(usize, Data),
    Subset(u64, u64),
}

impl FileState {
    fn fold(&mut self) {
        let settled = self.items.iter().take_while(|item| item.standing == Standing::Settled).count();
        if settled > 0 {
            let base = Arc::make_mut(&mut self.base);
            for item in self.items.drain(..settled) {
                item.edit.apply(base, Kept::Yes);
            }
        }
    }

    /// The content if the pending things are there as told, settled ones being there anyway.
    fn content(&self, mut kept: impl FnMut(usize) -> Kept) -> Arc<Vec<u8>> {
        if self.items.is_empty() {
            return Arc::clone(&self.base);
        }
        let mut bytes = (*self.base).clone();
        for (i, item) in self.items.iter().enumerate() {
            let kept = if item.standing == Standing::Settled { Kept::Yes } else { kept(i) };
            item.edit.apply(&mut bytes, kept);
        }
        Arc::new(bytes)
    }
}

/// Where sectors end inside a write, as positions in its bytes.
fn sector_ends(offset: u64, len: usize) -> impl ExactSizeIterator<Item = usize> {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES) as usize;
    let sector = SECTOR_BYTES as usize;
    let count = len.saturating_sub(first).div_ceil(sector);
    (0..count).map(move |i| first + i * sector)
}

impl Edit {
    fn apply(&self, file: &mut Vec<u8>, kept: Kept) {
        match self {
            Self::SetLen(bytes) if kept == Kept::Yes => file.resize(*bytes as usize, 0),
            Self::SetLen(_) => {}
            Self::Write { offset, bytes } => {
                let put = |file: &mut Vec<u8>, part: Range<usize>| {
                    let start = *offset as usize + part.start;
                    file[start..start + part.len()].copy_from_slice(&bytes[part]);
                };
                let reach = match kept {
                    Kept::No => return,
                    Kept::Head { bytes, zeros: false } => bytes,
                    _ => bytes.len(),
                };
                if file.len() < *offset as usize + reach {
                    file.resize(*offset as usize + reach, 0);
                }
                match kept {
                    Kept::No | Kept::Zeros => {}
                    Kept::Yes => put(file, 0..bytes.len()),
                    Kept::Head { bytes, .. } => put(file, 0..bytes),
                    Kept::Sectors(seed) => {
                        let mut generator = Generator::new(seed);
                        let mut start = 0;
                        for end in sector_ends(*offset, bytes.len()).chain([bytes.len()]) {
                            if generator.one_in(2) {
                                put(file, start..end);
                            }
                            start = end;
                        }
                    }
                }
            }
        }
    }
}

fn apply_names(dirs: &mut Dirs, edits: &[(Place, Option<u64>)]) {
    for (place, inode) in edits {
        let names = dirs.entry(place.dir).or_default();
        match inode {
            Some(inode) => names.insert(place.name.clone(), *inode),
            None => names.remove(&place.name),
        };
    }
}

impl State {
    fn new(recording: &Recording) -> Self {
        let file = |(inode, bytes): (&u64, &Arc<Vec<u8>>)| {
            (*inode, FileState { base: Arc::clone(bytes), items: Vec::new() })
        };
        Self {
            dirs: recording.dirs.clone(),
            names: Vec::new(),
            files: recording.files.iter().map(file).collect(),
            marks: 0,
        }
    }

    fn name(&mut self, op: usize, edits: Vec<(Place, Option<u64>)>) {
        let mut waits: Vec<u64> = edits.iter().map(|(place, _)| place.dir).collect();
        waits.dedup();
        self.names.push(NameItem { op, edits, waits, standing: Standing::Pending });
    }

    fn edit(&mut self, op: usize, inode: u64, edit: Edit) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.items.push(FileItem { op, edit, standing: Standing::Pending });
        }
    }

    fn apply(&mut self, index: usize, op: &Op) {
        let failed = op.error.is_some();
        match &op.action {
            Action::Mark(_) => self.marks += 1,
            Action::Sync { began } => {
                let Some(file) = self.files.get_mut(&op.inode) else { return };
                for item in file.items.iter_mut().filter(|item| item.standing == Standing::Pending) {
                    if failed {
                        item.standing = Standing::Lost;
                    } else if item.op < *began {
                        item.standing = Standing::Settled;
                    }
                }
                file.fold();
            }
            Action::SyncDir { began } => {
                for item in self.names.iter_mut().filter(|item| item.standing == Standing::Pending) {
                    if failed && item.waits.contains(&op.inode) {
                        item.standing = Standing::Lost;
                    } else if !failed && item.op < *began {
                        item.waits.retain(|dir| *dir != op.inode);
                        if item.waits.is_empty() {
                            item.standing = Standing::Settled;
                        }
                    }
                }
                let settled = self.names.iter().take_while(|item| item.standing == Standing::Settled).count();
                for item in self.names.drain(..settled) {
                    apply_names(&mut self.dirs, &item.edits);
                }
            }
            _ if failed => {}
            Action::Create { at } => {
                self.files.insert(op.inode, FileState::default());
                self.name(index, vec![(at.clone(), Some(op.inode))]);
            }
            Action::CreateDir { at } => {
                self.dirs.insert(op.inode, BTreeMap::new());
                self.name(index, vec![(at.clone(), Some(op.inode))]);
            }
            Action::Truncate => self.edit(index, op.inode, Edit::SetLen(0)),
            Action::SetLen { bytes } => self.edit(index, op.inode, Edit::SetLen(*bytes)),
            Action::Write { offset, bytes, .. } => {
                self.edit(index, op.inode, Edit::Write { offset: *offset, bytes: Arc::clone(bytes) });
            }
            Action::Rename { from, to, .. } => {
                self.name(index, vec![(from.clone(), None), (to.clone(), Some(op.inode))]);
            }
            Action::Link { at, .. } => self.name(index, vec![(at.clone(), Some(op.inode))]),
            Action::Remove { at } | Action::RemoveDir { at } => self.name(index, vec![(at.clone(), None)]),
        }
    }

    /// The pending things, in the order they were done.
    fn pending(&self) -> Vec<Item> {
        let mut items = Vec::new();
        for (i, item) in self.names.iter().enumerate() {
            if item.standing != Standing::Settled {
                items.push((item.op, Item::Name(i)));
            }
        }
        for (inode, file) in &self.files {
            for (i, item) in file.items.iter().enumerate() {
                if item.standing != Standing::Settled {
                    items.push((item.op, Item::File(*inode, i)));
                }
            }
        }
        items.sort_by_key(|(op, _)| *op);
        items.into_iter().map(|(_, item)| item).collect()
    }

    fn op_of(&self, item: Item) -> usize {
        match item {
            Item::Name(i) => self.names[i].op,
            Item::File(inode, i) => self.files[&inode].items[i].op,
        }
    }
}

impl<'a> CrashImages<'a> {
    /// Of a recording.
    pub fn new(recording: &'a Recording) -> Self {
        Self { recording }
    }

    /// The moment when the first `ops` calls are over.
    pub fn at(self, ops: usize) -> Moment<'a> {
        let mut state = State::new(self.recording);
        for (i, op) in self.recording.ops[..ops].iter().enumerate() {
            state.apply(i, op);
        }
        Moment::new(self.recording, ops, state)
    }

    /// The moments before the first call, between calls and after the last.
    pub fn moments(self) -> impl Iterator<Item = Moment<'a>> {
        let mut state = State::new(self.recording);
        (0..=self.recording.ops.len()).map(move |ops| {
            if let Some(last) = ops.checked_sub(1) {
                state.apply(last, &self.recording.ops[last]);
            }
            Moment::new(self.recording, ops, state.clone())
        })
    }

    /// Every image of every moment: [`Moment::variants`] and what a kill leaves, cut at no more than 20 places. Those
    /// that are equal and have the same marks come once.
    pub fn all(self, seed: u64, subsets: u64) -> impl Iterator<Item = Image> {
        let mut seen = HashSet::new();
        self.moments().flat_map(move |moment| {
            let mut images: Vec<Image> = moment.variants(seed, subsets).chain(moment.killed(20)).collect();
            images.retain(|image| seen.insert((image.hash, image.marks)));
            images
        })
    }
}

/// A moment of a recording at which a crash may come.
#[derive(Debug)]
pub struct Moment<'a> {
    recording: &'a Recording,
    ops: usize,
    state: State,
    pending: Vec<Item>,
    /// Names by what of them is kept.
    names: RefCell<HashMap<Vec<Kept>, Names>>,
    /// Contents of which all or nothing is kept.
    contents: RefCell<HashMap<(u64, Kept), Arc<Content>>>,
}

/// What of the pending things is kept, by kind.
struct Plan {
    names: Vec<Kept>,
    files: HashMap<u64, Vec<Kept>>,
}

impl<'a> Moment<'a> {
    fn new(recording: &'a Recording, ops: usize, state: State) -> Self {
        let pending = state.pending();
        Self { recording, ops, state, pending, names: RefCell::default(), contents: RefCell::default() }
    }

    /// How many calls are over.
    pub fn ops(&self) -> usize {
        self.ops
    }

    /// How many things are pending.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What a power cut may leave at this moment: nothing pending, all of it, names without data, data without
    /// names, lengths without data, each thing missing or there alone, each write torn at a sector, the names in
    /// order up to each, and so many random choices. Equal images come once.
    pub fn variants(&self, seed: u64, subsets: u64) -> impl Iterator<Item = Image> + '_ {
        use Variant::{All, AllBut, Data as OnlyData, Names, Nothing, Only, Ordered, Subset, Torn, Zeros};
        let mut variants = vec![Nothing, All, Names, OnlyData, Zeros];
        let names = self.pending.iter().filter(|item| matches!(item, Item::Name(_))).count();
        for first in 0..=names {
            variants
                .extend([Data::All, Data::None, Data::Zeros, Data::Before].map(|data| Ordered(first, data)));
        }
        let mut generator = Generator::new(seed ^ (self.ops as u64).rotate_left(32));
        for (i, item) in self.pending.iter().enumerate() {
            variants.extend([AllBut(i), Only(i)]);
            if let Item::File(inode, at) = *item
                && let Edit::Write { offset, bytes } = &self.state.files[&inode].items[at].edit
            {
                let mut ends = sector_ends(*offset, bytes.len());
                let count = ends.len();
                let mut chosen =
                    vec![0, count / 2, generator.below(count as u64) as usize, count.saturating_sub(1)];
                chosen.dedup();
                let all: Vec<usize> = if count == 0 { Vec::new() } else { ends.by_ref().collect() };
                for end in chosen.into_iter().filter_map(|n| all.get(n)) {
                    variants.extend([true, false].map(|zeros| Torn(i, Kept::Head { bytes: *end, zeros })));
                }
                if count > 0 {
                    variants.push(Torn(i, Kept::Sectors(generator.next())));
                }
            }
        }
        if !self.pending.is_empty() {
            variants.extend((0..subsets).map(|n| Subset(n, generator.next())));
        }
        let mut seen = HashSet::new();
        variants.into_iter().filter_map(move |variant| {
            let mut image = self.image(&self.plan(variant), String::new);
            seen.insert(image.hash).then(|| {
                image.what = self.text(variant);
                image
            })
        })
    }

    /// What the end of the process leaves: all that was done, and if the last call was a write, also that write cut
    /// anywhere, at no more than `most` places that are spread evenly.
    pub fn killed(&self, most: usize) -> impl Iterator<Item = Image> + '_ {
        let last = self.ops.checked_sub(1);
        let torn = self.pending.last().copied().filter(|item| Some(self.state.op_of(*item)) == last);
        let len = match torn {
            Some(Item::File(inode, i)) => match &self.state.files[&inode].items[i].edit {
                Edit::Write { bytes, .. } => bytes.len(),
                Edit::SetLen(_) => 0,
            },
            _ => 0,
        };
        let places = len.min(most);
        let whole = self.image(&self.plan(Variant::All), || "kill".to_owned());
        std::iter::once(whole).chain((0..places).map(move |n| {
            let bytes = if places < 2 { 0 } else { n * (len - 1) / (places - 1) };
            let kept = Kept::Head { bytes, zeros: false };
            let plan = self.plan(Variant::Torn(self.pending.len() - 1, kept));
            self.image(&plan, || format!("kill, the last write cut at {bytes}"))
        }))
    }

    fn plan(&self, variant: Variant) -> Plan {
        let mut plan = Plan { names: Vec::new(), files: HashMap::new() };
        plan.names = vec![Kept::Yes; self.state.names.len()];
        let mut generator = Generator::new(if let Variant::Subset(_, seed) = variant { seed } else { 0 });
        // Few missing and many missing are both likely.
        let share = 1 + generator.below(8);
        let cut = if let Variant::Ordered(first, _) = variant {
            let mut names = self.pending.iter().filter(|item| matches!(item, Item::Name(_)));
            names.nth(first).map_or(usize::MAX, |item| self.state.op_of(*item))
        } else {
            0
        };
        for (i, item) in self.pending.iter().enumerate() {
            let is_name = matches!(item, Item::Name(_));
            let yes = |yes: bool| if yes { Kept::Yes } else { Kept::No };
            let kept = match variant {
                Variant::Nothing => Kept::No,
                Variant::All => Kept::Yes,
                Variant::Names => yes(is_name),
                Variant::Data => yes(!is_name),
                Variant::Zeros => {
                    if is_name {
                        Kept::Yes
                    } else {
                        Kept::Zeros
                    }
                }
                Variant::AllBut(n) => yes(n != i),
                Variant::Only(n) => yes(n == i),
                Variant::Torn(n, kept) => {
                    if n == i {
                        kept
                    } else {
                        Kept::Yes
                    }
                }
                Variant::Ordered(_, data) => match data {
                    _ if is_name => yes(self.state.op_of(*item) < cut),
                    Data::All => Kept::Yes,
                    Data::None => Kept::No,
                    Data::Zeros => Kept::Zeros,
                    Data::Before => yes(self.state.op_of(*item) < cut),
                },
                Variant::Subset(..) if generator.below(9) < share => Kept::Yes,
                Variant::Subset(..) => self.part(*item, &mut generator),
            };
            match *item {
                Item::Name(at) => plan.names[at] = kept,
                Item::File(inode, at) => {
                    let len = self.state.files[&inode].items.len();
                    plan.files.entry(inode).or_insert_with(|| vec![Kept::Yes; len])[at] = kept;
                }
            }
        }
        plan
    }

    /// Nothing of an item, or of a write some of it.
    fn part(&self, item: Item, generator: &mut Generator) -> Kept {
        let Item::File(inode, at) = item else { return Kept::No };
        let Edit::Write { offset, bytes } = &self.state.files[&inode].items[at].edit else { return Kept::No };
        let count = sector_ends(*offset, bytes.len()).len();
        match generator.below(if count == 0 { 2 } else { 4 }) {
            0 => Kept::No,
            1 => Kept::Zeros,
            2 => Kept::Sectors(generator.next()),
            _ => {
                let n = generator.below(count as u64) as usize;
                let bytes = sector_ends(*offset, bytes.len()).nth(n).unwrap_or(0);
                Kept::Head { bytes, zeros: generator.one_in(2) }
            }
        }
    }

    fn image(&self, plan: &Plan, what: impl FnOnce() -> String) -> Image {
        let names = self.names(&plan.names);
        let mut hasher = DefaultHasher::new();
        let contents: Vec<_> = names
            .iter()
            .map(|(path, inode)| {
                let content = self.content(*inode, plan);
                path.hash(&mut hasher);
                content.as_ref().map(|content| content.hash).hash(&mut hasher);
                content
            })
            .collect();
        Image { ops: self.ops, marks: self.state.marks, what: what(), names, contents, hash: hasher.finish() }
    }

    /// The paths there are if of the pending names so many are kept.
    fn names(&self, kept: &[Kept]) -> Names {
        let mut known = self.names.borrow_mut();
        if let Some(names) = known.get(kept) {
            return Arc::clone(names);
        }
        let mut dirs = self.state.dirs.clone();
        for (item, kept) in self.state.names.iter().zip(kept) {
            if *kept == Kept::Yes {
                apply_names(&mut dirs, &item.edits);
            }
        }
        let (mut names, mut entered) = (Vec::new(), HashSet::new());
        self.walk(&dirs, ROOT, Path::new(""), &mut names, &mut entered);
        let names = Arc::new(names);
        known.insert(kept.to_vec(), Arc::clone(&names));
        names
    }

    fn walk(
        &self,
        dirs: &Dirs,
        dir: u64,
        path: &Path,
        names: &mut Vec<(PathBuf, u64)>,
        entered: &mut HashSet<u64>,
    ) {
        // A directory with its removal missing may have two names; a disk's check leaves one.
        if !entered.insert(dir) {
            return;
        }
        for (name, inode) in dirs.get(&dir).into_iter().flatten() {
            let path = path.join(name);
            if self.state.dirs.contains_key(inode) {
                if !entered.contains(inode) {
                    names.push((path.clone(), *inode));
                    self.walk(dirs, *inode, &path, names, entered);
                }
            } else if self.state.files.contains_key(inode) {
                names.push((path, *inode));
            }
        }
    }

    /// A file's content; `None` for a directory.
    fn content(&self, inode: u64, plan: &Plan) -> Option<Arc<Content>> {
        let file = self.state.files.get(&inode)?;
        let all = vec![Kept::Yes; file.items.len()];
        let kept = plan.files.get(&inode).unwrap_or(&all);
        let open = |i: &usize| file.items[*i].standing != Standing::Settled;
        let mut kinds = (0..kept.len()).filter(open).map(|i| kept[i]);
        let first = kinds.next().unwrap_or(Kept::Yes);
        let make = || Arc::new(Content::new(file.content(|i| kept[i])));
        Some(if kinds.all(|kind| kind == first) && matches!(first, Kept::Yes | Kept::No | Kept::Zeros) {
            Arc::clone(self.contents.borrow_mut().entry((inode, first)).or_insert_with(make))
        } else {
            make()
        })
    }

    fn text(&self, variant: Variant) -> String {
        let item = |n: usize| {
            let op = self.state.op_of(self.pending[n]);
            format!("op {op} ({})", self.recording.ops[op])
        };
        match variant {
            Variant::Nothing => "nothing pending".into(),
            Variant::All => "all pending".into(),
            Variant::Names => "names without data".into(),
            Variant::Data => "data without names".into(),
            Variant::Zeros => "lengths without data".into(),
            Variant::AllBut(n) => format!("all but {}", item(n)),
            Variant::Only(n) => format!("only {}", item(n)),
            Variant::Torn(n, kept) => format!("{} torn: {kept:?}", item(n)),
            Variant::Ordered(first, data) => format!("the first {first} names, data: {data:?}"),
            Variant::Subset(n, seed) => format!("random choice {n} of seed {seed:#x}"),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls over, {} marks: {}", self.ops, self.marks, self.what)
    }
}

impl Image {
    /// When the crash came and what it left, for messages.
    pub fn describe(&self) -> String {
        self.to_string()
    }

    /// The same for equal contents.
    pub fn content_hash(&self) -> u64 {
        self.hash
    }

    /// Paths of files and directories, directories before what is in them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.names.iter().map(|(path, _)| path.as_path())
    }

    /// Bytes of a file, by its path from the recorded directory.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        let at = self.names.iter().position(|(p, _)| p == path.as_ref())?;
        self.contents[at].as_ref().map(|content| content.bytes.as_slice())
    }

    /// Makes it on the real disk in a directory that is empty, or is made if its parent exists.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_to(&self, dir: &Path) -> Result<(), FileError> {
        if !dir.is_dir() {
            std::fs::create_dir(dir).map_err(|e| FileError::new("create directory", dir, e))?;
        }
        let mut made: HashMap<u64, PathBuf> = HashMap::new();
        for ((path, inode), content) in self.names.iter().zip(&self.contents) {
            let path = dir.join(path);
            let wrap = |e| FileError::new("write", &path, e);
            match (content, made.get(inode)) {
                (None, _) => std::fs::create_dir(&path).map_err(wrap)?,
                (Some(_), Some(first)) => std::fs::hard_link(first, &path).map_err(wrap)?,
                (Some(content), None) => {
                    std::fs::write(&path, &*content.bytes).map_err(wrap)?;
                    made.insert(*inode, path);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, Disk};
    use crate::faulty::{Faulty, Kind};
    use crate::real::RealDisk;
    use crate::recorder::Recorder;

    /// Records what is done in a directory that has the file `old`.
    fn record(name: &str, calls: impl FnOnce(&Recorder, &Faulty, &Path)) -> Recording {
        let root = std::env::temp_dir().join(format!("tsdbctl-crash-{name}-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("old"), b"durable").unwrap();
        let faulty = Faulty::new(Arc::new(RealDisk));
        let disk = Recorder::new(Arc::new(faulty.clone()), &root).unwrap();
        calls(&disk, &faulty, &root);
        std::fs::remove_dir_all(&root).unwrap();
        disk.recording()
    }

    /// Files and their contents, zeros shown as `.`, sorted; one text an image.
    fn seen(images: impl Iterator<Item = Image>) -> Vec<String> {
        let text = |image: Image| {
            let file = |path: &Path| match image.file(path) {
                Some(bytes) => {
                    format!("{}={}", path.display(), String::from_utf8_lossy(bytes).replace('\0', "."))
                }
                None => format!("{}/", path.display()),
            };
            image.paths().map(file).collect::<Vec<_>>().join(" ")
        };
        let mut seen: Vec<_> = images.map(text).collect();
        seen.sort();
        seen
    }

    #[test]
    fn only_syncs_settle_and_each_only_its_own() {
        let recording = record("settle", |disk, _, root| {
            let file = disk.open(&root.join("a"), Access::CreateNew).unwrap();
            file.write_at(b"12", 0).unwrap();
            file.sync_data().unwrap();
            file.write_at(b"34", 2).unwrap();
            disk.sync_dir(root).unwrap();
            file.sync_data().unwrap();
        });
        let images = CrashImages::new(&recording);
        let at = |ops: usize| seen(images.at(ops).variants(1, 30));
        assert_eq!(at(0), ["old=durable"]);
        assert_eq!(at(1), ["a= old=durable", "old=durable"]);
        assert_eq!(at(2), ["a= old=durable", "a=.. old=durable", "a=12 old=durable", "old=durable"]);
        assert_eq!(at(3), ["a=12 old=durable", "old=durable"]);
        assert_eq!(at(4), ["a=12 old=durable", "a=12.. old=durable", "a=1234 old=durable", "old=durable"]);
        assert_eq!(at(5), ["a=12 old=durable", "a=12.. old=durable", "a=1234 old=durable"]);
        assert_eq!(at(6), ["a=1234 old=durable"]);
        assert_eq!(
            images.moments().map(|moment| moment.pending()).collect::<Vec<_>>(),
            [0, 1, 2, 1, 2, 1, 0]
        );
        for (moment, ops) in images.moments().zip(0..) {
            assert_eq!(seen(moment.variants(1, 30)), at(ops), "{ops}");
        }
    }

    #[test]
    fn a_failed_sync_settles_nothing_and_no_later_one_does() {
        let recording = record("failed", |disk, faulty, root| {
            let file = disk.open(&root.join("old"), Access::Write).unwrap();
            file.write_at(b"12", 0).unwrap();
            faulty.fail_once(Kind::Sync, 1);
            file.sync_data().unwrap_err();
            file.write_at(b"3", 1).unwrap();
            file.sync_data().unwrap();
            assert_eq!(std::fs::read(root.join("old")).unwrap(), b"13rable");
        });
        let images = CrashImages::new(&recording);
        assert_eq!(seen(images.at(2).variants(1, 9)), ["old=12rable", "old=durable"]);
        assert_eq!(seen(images.at(4).variants(1, 9)), ["old=13rable", "old=d3rable"]);
        // A killed process loses nothing by it.
        assert_eq!(seen(images.at(4).killed(9)), ["old=13rable"]);
    }

    #[test]
    fn a_write_during_a_sync_is_not_covered_by_it() {
        let recording = record("during", |disk, _, root| {
            let file = disk.open(&root.join("old"), Access::Write).unwrap();
            file.write_at(b"1", 0).unwrap();
            file.write_at(b"2", 1).unwrap();
            file.sync_data().unwrap();
        });
        let mut during = recording.clone();
        during.ops[2].action = Action::Sync { began: 1 };
        assert_eq!(seen(CrashImages::new(&recording).at(3).variants(1, 9)), ["old=12rable"]);
        assert_eq!(seen(CrashImages::new(&during).at(3).variants(1, 9)), ["old=12rable", "old=1urable"]);
    }

    #[test]
    fn names_are_kept_in_any_choice() {
        let recording = record("names", |disk, _, root| {
            disk.create_dir(&root.join("d")).unwrap();
            disk.sync_dir(root).unwrap();
            disk.rename(&root.join("old"), &root.join("d/new")).unwrap();
            disk.link(&root.join("d/new"), &root.join("d/twin")).unwrap();
            disk.sync_dir(&root.join("d")).unwrap();
            disk.remove_file(&root.join("d/new")).unwrap();
            disk.sync_dir(root).unwrap();
            disk.remove_file(&root.join("d/twin")).unwrap();
            disk.sync_dir(&root.join("d")).unwrap();
            disk.remove_dir(&root.join("d")).unwrap();
        });
        let images = CrashImages::new(&recording);
        let at = |ops: usize| seen(images.at(ops).variants(1, 30));
        assert_eq!(at(1), ["d/ old=durable", "old=durable"]);
        assert_eq!(at(3), ["d/ d/new=durable", "d/ old=durable"]);
        let four = [
            "d/ d/new=durable",
            "d/ d/new=durable d/twin=durable",
            "d/ d/twin=durable old=durable",
            "d/ old=durable",
        ];
        assert_eq!(at(4), four);
        // The rename waits for the other directory too.
        assert_eq!(at(5), ["d/ d/new=durable d/twin=durable", "d/ d/twin=durable old=durable"]);
        assert_eq!(at(7), ["d/ d/new=durable d/twin=durable", "d/ d/twin=durable"]);
        assert_eq!(at(9), ["d/"]);
        assert_eq!(at(10), ["", "d/"]);
        assert_eq!(seen(images.at(4).killed(5)), ["d/ d/new=durable d/twin=durable"]);
    }

    #[test]
    fn writes_are_torn_at_sectors_and_by_a_kill_anywhere() {
        let recording = record("torn", |disk, _, root| {
            let file = disk.open(&root.join("old"), Access::Write).unwrap();
            file.write_at(&[b'x'; 1100], 500).unwrap();
        });
        let images = CrashImages::new(&recording);
        let lens = |images: &mut dyn Iterator<Item = Image>| -> Vec<(usize, usize)> {
            let count = |image: Image| {
                let bytes = image.file("old").unwrap();
                (bytes.len(), bytes.iter().filter(|b| **b == b'x').count())
            };
            let mut lens: Vec<_> = images.map(count).collect();
            lens.sort_unstable();
            lens
        };
        // Sectors end at 512, 1024 and 1536: 12, 524 and 1036 bytes of the write.
        let mut torn = lens(&mut images.at(1).variants(1, 200));
        torn.dedup();
        for expected in
            [(7, 0), (512, 12), (1024, 524), (1536, 1036), (1600, 0), (1600, 12), (1600, 524), (1600, 1100)]
        {
            assert!(torn.contains(&expected), "{expected:?} of {torn:?}");
        }
        let sizes = [12, 512, 512, 64];
        for (len, count) in torn {
            let sums = (0..16).map(|mask| (0..4).map(|i| sizes[i] * (mask >> i & 1)).sum::<usize>());
            assert!([7, 512, 1024, 1536, 1600].contains(&len), "{len}");
            assert!(sums.clone().any(|sum| sum == count), "{count}");
        }
        let mut whole: Vec<_> = (1..=1100).map(|n| (500 + n, n)).collect();
        whole.insert(0, (500, 0));
        assert_eq!(lens(&mut images.at(1).killed(5000)), whole);
        assert_eq!(lens(&mut images.at(1).killed(2)), [(500, 0), (1599, 1099), (1600, 1100)]);
        assert_eq!(sector_ends(512, 1024).collect::<Vec<_>>(), [512]);
        assert_eq!(
            (sector_ends(0, 512).len(), sector_ends(511, 1).len(), sector_ends(511, 2).len()),
            (0, 0, 1)
        );
    }

    #[test]
    fn an_image_is_made_on_the_disk() {
        let recording = record("made", |disk, _, root| {
            disk.create_dir(&root.join("d")).unwrap();
            disk.open(&root.join("d/x"), Access::CreateNew).unwrap().write_at(b"abc", 2).unwrap();
            disk.link(&root.join("d/x"), &root.join("y")).unwrap();
            disk.mark("acked");
        });
        let image = CrashImages::new(&recording).at(5).killed(0).next().unwrap();
        assert_eq!(image.describe(), "5 calls over, 1 marks: kill");
        let text: Vec<_> =
            CrashImages::new(&recording).at(3).variants(1, 0).map(|image| image.describe()).collect();
        assert!(text.contains(&"3 calls over, 0 marks: the first 1 names, data: All".to_owned()), "{text:?}");
        let dir = std::env::temp_dir().join(format!("tsdbctl-crash-image-{}", std::process::id()));
        image.write_to(&dir).unwrap();
        std::fs::write(dir.join("y"), b"changed").unwrap();
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        assert_eq!((read("d/x").as_slice(), read("old").as_slice()), (&b"changed"[..], &b"durable"[..]));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn equal_images_come_once_for_what_was_acknowledged() {
        let recording = record("once", |disk, _, root| {
            let file = disk.open(&root.join("old"), Access::Write).unwrap();
            file.write_at(b"1", 0).unwrap();
            file.sync_data().unwrap();
            file.sync_data().unwrap();
            disk.mark("acked");
            file.sync_data().unwrap();
        });
        let found: Vec<_> = CrashImages::new(&recording)
            .all(1, 20)
            .map(|image| (image.ops, image.marks, image.file("old").unwrap()[0] as char))
            .collect();
        assert_eq!(found, [(0, 0, 'd'), (1, 0, '1'), (4, 1, '1')]);
    }
}
