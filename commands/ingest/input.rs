//! Where samples come from: mapped files, pipes, compressed files; bytes ahead of the reader, and no more of them
//! than it asks for.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use tsdbctl_platform::file::{FileError, is_plain_file, open_stream};
use tsdbctl_platform::map::Map;

/// Bytes that are read from a stream at one time.
const BLOCK: usize = 128 << 10;
/// Blocks that may lie between the reading thread and us.
const BLOCKS_AHEAD: usize = 8;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What asking for more bytes brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Some.
    Bytes,
    /// None in the time given; the writer may be waiting for us.
    Idle,
    /// There are no more.
    End,
}

/// An input that is being read.
pub struct Input {
    /// How it is called in messages.
    pub name: String,
    source: Source,
    /// Bytes consumed.
    pub offset: u64,
    /// Whole size in bytes, where that is known before.
    pub size: Option<u64>,
}

enum Source {
    Mapped {
        map: Map,
        at: usize,
    },
    Memory {
        bytes: Vec<u8>,
        at: usize,
    },
    Stream {
        blocks: Receiver<io::Result<Vec<u8>>>,
        buffer: Vec<u8>,
        at: usize,
        ended: bool,
        /// Why reading failed; what came before may still be used, and is no whole input.
        failed: Option<String>,
    },
}

impl Input {
    /// Opens a file, or stdin for `-`. Compression by gzip or zstd is seen by the first bytes.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let name = if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() };
        let stream = |reader: Box<dyn Read + Send>| Self::streaming(name.clone(), reader);
        if path == Path::new("-") {
            return Ok(stream(Box::new(io::stdin())));
        }
        if !is_plain_file(path) {
            return Ok(stream(open_stream(path)?));
        }
        let map = Map::open(path)?;
        if map.bytes().starts_with(&GZIP) || map.bytes().starts_with(&ZSTD) {
            return Ok(stream(open_stream(path)?));
        }
        let size = Some(map.bytes().len() as u64);
        Ok(Self { name, source: Source::Mapped { map, at: 0 }, offset: 0, size })
    }

    /// Bytes that are in memory already.
    pub fn of_bytes(name: String, bytes: Vec<u8>) -> Self {
        let size = Some(bytes.len() as u64);
        Self { name, source: Source::Memory { bytes, at: 0 }, offset: 0, size }
    }

    /// Reads `reader` on a thread of its own, so that a pipe that is silent can be told from one that is busy.
    pub fn streaming(name: String, reader: Box<dyn Read + Send>) -> Self {
        let (send, blocks) = sync_channel(BLOCKS_AHEAD);
        std::thread::spawn(move || {
            let mut reader = match decompressing(reader) {
                Ok(reader) => reader,
                Err(e) => return drop(send.send(Err(e))),
            };
            // A pipe gives far less at a time than there is room for.
            let mut block = vec![0; BLOCK];
            loop {
                let result = match reader.read(&mut block) {
                    Ok(0) => return,
                    Ok(n) => Ok(block[..n].to_vec()),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => Err(e),
                };
                let failed = result.is_err();
                if send.send(result).is_err() || failed {
                    return;
                }
            }
        });
        let source = Source::Stream { blocks, buffer: Vec::new(), at: 0, ended: false, failed: None };
        Self { name, source, offset: 0, size: None }
    }

    /// The bytes at hand that were not consumed.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Mapped { map, at } => map.bytes().get(*at..).unwrap_or_default(),
            Source::Memory { bytes, at } => bytes.get(*at..).unwrap_or_default(),
            Source::Stream { buffer, at, .. } => &buffer[*at..],
        }
    }

    /// Whether there is nothing behind the bytes at hand.
    pub fn is_complete(&self) -> bool {
        match &self.source {
            Source::Mapped { .. } | Source::Memory { .. } => true,
            Source::Stream { ended, .. } => *ended,
        }
    }

    /// Goes on by `n` of the bytes at hand.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.bytes().len());
        self.offset += n as u64;
        match &mut self.source {
            Source::Mapped { at, .. } | Source::Memory { at, .. } | Source::Stream { at, .. } => *at += n,
        }
    }

    /// Waits for more bytes, `wait` at most.
    ///
    /// # Errors
    /// If reading fails.
    pub fn more(&mut self, wait: Duration) -> Result<More, FileError> {
        let path = Path::new(&self.name);
        match &mut self.source {
            Source::Mapped { .. } | Source::Memory { .. } => Ok(More::End),
            Source::Stream { ended: true, .. } => Ok(More::End),
            Source::Stream { failed: Some(reason), .. } => {
                Err(FileError::new("read", path, io::Error::other(reason.clone())))
            }
            Source::Stream { blocks, buffer, at, ended, failed } => match blocks.recv_timeout(wait) {
                Ok(Ok(block)) => {
                    if *at > 0 {
                        buffer.drain(..*at);
                        *at = 0;
                    }
                    buffer.extend_from_slice(&block);
                    Ok(More::Bytes)
                }
                Ok(Err(e)) => {
                    *failed = Some(e.to_string());
                    Err(FileError::new("read", path, e))
                }
                Err(RecvTimeoutError::Timeout) => Ok(More::Idle),
                Err(RecvTimeoutError::Disconnected) => {
                    *ended = true;
                    Ok(More::End)
                }
            },
        }
    }

    /// Fails if the file was cut short while it was read.
    ///
    /// # Errors
    /// If it was.
    pub fn check(&self) -> Result<(), FileError> {
        match &self.source {
            Source::Mapped { map, .. } if map.has_faulted() => {
                let cause =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut short while it was read");
                Err(FileError::new("read", map.path(), cause))
            }
            _ => Ok(()),
        }
    }
}

/// A reader of the decompressed bytes.
fn decompressing(mut reader: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::new();
    // As soon as it cannot be compressed, nothing more is waited for.
    while head.len() < 4 && (GZIP.starts_with(&head) || head.starts_with(&GZIP) || ZSTD.starts_with(&head)) {
        if head.starts_with(&GZIP) {
            break;
        }
        let mut byte = [0];
        match reader.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => head.push(byte[0]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    let all = io::Cursor::new(head).chain(reader);
    Ok(if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(all))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::new(all)?)
    } else {
        Box::new(all)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(mut input: Input) -> Result<Vec<u8>, FileError> {
        loop {
            match input.more(Duration::from_secs(5))? {
                More::End => return Ok(input.bytes().to_vec()),
                More::Idle => panic!("nothing comes"),
                More::Bytes => {}
            }
        }
    }

    #[test]
    fn compressed_streams_are_seen_by_their_first_bytes() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|i| i.to_le_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for bytes in [text.clone(), gzip.finish().unwrap(), zstd] {
            let input = Input::streaming("x".to_owned(), Box::new(io::Cursor::new(bytes)));
            assert!(all(input).unwrap() == text);
        }
        for short in [&b""[..], b"\x1f", b"\x28\xb5\x2f", b"a"] {
            let input = Input::streaming("x".to_owned(), Box::new(io::Cursor::new(short.to_vec())));
            assert_eq!(all(input).unwrap(), short);
        }
    }

    #[test]
    fn a_stream_that_fails_says_so() {
        let input = Input::streaming("x".to_owned(), Box::new(io::Cursor::new(vec![0x1f, 0x8b, 1, 2, 3, 4])));
        assert!(all(input).unwrap_err().to_string().starts_with("x: cannot read: "));
    }

    #[test]
    fn consumed_bytes_are_gone() {
        let mut input = Input::streaming("x".to_owned(), Box::new(io::Cursor::new(b"abcdef".to_vec())));
        while input.more(Duration::from_secs(5)).unwrap() != More::End {}
        input.consume(4);
        assert_eq!((input.bytes(), input.offset, input.is_complete()), (&b"ef"[..], 4, true));
        input.consume(9);
        assert_eq!((input.bytes(), input.offset), (&b""[..], 6));
    }
}
