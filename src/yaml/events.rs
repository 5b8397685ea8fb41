//! The events of libyaml, the parser beneath serde_yaml and the ancestor of go-yaml's: one reading gives the
//! verdict on the syntax in go-yaml's own words, and the bytes at which everything stands.
//!
//! This is the only module that touches the C interface. Its invariants:
//! - the parser has an address of its own from its making to its end with [`Events`], as it holds pointers to
//!   itself, and is only looked at through raw pointers;
//! - it reads from a slice that outlives it, of any bytes: the parser decodes and checks them;
//! - every event is copied out and deleted before the next is asked for, also should the copying panic;
//! - after an error or the end nothing more is asked for.
//!
//! Lack of memory ends the process within the parser, as it does elsewhere in Rust.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use tsdbctl_model::Span;

use crate::ScalarStyle;

/// What may stand before a text in UTF-8, and says nothing.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A step of the parser, and the bytes it covers.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

/// What an event says.
#[derive(Debug)]
pub(crate) enum Kind {
    StreamStart,
    StreamEnd,
    DocumentStart,
    DocumentEnd,
    Alias(String),
    Scalar { anchor: Option<String>, tag: Option<String>, text: String, style: ScalarStyle },
    SequenceStart { anchor: Option<String>, flow: bool },
    SequenceEnd,
    MappingStart { anchor: Option<String>, flow: bool },
    MappingEnd,
}

/// A place the parser names: all from 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) offset: usize,
    pub(crate) line: usize,
}

/// Why the parser stopped.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) problem: String,
    pub(crate) context: String,
    pub(crate) problem_mark: Mark,
    pub(crate) context_mark: Mark,
    pub(crate) by_scanner: bool,
    /// The bytes are no text.
    pub(crate) by_reader: bool,
}

/// The events of a text.
pub(crate) struct Events<'s> {
    /// Comes from a box and goes back into it.
    parser: NonNull<unsafe_libyaml::yaml_parser_t>,
    ended: bool,
    base: usize,
    text: PhantomData<&'s [u8]>,
}

impl<'s> Events<'s> {
    /// Begins to read; offsets count from the start of `text`, a byte order mark included. What is no UTF-8 is a
    /// failure where it stands. Of UTF-16, which a byte order mark announces, offsets are those of the same text as
    /// UTF-8 without the mark; only [`Failure::by_reader`] tells places in the bytes as they are.
    #[allow(unsafe_code)]
    pub(crate) fn new(text: &'s [u8]) -> Self {
        let body = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let encoding = match text {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => unsafe_libyaml::YAML_ANY_ENCODING,
            _ => unsafe_libyaml::YAML_UTF8_ENCODING,
        };
        let boxed: Box<MaybeUninit<unsafe_libyaml::yaml_parser_t>> = Box::new(MaybeUninit::uninit());
        let parser = NonNull::from(Box::leak(boxed)).cast::<unsafe_libyaml::yaml_parser_t>();
        let pointer = parser.as_ptr();
        // SAFETY: the pointer is to memory of the struct's size that is ours alone; initialize writes all of it (it
        // can fail only for lack of memory, which ends the process); the slice outlives the parser by `'s`.
        let ended = unsafe {
            let made = unsafe_libyaml::yaml_parser_initialize(pointer).ok;
            if made {
                unsafe_libyaml::yaml_parser_set_encoding(pointer, encoding);
                unsafe_libyaml::yaml_parser_set_input_string(pointer, body.as_ptr(), body.len() as u64);
            }
            !made
        };
        Self { parser, ended, base: text.len() - body.len(), text: PhantomData }
    }

    /// The next event; the end of the stream again and again when all was read.
    #[allow(unsafe_code)]
    pub(crate) fn next(&mut self) -> Result<Event, Failure> {
        if self.ended {
            return Ok(Event { kind: Kind::StreamEnd, span: Span::default() });
        }
        let mut event = MaybeUninit::<unsafe_libyaml::yaml_event_t>::uninit();
        // SAFETY: the parser is initialized and has met neither an error nor the end; parse writes the event
        // whenever it succeeds, and leaves nothing in it that is ours to delete when it fails.
        let (event, newer) = unsafe {
            if !unsafe_libyaml::yaml_parser_parse(self.parser.as_ptr(), event.as_mut_ptr()).ok {
                self.ended = true;
                return Err(self.failure());
            }
            let event = Written(event.assume_init());
            let newer = newer_version(&event.0).then_some(event.0.start_mark);
            (self.copy(&event.0), newer)
        };
        self.ended = newer.is_some() || matches!(event.kind, Kind::StreamEnd);
        match newer {
            Some(start) => Err(incompatible(&start, self.base)),
            None => Ok(event),
        }
    }

    /// The failure of the scanner within the token that begins at `from`, or behind it, and the next two, if there
    /// is one.
    #[allow(unsafe_code)]
    pub(crate) fn failure_ahead(text: &'s [u8], from: usize) -> Option<Failure> {
        let mut events = Self::new(text);
        let (mut found, mut behind) = (0, 0);
        while found < 3 && !events.ended {
            let mut token = MaybeUninit::<unsafe_libyaml::yaml_token_t>::uninit();
            // SAFETY: the parser is initialized and has met neither an error nor the end; scan writes the token
            // whenever it succeeds, and it is deleted once; parse, which must not follow, cannot, as the events end here.
            let (kind, start, end) = unsafe {
                if !unsafe_libyaml::yaml_parser_scan(events.parser.as_ptr(), token.as_mut_ptr()).ok {
                    // A third token that may be a key makes the scanner look at the one behind it.
                    let third = behind + blanks(text.get(behind..).unwrap_or_default());
                    let beyond = |failure: &Failure| {
                        let context = match failure.context_mark.offset {
                            0 => usize::MAX,
                            offset => offset,
                        };
                        failure.context == "while scanning a simple key"
                            || failure.problem_mark.offset.min(context) > third
                    };
                    return Some(events.failure()).filter(|failure| found < 2 || !beyond(failure));
                }
                let token = token.assume_init_mut();
                let at = |mark: &unsafe_libyaml::yaml_mark_t| mark.index as usize + events.base;
                let seen = (token.type_, at(&token.start_mark), at(&token.end_mark));
                unsafe_libyaml::yaml_token_delete(token);
                seen
            };
            // The stream begins, and blocks end, where the next token stands.
            let stands_alone = !matches!(
                kind,
                unsafe_libyaml::YAML_STREAM_START_TOKEN | unsafe_libyaml::YAML_BLOCK_END_TOKEN
            );
            found += usize::from(start >= from && (found > 0 || stands_alone));
            behind = end;
            events.ended = kind == unsafe_libyaml::YAML_STREAM_END_TOKEN;
        }
        None
    }

    /// SAFETY: to be called on an event that parse has just written: its type says which part of the union
    /// holds, its strings end with a zero byte or are null.
    #[allow(unsafe_code)]
    unsafe fn copy(&self, event: &unsafe_libyaml::yaml_event_t) -> Event {
        let at = |mark: &unsafe_libyaml::yaml_mark_t| mark.index as usize + self.base;
        // SAFETY: as the function's.
        let kind = unsafe {
            match event.type_ {
                unsafe_libyaml::YAML_DOCUMENT_START_EVENT => Kind::DocumentStart,
                unsafe_libyaml::YAML_DOCUMENT_END_EVENT => Kind::DocumentEnd,
                unsafe_libyaml::YAML_ALIAS_EVENT => {
                    Kind::Alias(string(event.data.alias.anchor).unwrap_or_default())
                }
                unsafe_libyaml::YAML_SCALAR_EVENT => {
                    let scalar = &event.data.scalar;
                    let bytes = match scalar.length {
                        0 => &[][..],
                        length => std::slice::from_raw_parts(scalar.value, length as usize),
                    };
                    Kind::Scalar {
                        anchor: string(scalar.anchor),
                        tag: string(scalar.tag),
                        text: String::from_utf8_lossy(bytes).into_owned(),
                        style: match scalar.style {
                            unsafe_libyaml::YAML_SINGLE_QUOTED_SCALAR_STYLE => ScalarStyle::SingleQuoted,
                            unsafe_libyaml::YAML_DOUBLE_QUOTED_SCALAR_STYLE => ScalarStyle::DoubleQuoted,
                            unsafe_libyaml::YAML_LITERAL_SCALAR_STYLE => ScalarStyle::Literal,
                            unsafe_libyaml::YAML_FOLDED_SCALAR_STYLE => ScalarStyle::Folded,
                            _ => ScalarStyle::Plain,
                        },
                    }
                }
                unsafe_libyaml::YAML_SEQUENCE_START_EVENT => {
                    let start = &event.data.sequence_start;
                    let flow = start.style == unsafe_libyaml::YAML_FLOW_SEQUENCE_STYLE;
                    Kind::SequenceStart { anchor: string(start.anchor), flow }
                }
                unsafe_libyaml::YAML_SEQUENCE_END_EVENT => Kind::SequenceEnd,
                unsafe_libyaml::YAML_MAPPING_START_EVENT => {
                    let start = &event.data.mapping_start;
                    let flow = start.style == unsafe_libyaml::YAML_FLOW_MAPPING_STYLE;
                    Kind::MappingStart { anchor: string(start.anchor), flow }
                }
                unsafe_libyaml::YAML_MAPPING_END_EVENT => Kind::MappingEnd,
                unsafe_libyaml::YAML_STREAM_START_EVENT => Kind::StreamStart,
                _ => Kind::StreamEnd,
            }
        };
        Event { kind, span: Span::new(at(&event.start_mark), at(&event.end_mark)) }
    }

    /// SAFETY: to be called after parse has failed: the parser's texts are then constants or null.
    #[allow(unsafe_code)]
    unsafe fn failure(&self) -> Failure {
        // SAFETY: as the function's; the parser was initialized in `new`, and nothing writes to it meanwhile.
        let (parser, problem, context) = unsafe {
            let parser = self.parser.as_ref();
            (parser, string(parser.problem.cast()), string(parser.context.cast()))
        };
        let mark = |mark: &unsafe_libyaml::yaml_mark_t| Mark {
            offset: mark.index as usize + self.base,
            line: mark.line as usize,
        };
        let problem_mark = match parser.error {
            // It tells bytes only.
            unsafe_libyaml::YAML_READER_ERROR => {
                Mark { offset: parser.problem_offset as usize + self.base, line: 0 }
            }
            _ => mark(&parser.problem_mark),
        };
        Failure {
            problem: problem.unwrap_or_else(|| "unknown problem parsing YAML content".to_owned()),
            context: context.unwrap_or_default(),
            problem_mark,
            context_mark: mark(&parser.context_mark),
            by_scanner: parser.error == unsafe_libyaml::YAML_SCANNER_ERROR,
            by_reader: parser.error == unsafe_libyaml::YAML_READER_ERROR,
        }
    }
}

impl Drop for Events<'_> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let pointer = self.parser.cast::<MaybeUninit<unsafe_libyaml::yaml_parser_t>>().as_ptr();
        // SAFETY: initialized in `new` (which fails only where the process has ended), deleted only here; the
        // pointer came from a box of this type, and nobody else holds it.
        unsafe {
            unsafe_libyaml::yaml_parser_delete(self.parser.as_ptr());
            drop(Box::from_raw(pointer));
        }
    }
}

/// The bytes of blanks, line breaks and comments before a token.
fn blanks(text: &[u8]) -> usize {
    let mut comment = false;
    let end = text.iter().position(|byte| {
        comment = (comment || *byte == b'#') && *byte != b'\n';
        !comment && !byte.is_ascii_whitespace()
    });
    end.unwrap_or(text.len())
}

/// An event that parse has written; what it holds goes with it.
struct Written(unsafe_libyaml::yaml_event_t);

impl Drop for Written {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: parse wrote it, and it is deleted only here.
        unsafe { unsafe_libyaml::yaml_event_delete(&raw mut self.0) }
    }
}

/// The document wants another version than 1.1, which go-yaml refuses and this parser does not.
///
/// SAFETY: as [`Events::copy`].
#[allow(unsafe_code)]
unsafe fn newer_version(event: &unsafe_libyaml::yaml_event_t) -> bool {
    if event.type_ != unsafe_libyaml::YAML_DOCUMENT_START_EVENT {
        return false;
    }
    // SAFETY: the type says which part of the union holds; the directive is null or lives until the event's end.
    let directive = unsafe { event.data.document_start.version_directive.as_ref() };
    directive.is_some_and(|directive| directive.major != 1 || directive.minor != 1)
}

fn incompatible(start: &unsafe_libyaml::yaml_mark_t, base: usize) -> Failure {
    Failure {
        problem: "found incompatible YAML document".to_owned(),
        context: String::new(),
        problem_mark: Mark { offset: start.index as usize + base, line: start.line as usize },
        context_mark: Mark::default(),
        by_scanner: false,
        by_reader: false,
    }
}

/// SAFETY: `pointer` is null or points to a text that ends with a zero byte.
#[allow(unsafe_code)]
unsafe fn string(pointer: *const u8) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: as the function's.
    let text = unsafe { std::ffi::CStr::from_ptr(pointer.cast()) };
    Some(text.to_string_lossy().into_owned())
}
