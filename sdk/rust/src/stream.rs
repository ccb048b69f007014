//! Values as streams of bytes: what the typed inputs and outputs are made of, and what large values are read and
//! written with, piece by piece, in little memory.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;

use crate::Failure;
use crate::bindings::opyard::op::io as host;
use crate::bindings::opyard::op::values;
use crate::definition::{self, OpDefinition};
use crate::failure::io_error_text;
use crate::metadata::{MetadataEntry, MetadataValue, entry};
use crate::port::{Argument, Input, OptionalArgument, Port, Role, start_output};

/// The most that crosses in one call.
const MAX_CHUNK: usize = 1 << 20;
/// How much a writer gathers before it calls the host.
const BUFFER: usize = 64 << 10;

/// A value that is read piece by piece: the one on an input, or the one that a type checker looks at. As a parameter of
/// an op it takes any bytes.
pub struct Reader {
    /// The input, or the type checker's parameter: what an error names.
    port: &'static str,
    source: Source,
}

enum Source {
    /// The host's value on an input.
    Input(values::Reader),
    /// The host's value, lent for one call: the binding gives it back when the call returns.
    Lent(ManuallyDrop<values::Reader>),
    /// A value without a host.
    Memory(Memory),
}

/// What a unit test has in place of a host's value.
struct Memory {
    media_type: String,
    bytes: Vec<u8>,
    /// The reading position.
    at: Cell<usize>,
}

impl Memory {
    fn read_at(&self, offset: usize, max: usize) -> Vec<u8> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        rest[..rest.len().min(max)].to_vec()
    }
}

impl Reader {
    pub(crate) fn new(port: &'static str, handle: values::Reader) -> Self {
        Self { port, source: Source::Input(handle) }
    }

    /// A value that the host lends for the length of one call.
    ///
    /// Kept for longer, it is a handle that the host no longer knows: using it traps.
    pub(crate) fn lent(port: &'static str, handle: &values::Reader) -> Self {
        #[expect(unsafe_code, reason = "the second owner is never dropped, so the handle is given back once")]
        let again = unsafe { values::Reader::from_handle(handle.handle()) };
        Self { port, source: Source::Lent(ManuallyDrop::new(again)) }
    }

    /// A value in memory, of type `bytes` and without metadata: what a unit test hands to an op or a type checker.
    ///
    /// ```
    /// use opyard_guest::Reader;
    ///
    /// let mut value = Reader::from_bytes("text/plain", "one two");
    /// assert_eq!((value.size(), value.next_chunk(3).unwrap().as_slice()), (7, &b"one"[..]));
    /// assert_eq!(value.read_all().unwrap(), b" two");
    /// ```
    #[must_use]
    pub fn from_bytes(media_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let memory = Memory { media_type: media_type.into(), bytes: bytes.into(), at: Cell::new(0) };
        Self { port: "value", source: Source::Memory(memory) }
    }

    /// The host's value, or the one in memory.
    fn source(&self) -> Result<&values::Reader, &Memory> {
        match &self.source {
            Source::Input(handle) => Ok(handle),
            Source::Lent(handle) => Ok(handle),
            Source::Memory(memory) => Err(memory),
        }
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.source().map_or_else(|memory| memory.bytes.len() as u64, values::Reader::size)
    }

    /// The name of the value's type.
    #[must_use]
    pub fn type_name(&self) -> String {
        self.source().map_or_else(|_| "bytes".to_owned(), values::Reader::type_name)
    }

    /// How its bytes are laid out.
    #[must_use]
    pub fn media_type(&self) -> String {
        self.source().map_or_else(|memory| memory.media_type.clone(), values::Reader::media_type)
    }

    /// What the op that made the value attached to it.
    #[must_use]
    pub fn metadata(&self) -> Vec<MetadataEntry> {
        self.source().map_or_else(|_| Vec::new(), values::Reader::metadata)
    }

    /// The key of this item in a mapped or collected input.
    #[must_use]
    pub fn mapping_key(&self) -> Option<String> {
        self.source().map_or(None, values::Reader::mapping_key)
    }

    /// At most `max` bytes (and at most 1 MiB) from `offset`; empty at the end. Does not move the reading position.
    ///
    /// # Errors
    /// What the host said.
    pub fn read_at(&self, offset: u64, max: u32) -> Result<Vec<u8>, Failure> {
        match self.source() {
            Ok(handle) => handle.read_at(offset, max).map_err(|error| Failure::of_port(self.port, error)),
            Err(memory) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                Ok(memory.read_at(offset, MAX_CHUNK.min(max as usize)))
            }
        }
    }

    /// The next bytes: exactly the least of `max`, 1 MiB and what is left; empty at the end.
    ///
    /// # Errors
    /// What the host said.
    pub fn next_chunk(&mut self, max: u32) -> Result<Vec<u8>, Failure> {
        self.chunk(max as usize)
    }

    /// Everything that is left. Holds it in memory: of a large value, read pieces.
    ///
    /// # Errors
    /// What the host said.
    pub fn read_all(&mut self) -> Result<Vec<u8>, Failure> {
        let size = usize::try_from(self.size()).map_err(|_| Failure::new("larger than this op's memory").no_retry())?;
        let mut all = self.chunk(MAX_CHUNK)?;
        if all.len() < size {
            all.reserve_exact(size - all.len());
            loop {
                let chunk = self.chunk(MAX_CHUNK)?;
                if chunk.is_empty() {
                    break;
                }
                all.extend_from_slice(&chunk);
            }
        }
        Ok(all)
    }

    fn chunk(&self, max: usize) -> Result<Vec<u8>, Failure> {
        let max = max.min(MAX_CHUNK);
        match self.source() {
            Ok(handle) => {
                let max = u32::try_from(max).expect("1 MiB fits");
                handle.read(max).map_err(|error| Failure::of_port(self.port, error))
            }
            Err(memory) => {
                let chunk = memory.read_at(memory.at.get(), max);
                memory.at.set(memory.at.get() + chunk.len());
                Ok(chunk)
            }
        }
    }
}

impl io::Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunk = self.chunk(into.len()).map_err(|failure| io::Error::other(failure.to_string()))?;
        into[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Input for Reader {
    const TYPE: &'static str = "bytes";
    const MEDIA_TYPES: &'static [&'static str] = &[];

    fn read(reader: Reader) -> Result<Self, Failure> {
        Ok(reader)
    }
}

/// An output that is written piece by piece. As a parameter it is the output of that name.
///
/// Nothing is yielded before [`commit`](Self::commit): a writer that is dropped leaves nothing behind.
pub struct Writer {
    port: &'static str,
    handle: values::Writer,
    buffer: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(port: &'static str, handle: values::Writer) -> Self {
        Self { port, handle, buffer: Vec::new() }
    }

    /// Attaches a value that is shown beside the output, and that consumers can read.
    ///
    /// # Errors
    /// What the host said.
    pub fn add_metadata(&mut self, label: impl Into<String>, value: impl Into<MetadataValue>) -> Result<(), Failure> {
        self.add_entries(&[entry(label, value)])
    }

    pub(crate) fn add_entries(&mut self, entries: &[MetadataEntry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        self.handle.add_metadata(entries).map_err(|error| Failure::of_port(self.port, error))
    }

    /// Makes what was written the value of the output.
    ///
    /// # Errors
    /// What the host said.
    pub fn commit(mut self) -> Result<(), Failure> {
        self.send_buffer()?;
        values::Writer::commit(self.handle).map_err(|error| Failure::of_port(self.port, error))
    }

    fn send_buffer(&mut self) -> Result<(), Failure> {
        let sent = if self.buffer.is_empty() { Ok(()) } else { self.handle.write(&self.buffer) };
        self.buffer.clear();
        sent.map_err(|error| Failure::of_port(self.port, error))
    }

    /// Writes all of `bytes`: [`io::Write::write_all`] with an error that names the port.
    ///
    /// # Errors
    /// What the host said.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + bytes.len() <= BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.send_buffer()?;
        bytes.chunks(MAX_CHUNK).try_for_each(|chunk| {
            self.handle
                .write(chunk)
                .map_err(|error| Failure::new(format!("port `{}`: {}", self.port, io_error_text(error))))
        })
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.write_bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => Err(io::Error::other(failure.to_string())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_buffer().map_err(|failure| io::Error::other(failure.to_string()))
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Argument for Writer {
    const ROLE: Role = Role::Output;

    fn declare(port: &Port, op: &mut OpDefinition) {
        op.outputs.push(definition::output(port, "bytes", "application/octet-stream"));
    }

    fn acquire(port: &Port) -> Result<Self, Failure> {
        start_output(port)
    }
}

/// An output that may be left out, by not committing it.
impl OptionalArgument for Writer {
    fn acquire_optional(port: &Port) -> Result<Option<Self>, Failure> {
        start_output(port).map(Some)
    }
}

/// A dynamic output: yielded any number of times, each with a mapping key; the steps below run once per key.
///
/// ```
/// use opyard_guest::{Dynamic, Failure, Text, op};
///
/// /// Splits a book at its chapters.
/// #[op]
/// fn chapters(book: Text, chapter: Dynamic<Text>) -> Result<(), Failure> {
///     for (number, text) in book.split("CHAPTER").skip(1).enumerate() {
///         chapter.emit(&format!("chapter-{number}"), Text::new(text.to_owned()))?;
///     }
///     Ok(())
/// }
/// ```
pub struct Dynamic<T> {
    port: Port,
    value: std::marker::PhantomData<fn(T)>,
}

impl<T: crate::port::Output> Dynamic<T> {
    /// Yields the item `key`: 1 to 63 of `a-z`, `0-9`, `_` and `-`, each key once.
    ///
    /// The steps below may start on it at once.
    ///
    /// # Errors
    /// What the host said; a key it cannot take.
    pub fn emit(&self, key: &str, value: T) -> Result<(), Failure> {
        check_mapping_key(key)?;
        let handle = host::dynamic_output(self.port.name, key)
            .map_err(|error| Failure::of_port(self.port.name, error).while_doing(format_args!("item `{key}`")))?;
        value.write(Writer::new(self.port.name, handle))
    }
}

impl<T> fmt::Debug for Dynamic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dynamic").field("port", &self.port.name).finish_non_exhaustive()
    }
}

impl<T: crate::port::Output> Argument for Dynamic<T> {
    const ROLE: Role = Role::Output;

    fn declare(port: &Port, op: &mut OpDefinition) {
        let mut output = definition::output(port, T::TYPE, T::MEDIA_TYPE);
        output.dynamic = true;
        op.outputs.push(output);
    }

    fn acquire(port: &Port) -> Result<Self, Failure> {
        Ok(Self { port: *port, value: std::marker::PhantomData })
    }
}

/// Says what is wrong with a mapping key, before the host has to.
fn check_mapping_key(key: &str) -> Result<(), Failure> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if (1..=63).contains(&key.len()) && key.bytes().all(allowed) {
        return Ok(());
    }
    Err(Failure::new(format!("mapping key {key:?} is not 1 to 63 of a-z, 0-9, '_' and '-'")).no_retry())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_keys() {
        for good in ["a", "chapter-1", "_", &"x".repeat(63)] {
            assert!(check_mapping_key(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert!(check_mapping_key(bad).is_err(), "{bad}");
        }
    }
}
