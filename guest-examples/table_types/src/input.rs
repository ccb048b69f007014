//! The bytes of a value, in pieces, and how much of them is held.

use opyard_guest::{Failure, Reader};

/// How much a check may hold. Tests make these small.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes that are read at a time.
    pub(crate) chunk: u32,
    /// Bytes of a row of CSV or NDJSON, its end included.
    pub(crate) row: usize,
    /// Columns of a table, and, in Arrow, whatever is nested in them.
    pub(crate) columns: usize,
    /// Bytes of an Arrow message without its body.
    pub(crate) message: usize,
    /// Bytes of a record batch, or of all dictionaries together.
    pub(crate) batch: usize,
    /// Values that have to be unique, over all columns.
    pub(crate) unique: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { chunk: 256 << 10, row: 1 << 20, columns: 10_000, message: 16 << 20, batch: 64 << 20, unique: 2_000_000 }
    }
}

/// Why a table is not read to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It is no table. Says where and why.
    Malformed(String),
    /// The host could not read it.
    Failed(Failure),
}

/// What is wrong with the bytes, as a [`Stop`].
pub(crate) fn malformed<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Malformed(what.into()))
}

/// A value that is being read: a window on its bytes.
pub(crate) struct Input<'a> {
    reader: Reader,
    pub(crate) limits: &'a Limits,
    buffer: Vec<u8>,
    /// Where in the buffer the window begins.
    start: usize,
    /// Where in the value the window begins.
    offset: u64,
    /// Bytes that were not read into the buffer yet.
    unread: u64,
}

impl<'a> Input<'a> {
    pub(crate) fn new(reader: Reader, limits: &'a Limits) -> Self {
        let unread = reader.size();
        Self { reader, limits, buffer: Vec::new(), start: 0, offset: 0, unread }
    }

    /// The bytes that were read and not yet taken.
    pub(crate) fn window(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Where in the value the window begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the window reaches to the end of the value.
    pub(crate) fn is_last(&self) -> bool {
        self.unread == 0
    }

    /// Moves the window's beginning by `length`, or by all of it.
    pub(crate) fn take(&mut self, length: usize) {
        let length = length.min(self.window().len());
        self.start += length;
        self.offset += length as u64;
    }

    /// Makes the window longer. False at the end of the value.
    pub(crate) fn more(&mut self) -> Result<bool, Stop> {
        if self.unread == 0 {
            return Ok(false);
        }
        let chunk = self.reader.next_chunk(self.limits.chunk).map_err(Stop::Failed)?;
        if chunk.is_empty() {
            // The host said that there is more: it is its word against its own.
            return Err(Stop::Failed(Failure::new("the value ended before its size")));
        }
        self.unread = self.unread.saturating_sub(chunk.len() as u64);
        if self.start == self.buffer.len() && self.buffer.capacity() <= chunk.capacity() {
            self.buffer = chunk;
        } else {
            self.buffer.drain(..self.start);
            self.buffer.extend_from_slice(&chunk);
        }
        self.start = 0;
        Ok(true)
    }

    /// Makes the window at least `length` long. False when the value ends before; nothing is read then, so that a length
    /// that a stranger claims takes no memory.
    pub(crate) fn fill(&mut self, length: usize) -> Result<bool, Stop> {
        let missing = length.saturating_sub(self.window().len());
        if missing as u64 > self.unread {
            return Ok(false);
        }
        if missing > self.limits.chunk as usize {
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.reserve_exact(missing + self.limits.chunk as usize);
        }
        while self.window().len() < length {
            self.more()?;
        }
        Ok(true)
    }

    /// Goes on by `length` without holding it. False when the value ends before.
    pub(crate) fn skip(&mut self, length: u64) -> Result<bool, Stop> {
        let mut left = length;
        loop {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.window().len());
            self.take(here);
            left -= here as u64;
            if left == 0 {
                return Ok(true);
            }
            if !self.more()? {
                return Ok(false);
            }
        }
    }
}
