//! Which columns a stream has, and how each lies in a record batch.

use super::flat::{Corrupt, Table};
use crate::params::Kind;

/// How deep columns may be nested.
const MAX_DEPTH: usize = 32;

/// A column, or what is nested in one.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: Type,
    /// What the column's values are indices into.
    pub(super) dictionary: Option<Dictionary>,
    pub(super) children: Vec<Field>,
}

/// A dictionary that a column refers to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dictionary {
    pub(super) id: i64,
    pub(super) index: Type,
}

/// The type of a column, as far as this checker tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Null,
    Int {
        bytes: usize,
        signed: bool,
    },
    Float {
        bytes: usize,
    },
    Boolean,
    Utf8,
    LargeUtf8,
    Utf8View,
    /// Days.
    Date32,
    /// Milliseconds.
    Date64,
    /// Each of so many nanoseconds.
    Timestamp {
        unit: i64,
    },
    /// One whose values are never looked at.
    Other {
        name: &'static str,
        buffers: usize,
        views: bool,
    },
}

/// Why a schema is not read.
pub(super) enum Refused {
    Corrupt,
    Because(String),
}

impl From<Corrupt> for Refused {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// The columns of a schema message.
pub(super) fn columns(schema: &Table<'_>, version: i16, limit: usize) -> Result<Vec<Field>, Refused> {
    if schema.i16(0, 0)? != 0 {
        return Err(Refused::Because("big-endian streams are not read".to_owned()));
    }
    let mut left = limit;
    children(schema, 1, version, MAX_DEPTH, &mut left).map_err(|refused| match refused {
        Refused::Corrupt if left == 0 => Refused::Because(format!("at most {limit} columns and fields are read")),
        refused => refused,
    })
}

/// `left`: how many more fields are read. (A small schema can share one field a billion times.)
fn children(
    table: &Table<'_>,
    slot: usize,
    version: i16,
    depth: usize,
    left: &mut usize,
) -> Result<Vec<Field>, Refused> {
    let fields = table.vector(slot, 4)?;
    if fields.len() > *left {
        *left = 0;
        return Err(Refused::Corrupt);
    }
    *left -= fields.len();
    if fields.len() > 0 && depth == 0 {
        return Err(Refused::Because(format!("columns are nested more than {MAX_DEPTH} deep")));
    }
    (0..fields.len()).map(|index| field(&fields.table(index)?, version, depth, left)).collect()
}

fn field(table: &Table<'_>, version: i16, depth: usize, left: &mut usize) -> Result<Field, Refused> {
    let dictionary = match table.table(4)? {
        Some(encoding) => {
            let index = match encoding.table(1)? {
                Some(int) => int_type(&int)?,
                None => Type::Int { bytes: 4, signed: true },
            };
            Some(Dictionary { id: encoding.i64(0)?, index })
        }
        None => None,
    };
    Ok(Field {
        name: table.text(0)?.to_owned(),
        ty: type_of(table, version)?,
        dictionary,
        children: children(table, 5, version, depth - 1, left)?,
    })
}

fn int_type(int: &Table<'_>) -> Result<Type, Corrupt> {
    let bytes = match int.i32(0)? {
        8 => 1,
        16 => 2,
        32 => 4,
        64 => 8,
        _ => return Err(Corrupt),
    };
    Ok(Type::Int { bytes, signed: int.u8(1)? != 0 })
}

/// The numbers are those of Arrow's union of types.
fn type_of(field: &Table<'_>, version: i16) -> Result<Type, Refused> {
    let details = field.table(3)?.ok_or(Corrupt)?;
    let other = |name, buffers| Type::Other { name, buffers, views: false };
    // Before version 5, unions had a bitmap of nulls.
    let union_bitmap = usize::from(version < 4);
    Ok(match field.u8(2)? {
        1 => Type::Null,
        2 => int_type(&details)?,
        3 => match details.i16(0, 0)? {
            0 => other("float16", 2),
            1 => Type::Float { bytes: 4 },
            2 => Type::Float { bytes: 8 },
            _ => return Err(Refused::Corrupt),
        },
        4 => other("binary", 3),
        5 => Type::Utf8,
        6 => Type::Boolean,
        7 => other("decimal", 2),
        8 => match details.i16(0, 1)? {
            0 => Type::Date32,
            1 => Type::Date64,
            _ => return Err(Refused::Corrupt),
        },
        9 => other("time", 2),
        10 => Type::Timestamp {
            unit: match details.i16(0, 0)? {
                0 => 1_000_000_000,
                1 => 1_000_000,
                2 => 1_000,
                3 => 1,
                _ => return Err(Refused::Corrupt),
            },
        },
        11 => other("interval", 2),
        12 => other("list", 2),
        13 => other("struct", 1),
        14 => other("union", union_bitmap + if details.i16(0, 0)? == 0 { 1 } else { 2 }),
        15 => other("fixed-size binary", 2),
        16 => other("fixed-size list", 1),
        17 => other("map", 2),
        18 => other("duration", 2),
        19 => other("large binary", 3),
        20 => Type::LargeUtf8,
        21 => other("large list", 2),
        22 => other("run-end encoded", 0),
        23 => Type::Other { name: "binary view", buffers: 2, views: true },
        24 => Type::Utf8View,
        25 => other("list view", 3),
        26 => other("large list view", 3),
        unknown => return Err(Refused::Because(format!("a column of type number {unknown}, which is not known"))),
    })
}

impl Type {
    /// How many buffers a column of this type has, what is nested in it apart, and whether more may follow.
    pub(super) fn buffers(self) -> (usize, bool) {
        match self {
            Self::Null => (0, false),
            Self::Int { .. } | Self::Float { .. } | Self::Boolean => (2, false),
            Self::Date32 | Self::Date64 | Self::Timestamp { .. } => (2, false),
            Self::Utf8 | Self::LargeUtf8 => (3, false),
            Self::Utf8View => (2, true),
            Self::Other { buffers, views, .. } => (buffers, views),
        }
    }

    /// Whether values of this type are of `kind`, or could be.
    pub(super) fn is(self, kind: Kind) -> bool {
        match self {
            Self::Null => true,
            Self::Int { .. } => kind == Kind::Int64,
            Self::Float { .. } => kind == Kind::Float64,
            Self::Boolean => kind == Kind::Boolean,
            Self::Utf8 | Self::LargeUtf8 | Self::Utf8View => kind == Kind::Utf8,
            Self::Date32 | Self::Date64 => kind == Kind::Date,
            Self::Timestamp { .. } => kind == Kind::Timestamp,
            Self::Other { .. } => false,
        }
    }

    /// As authors write it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Int { bytes, signed } => format!("{}int{}", if signed { "" } else { "u" }, bytes * 8),
            Self::Float { bytes } => format!("float{}", bytes * 8),
            Self::Boolean => "boolean".to_owned(),
            Self::Utf8 => "utf8".to_owned(),
            Self::LargeUtf8 => "large utf8".to_owned(),
            Self::Utf8View => "utf8 view".to_owned(),
            Self::Date32 => "date32".to_owned(),
            Self::Date64 => "date64".to_owned(),
            Self::Timestamp { .. } => "timestamp".to_owned(),
            Self::Other { name, .. } => name.to_owned(),
        }
    }
}
