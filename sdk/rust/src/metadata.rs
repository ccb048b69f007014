//! Values that are shown beside outputs, events and failures.

pub use crate::bindings::opyard::op::types::{Column, MetadataEntry, MetadataValue};

impl MetadataValue {
    /// Text that is shown through a safe subset of Markdown.
    #[must_use]
    pub fn markdown(text: impl Into<String>) -> Self {
        Self::Markdown(text.into())
    }

    /// Any serialisable value as JSON; a value that has no JSON form (a map with keys that are no strings) as null.
    #[must_use]
    pub fn json(value: &impl serde::Serialize) -> Self {
        serde_json::to_string(value).map_or(Self::Null, Self::Json)
    }

    /// A small table: columns as `(name, data type)`, then the cells row by row.
    ///
    /// ```
    /// use opyard_guest::{MetadataValue, serde_json::json};
    ///
    /// let table = MetadataValue::table(&[("species", "text"), ("rows", "int")], [vec![json!("Adelie"), json!(146)]]);
    /// ```
    #[must_use]
    pub fn table(columns: &[(&str, &str)], rows: impl IntoIterator<Item = Vec<serde_json::Value>>) -> Self {
        let columns = columns
            .iter()
            .map(|&(name, data_type)| Column {
                name: name.to_owned(),
                data_type: data_type.to_owned(),
                nullable: false,
                description: None,
            })
            .collect();
        Self::Table((columns, rows.into_iter().map(|row| serde_json::Value::Array(row).to_string()).collect()))
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $made:expr),+ $(,)?) => {
        $(impl From<$type> for MetadataValue {
            fn from($value: $type) -> Self { $made }
        })+
    };
}

from! {
    bool => |value| Self::Boolean(value),
    i32 => |value| Self::Int(value.into()),
    i64 => |value| Self::Int(value),
    u8 => |value| Self::Int(value.into()),
    u16 => |value| Self::Int(value.into()),
    u32 => |value| Self::Int(value.into()),
    u64 => |value| Self::Int(i64::try_from(value).unwrap_or(i64::MAX)),
    usize => |value| Self::Int(i64::try_from(value).unwrap_or(i64::MAX)),
    f32 => |value| Self::Float(value.into()),
    f64 => |value| Self::Float(value),
    &str => |value| Self::Text(value.to_owned()),
    String => |value| Self::Text(value),
    &String => |value| Self::Text(value.clone()),
    serde_json::Value => |value| Self::Json(value.to_string()),
}

/// One entry of a list of metadata.
#[must_use]
pub fn entry(label: impl Into<String>, value: impl Into<MetadataValue>) -> MetadataEntry {
    MetadataEntry { label: label.into(), value: value.into() }
}
