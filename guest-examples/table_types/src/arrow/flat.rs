//! The part of FlatBuffers that Arrow's messages need. Every offset is a stranger's: none is followed out of the bytes.

/// An offset leads nowhere, or a length is no length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Corrupt;

/// A table: fields by slot, each of which may be missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A vector of items of one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector<'a> {
    bytes: &'a [u8],
    at: usize,
    length: usize,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Corrupt> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Corrupt)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, Corrupt> {
    usize::try_from(u32::from_le_bytes(array(bytes, at)?)).map_err(|_| Corrupt)
}

/// Where the offset at `at` leads: forward.
fn follow(bytes: &[u8], at: usize) -> Result<usize, Corrupt> {
    let to = at.checked_add(u32_at(bytes, at)?).ok_or(Corrupt)?;
    if to < bytes.len() { Ok(to) } else { Err(Corrupt) }
}

impl<'a> Table<'a> {
    /// The table that the bytes are.
    pub(super) fn root(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        Ok(Self { bytes, at: follow(bytes, 0)? })
    }

    /// Where a field is; none when it has its default.
    fn field(&self, slot: usize) -> Result<Option<usize>, Corrupt> {
        let back = i64::from(i32::from_le_bytes(array(self.bytes, self.at)?));
        let here = i64::try_from(self.at).map_err(|_| Corrupt)?;
        let slots = usize::try_from(here.checked_sub(back).ok_or(Corrupt)?).map_err(|_| Corrupt)?;
        let size = usize::from(u16::from_le_bytes(array(self.bytes, slots)?));
        let entry = 4 + 2 * slot;
        if entry + 2 > size {
            return Ok(None);
        }
        let offset = usize::from(u16::from_le_bytes(array(self.bytes, slots.checked_add(entry).ok_or(Corrupt)?)?));
        Ok((offset != 0).then_some(self.at + offset))
    }

    fn number<const N: usize>(&self, slot: usize) -> Result<Option<[u8; N]>, Corrupt> {
        self.field(slot)?.map(|at| array(self.bytes, at)).transpose()
    }

    pub(super) fn u8(&self, slot: usize) -> Result<u8, Corrupt> {
        Ok(self.number(slot)?.map_or(0, u8::from_le_bytes))
    }

    pub(super) fn i16(&self, slot: usize, default: i16) -> Result<i16, Corrupt> {
        Ok(self.number(slot)?.map_or(default, i16::from_le_bytes))
    }

    pub(super) fn i32(&self, slot: usize) -> Result<i32, Corrupt> {
        Ok(self.number(slot)?.map_or(0, i32::from_le_bytes))
    }

    pub(super) fn i64(&self, slot: usize) -> Result<i64, Corrupt> {
        Ok(self.number(slot)?.map_or(0, i64::from_le_bytes))
    }

    pub(super) fn table(&self, slot: usize) -> Result<Option<Table<'a>>, Corrupt> {
        let Some(at) = self.field(slot)? else { return Ok(None) };
        Ok(Some(Table { bytes: self.bytes, at: follow(self.bytes, at)? }))
    }

    /// Items of `size` bytes each; none when the field is missing.
    pub(super) fn vector(&self, slot: usize, size: usize) -> Result<Vector<'a>, Corrupt> {
        let Some(at) = self.field(slot)? else { return Ok(Vector { bytes: &[], at: 0, length: 0 }) };
        let at = follow(self.bytes, at)?;
        let length = u32_at(self.bytes, at)?;
        let end = length.checked_mul(size).and_then(|bytes| bytes.checked_add(at + 4)).ok_or(Corrupt)?;
        if end > self.bytes.len() {
            return Err(Corrupt);
        }
        Ok(Vector { bytes: self.bytes, at: at + 4, length })
    }

    /// A string; empty when the field is missing.
    pub(super) fn text(&self, slot: usize) -> Result<&'a str, Corrupt> {
        let vector = self.vector(slot, 1)?;
        let bytes = vector.bytes.get(vector.at..vector.at + vector.length).ok_or(Corrupt)?;
        std::str::from_utf8(bytes).map_err(|_| Corrupt)
    }
}

impl<'a> Vector<'a> {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// A vector of offsets to tables.
    pub(super) fn table(&self, index: usize) -> Result<Table<'a>, Corrupt> {
        if index >= self.length {
            return Err(Corrupt);
        }
        Ok(Table { bytes: self.bytes, at: follow(self.bytes, self.at + 4 * index)? })
    }

    /// A vector of numbers, or of structs of `N` numbers.
    pub(super) fn numbers<const N: usize>(&self, index: usize) -> Result<[i64; N], Corrupt> {
        if index >= self.length {
            return Err(Corrupt);
        }
        let mut numbers = [0; N];
        for (place, number) in numbers.iter_mut().enumerate() {
            *number = i64::from_le_bytes(array(self.bytes, self.at + 8 * (N * index + place))?);
        }
        Ok(numbers)
    }
}
