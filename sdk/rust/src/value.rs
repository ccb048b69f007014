//! Typed values: the formats that inputs and outputs are read and written in.
//!
//! What is written is canonical: the same values give the same bytes, so that what is below can be memoised. (Order
//! within your own values is yours: iterate sorted collections, not a `HashMap`.)

use std::fmt;
use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::metadata::{MetadataEntry, MetadataValue, entry};
use crate::port::{Input, Output};
use crate::stream::{Reader, Writer};

/// What goes with a value, besides its bytes.
#[derive(Default)]
struct About {
    attached: Vec<MetadataEntry>,
    source: Option<Reader>,
}

macro_rules! value {
    ($(#[$doc:meta])* $name:ident $(<$param:ident>)? ($inner:ty) from $from:ty) => {
        $(#[$doc])*
        pub struct $name $(<$param>)? {
            value: $inner,
            about: About,
        }

        impl $(<$param>)? $name $(<$param>)? {
            /// Wraps a value, for an output or for a test.
            #[must_use]
            pub fn new(value: $from) -> Self {
                Self { value: value.into(), about: About::default() }
            }

            /// The value itself.
            #[must_use]
            pub fn into_inner(self) -> $inner {
                self.value
            }

            /// Attaches something that is shown beside this output, and that consumers can read.
            #[must_use]
            pub fn with_metadata(mut self, label: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
                self.about.attached.push(entry(label, value));
                self
            }

            /// What the op that made this input attached to it, or what was attached to this output.
            #[must_use]
            pub fn metadata(&self) -> Vec<MetadataEntry> {
                self.about.source.as_ref().map_or_else(|| self.about.attached.clone(), Reader::metadata)
            }

            /// The key of this input, where it is an item of a dynamic output.
            #[must_use]
            pub fn mapping_key(&self) -> Option<String> {
                self.about.source.as_ref().and_then(Reader::mapping_key)
            }
        }

        impl $(<$param>)? Deref for $name $(<$param>)? {
            type Target = $inner;
            fn deref(&self) -> &Self::Target {
                &self.value
            }
        }

        impl $(<$param>)? DerefMut for $name $(<$param>)? {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.value
            }
        }

        impl $(<$param: fmt::Debug>)? fmt::Debug for $name $(<$param>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.value).finish()
            }
        }
    };
}

value! {
    /// Bytes, of whatever media type. Type `bytes`.
    Bytes(Vec<u8>) from impl Into<Vec<u8>>
}
value! {
    /// UTF-8 text. Type `text`, written as `text/plain`.
    Text(String) from impl Into<String>
}
value! {
    /// One value as JSON. Type `json`.
    Json<T>(T) from T
}
value! {
    /// Rows as JSON, one per line. Type `table`, `application/x-ndjson`.
    JsonLines<T>(Vec<T>) from Vec<T>
}
value! {
    /// Rows with a header of their field names, comma-separated (RFC 4180, lines end in LF). Type `table`, `text/csv`.
    ///
    /// A table without rows is empty: without a row there is nothing to take the header from.
    Csv<T>(Vec<T>) from Vec<T>
}

/// Reads a whole value with `decode`, keeping the handle for what is known about the value.
fn read<T>(mut reader: Reader, decode: impl FnOnce(Vec<u8>) -> Result<T, Failure>) -> Result<(T, About), Failure> {
    let value = decode(reader.read_all()?)?;
    Ok((value, About { attached: Vec::new(), source: Some(reader) }))
}

/// Writes a whole value with `encode`.
fn write(
    mut writer: Writer,
    about: &About,
    encode: impl FnOnce(&mut Writer) -> Result<(), Failure>,
) -> Result<(), Failure> {
    encode(&mut writer)?;
    writer.add_entries(&about.attached)?;
    writer.commit()
}

impl Input for Bytes {
    const TYPE: &'static str = "bytes";
    const MEDIA_TYPES: &'static [&'static str] = &[];

    fn read(reader: Reader) -> Result<Self, Failure> {
        let (value, about) = read(reader, Ok)?;
        Ok(Self { value, about })
    }
}

impl Output for Bytes {
    const TYPE: &'static str = "bytes";
    const MEDIA_TYPE: &'static str = "application/octet-stream";

    fn write(self, writer: Writer) -> Result<(), Failure> {
        write(writer, &self.about, |writer| writer.write_bytes(&self.value))
    }
}

impl Input for Text {
    const TYPE: &'static str = "text";
    const MEDIA_TYPES: &'static [&'static str] = &[];

    fn read(reader: Reader) -> Result<Self, Failure> {
        let decode = |bytes| {
            String::from_utf8(bytes).map_err(|error| {
                let place = error.utf8_error().valid_up_to();
                Failure::new(format!("not UTF-8 at byte {place}")).no_retry()
            })
        };
        let (value, about) = read(reader, decode)?;
        Ok(Self { value, about })
    }
}

impl Output for Text {
    const TYPE: &'static str = "text";
    const MEDIA_TYPE: &'static str = "text/plain";

    fn write(self, writer: Writer) -> Result<(), Failure> {
        write(writer, &self.about, |writer| writer.write_bytes(self.value.as_bytes()))
    }
}

impl<T: DeserializeOwned> Input for Json<T> {
    const TYPE: &'static str = "json";
    const MEDIA_TYPES: &'static [&'static str] = &["application/json"];

    fn read(reader: Reader) -> Result<Self, Failure> {
        let (value, about) = read(reader, |bytes| decode_json(&bytes))?;
        Ok(Self { value, about })
    }
}

impl<T: Serialize> Output for Json<T> {
    const TYPE: &'static str = "json";
    const MEDIA_TYPE: &'static str = "application/json";

    fn write(self, writer: Writer) -> Result<(), Failure> {
        write(writer, &self.about, |writer| Ok(serde_json::to_writer(writer, &self.value)?))
    }
}

impl<T: DeserializeOwned> Input for JsonLines<T> {
    const TYPE: &'static str = "table";
    const MEDIA_TYPES: &'static [&'static str] = &["application/x-ndjson"];

    fn read(reader: Reader) -> Result<Self, Failure> {
        let (value, about) = read(reader, |bytes| decode_json_lines(&bytes))?;
        Ok(Self { value, about })
    }
}

impl<T: Serialize> Output for JsonLines<T> {
    const TYPE: &'static str = "table";
    const MEDIA_TYPE: &'static str = "application/x-ndjson";

    fn write(self, writer: Writer) -> Result<(), Failure> {
        write(writer, &self.about, |writer| encode_json_lines(&self.value, writer))
    }
}

impl<T: DeserializeOwned> Input for Csv<T> {
    const TYPE: &'static str = "table";
    const MEDIA_TYPES: &'static [&'static str] = &["text/csv"];

    fn read(reader: Reader) -> Result<Self, Failure> {
        let (value, about) = read(reader, |bytes| decode_csv(bytes.as_slice()))?;
        Ok(Self { value, about })
    }
}

impl<T: Serialize> Output for Csv<T> {
    const TYPE: &'static str = "table";
    const MEDIA_TYPE: &'static str = "text/csv";

    fn write(self, writer: Writer) -> Result<(), Failure> {
        write(writer, &self.about, |writer| encode_csv(&self.value, writer))
    }
}

impl<T: DeserializeOwned> Csv<T> {
    /// Reads rows from CSV with a header, as an input does: what an op that gets its bytes elsewhere needs.
    ///
    /// # Errors
    /// Names the line that is no such row.
    pub fn parse(bytes: impl Read) -> Result<Self, Failure> {
        decode_csv(bytes).map(Self::new)
    }
}

fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::from(error).no_retry())
}

fn decode_json_lines<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, Failure> {
    let lines = bytes.split(|&byte| byte == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let row = |(index, line): (usize, &[u8])| {
        decode_json(line).map_err(|failure| failure.while_doing(format_args!("line {}", index + 1)))
    };
    filled.map(row).collect()
}

fn encode_json_lines<T: Serialize>(rows: &[T], mut into: impl Write) -> Result<(), Failure> {
    for row in rows {
        serde_json::to_writer(&mut into, row)?;
        into.write_all(b"\n")?;
    }
    Ok(())
}

fn decode_csv<T: DeserializeOwned>(bytes: impl Read) -> Result<Vec<T>, Failure> {
    let rows = csv::Reader::from_reader(bytes).into_deserialize();
    rows.collect::<Result<_, _>>().map_err(|error: csv::Error| Failure::from(error).no_retry())
}

fn encode_csv<T: Serialize>(rows: &[T], into: impl Write) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(into);
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        name: String,
        mass: Option<f64>,
    }

    fn rows() -> Vec<Row> {
        let row = |name: &str, mass| Row { name: name.to_owned(), mass };
        vec![row("Adélie, \"the\" first", Some(3750.5)), row("line\nbreak", None)]
    }

    #[test]
    fn csv_goes_there_and_back_and_is_canonical() {
        let mut bytes = Vec::new();
        encode_csv(&rows(), &mut bytes).unwrap();
        assert_eq!(decode_csv::<Row>(bytes.as_slice()).unwrap(), rows());
        let mut again = Vec::new();
        encode_csv(&decode_csv::<Row>(bytes.as_slice()).unwrap(), &mut again).unwrap();
        assert_eq!(bytes, again);
        assert!(decode_csv::<Row>(&b""[..]).unwrap().is_empty());
    }

    #[test]
    fn csv_errors_name_the_line() {
        let failure = decode_csv::<Row>(&b"name,mass\na,1\nb,x\n"[..]).unwrap_err();
        assert!(failure.to_string().contains("line: 3"), "{failure}");
    }

    #[test]
    fn json_lines_skip_blank_lines_and_name_the_bad_one() {
        let mut bytes = Vec::new();
        encode_json_lines(&rows(), &mut bytes).unwrap();
        assert_eq!(decode_json_lines::<Row>(&bytes).unwrap(), rows());
        bytes.extend_from_slice(b"\r\n \n{\"name\":1}\n");
        let failure = decode_json_lines::<Row>(&bytes).unwrap_err();
        assert!(failure.to_string().starts_with("line 5: "), "{failure}");
    }
}
