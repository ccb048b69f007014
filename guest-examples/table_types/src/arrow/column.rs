//! The values of a column in a record batch.

use super::flat::{Corrupt, Table, Vector};
use super::schema::{Field, Type};
use crate::value::Cell;

/// Where in a body a buffer lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    start: usize,
    end: usize,
}

impl Place {
    fn of(self, body: &[u8]) -> Result<&[u8], Corrupt> {
        body.get(self.start..self.end).ok_or(Corrupt)
    }
}

/// A column, as a record batch describes it.
#[derive(Debug)]
pub(super) struct Layout {
    /// Values.
    pub(super) length: u64,
    nulls: bool,
    buffers: Vec<Place>,
}

/// Goes through the columns of a record batch, in the order in which they lie there.
pub(super) struct Walk<'a> {
    nodes: Vector<'a>,
    buffers: Vector<'a>,
    views: Vector<'a>,
    node: usize,
    buffer: usize,
    view: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(batch: &Table<'a>) -> Result<Self, Corrupt> {
        let (nodes, buffers, views) = (batch.vector(1, 16)?, batch.vector(2, 16)?, batch.vector(4, 8)?);
        Ok(Self { nodes, buffers, views, node: 0, buffer: 0, view: 0 })
    }

    /// The next column, which is this field. What is nested in it is passed over.
    pub(super) fn next(&mut self, field: &Field) -> Result<Layout, Corrupt> {
        // Of a dictionary, the batch has the indices alone; what would be nested is in the dictionary.
        let ty = field.dictionary.map_or(field.ty, |dictionary| dictionary.index);
        let layout = self.take(ty)?;
        if field.dictionary.is_none() {
            for child in &field.children {
                self.next(child)?;
            }
        }
        Ok(layout)
    }

    /// The values of a dictionary, which are of this type.
    pub(super) fn take(&mut self, ty: Type) -> Result<Layout, Corrupt> {
        let [length, nulls] = self.nodes.numbers(self.node)?;
        self.node += 1;
        let (mut count, has_views) = ty.buffers();
        if has_views {
            let [more] = self.views.numbers(self.view)?;
            self.view += 1;
            count = usize::try_from(more).ok().and_then(|more| more.checked_add(count)).ok_or(Corrupt)?;
        }
        if count > self.buffers.len().saturating_sub(self.buffer) {
            return Err(Corrupt);
        }
        let mut places = Vec::with_capacity(count);
        for index in self.buffer..self.buffer + count {
            let [offset, length] = self.buffers.numbers(index)?;
            let start = usize::try_from(offset).map_err(|_| Corrupt)?;
            let length = usize::try_from(length).map_err(|_| Corrupt)?;
            places.push(Place { start, end: start.checked_add(length).ok_or(Corrupt)? });
        }
        self.buffer += count;
        let length = u64::try_from(length).map_err(|_| Corrupt)?;
        Ok(Layout { length, nulls: nulls != 0, buffers: places })
    }
}

/// The values of a column, or of a dictionary.
#[derive(Debug)]
pub(super) struct Values<'a> {
    /// One bit a value, where some are null.
    bitmap: Option<&'a [u8]>,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    Null,
    Int {
        bytes: usize,
        signed: bool,
        values: &'a [u8],
    },
    Float32(&'a [u8]),
    Float64(&'a [u8]),
    Boolean(&'a [u8]),
    /// Ends of texts, each of so many bytes, and the texts.
    Texts {
        width: usize,
        ends: &'a [u8],
        texts: &'a [u8],
    },
    Views {
        views: &'a [u8],
        texts: Vec<&'a [u8]>,
    },
    Days(&'a [u8]),
    Milliseconds(&'a [u8]),
    Moments {
        unit: i64,
        values: &'a [u8],
    },
}

impl<'a> Values<'a> {
    /// The values in `body` of a column of type `ty`, which is one that can be looked at.
    pub(super) fn new(ty: Type, layout: &Layout, body: &'a [u8]) -> Result<Self, Corrupt> {
        let buffer = |index: usize| layout.buffers.get(index).ok_or(Corrupt)?.of(body);
        let data = match ty {
            Type::Null => return Ok(Self { bitmap: None, data: Data::Null }),
            Type::Int { bytes, signed } => Data::Int { bytes, signed, values: buffer(1)? },
            Type::Float { bytes: 4 } => Data::Float32(buffer(1)?),
            Type::Float { .. } => Data::Float64(buffer(1)?),
            Type::Boolean => Data::Boolean(buffer(1)?),
            Type::Utf8 => Data::Texts { width: 4, ends: buffer(1)?, texts: buffer(2)? },
            Type::LargeUtf8 => Data::Texts { width: 8, ends: buffer(1)?, texts: buffer(2)? },
            Type::Utf8View => {
                let texts = layout.buffers.iter().skip(2).map(|place| place.of(body)).collect::<Result<_, _>>()?;
                Data::Views { views: buffer(1)?, texts }
            }
            Type::Date32 => Data::Days(buffer(1)?),
            Type::Date64 => Data::Milliseconds(buffer(1)?),
            Type::Timestamp { unit } => Data::Moments { unit, values: buffer(1)? },
            Type::Other { .. } => return Err(Corrupt),
        };
        let bitmap = if layout.nulls { Some(buffer(0)?) } else { None };
        Ok(Self { bitmap, data })
    }

    /// A value.
    pub(super) fn cell(&self, index: usize) -> Result<Cell<'a>, Corrupt> {
        if let Some(bitmap) = self.bitmap
            && !bit(bitmap, index)?
        {
            return Ok(Cell::Null);
        }
        Ok(match &self.data {
            Data::Null => Cell::Null,
            Data::Int { bytes, signed, values } => int(values, index, *bytes, *signed)?,
            Data::Float32(values) => Cell::Float(f32::from_le_bytes(item(values, index)?).into()),
            Data::Float64(values) => Cell::Float(f64::from_le_bytes(item(values, index)?)),
            Data::Boolean(bits) => Cell::Boolean(bit(bits, index)?),
            Data::Texts { width, ends, texts } => {
                let end = |index| match width {
                    4 => usize::try_from(i32::from_le_bytes(item(ends, index)?)).map_err(|_| Corrupt),
                    _ => usize::try_from(i64::from_le_bytes(item(ends, index)?)).map_err(|_| Corrupt),
                };
                Cell::Text(text(texts, end(index)?, end(index + 1)?)?)
            }
            Data::Views { views, texts } => Cell::Text(view(views, texts, index)?),
            Data::Days(values) => Cell::Day(i32::from_le_bytes(item(values, index)?).into()),
            Data::Milliseconds(values) => Cell::Day(i64::from_le_bytes(item(values, index)?).div_euclid(86_400_000)),
            Data::Moments { unit, values } => {
                Cell::Moment(i128::from(i64::from_le_bytes(item(values, index)?)) * i128::from(*unit))
            }
        })
    }

    /// The value of an index into a dictionary; none for null.
    pub(super) fn index(&self, index: usize) -> Result<Option<usize>, Corrupt> {
        match self.cell(index)? {
            Cell::Null => Ok(None),
            Cell::Int(value) => usize::try_from(value).map(Some).map_err(|_| Corrupt),
            _ => Err(Corrupt),
        }
    }
}

fn item<const N: usize>(values: &[u8], index: usize) -> Result<[u8; N], Corrupt> {
    let start = index.checked_mul(N).ok_or(Corrupt)?;
    values.get(start..).and_then(|rest| rest.first_chunk()).copied().ok_or(Corrupt)
}

fn bit(bits: &[u8], index: usize) -> Result<bool, Corrupt> {
    Ok(bits.get(index / 8).ok_or(Corrupt)? >> (index % 8) & 1 == 1)
}

fn int(values: &[u8], index: usize, bytes: usize, signed: bool) -> Result<Cell<'static>, Corrupt> {
    Ok(match (bytes, signed) {
        (1, true) => Cell::Int(i8::from_le_bytes(item(values, index)?).into()),
        (2, true) => Cell::Int(i16::from_le_bytes(item(values, index)?).into()),
        (4, true) => Cell::Int(i32::from_le_bytes(item(values, index)?).into()),
        (_, true) => Cell::Int(i64::from_le_bytes(item(values, index)?)),
        (1, false) => Cell::Int(u8::from_le_bytes(item(values, index)?).into()),
        (2, false) => Cell::Int(u16::from_le_bytes(item(values, index)?).into()),
        (4, false) => Cell::Int(u32::from_le_bytes(item(values, index)?).into()),
        (_, false) => {
            let value = u64::from_le_bytes(item(values, index)?);
            i64::try_from(value).map_or(Cell::Large(value), Cell::Int)
        }
    })
}

fn text(bytes: &[u8], start: usize, end: usize) -> Result<&str, Corrupt> {
    std::str::from_utf8(bytes.get(start..end).ok_or(Corrupt)?).map_err(|_| Corrupt)
}

/// A text of up to 12 bytes stands in its view; of a longer one, the view says where it is.
fn view<'a>(views: &'a [u8], texts: &[&'a [u8]], index: usize) -> Result<&'a str, Corrupt> {
    let start = index.checked_mul(16).ok_or(Corrupt)?;
    let view: &[u8; 16] = views.get(start..).and_then(|rest| rest.first_chunk()).ok_or(Corrupt)?;
    let number = |at: usize| {
        let bytes: [u8; 4] = view.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Corrupt)?;
        usize::try_from(i32::from_le_bytes(bytes)).map_err(|_| Corrupt)
    };
    let length = number(0)?;
    if length <= 12 {
        return text(view, 4, 4 + length);
    }
    let (buffer, offset) = (texts.get(number(8)?).ok_or(Corrupt)?, number(12)?);
    text(buffer, offset, offset.checked_add(length).ok_or(Corrupt)?)
}
