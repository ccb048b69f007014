//! Tables in columns: Arrow IPC streams.

use std::io::BufReader;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;

use crate::Failure;
use crate::metadata::{MetadataEntry, MetadataValue, entry};
use crate::port::{Input, Output};
use crate::stream::{Reader, Writer};

/// Record batches of one schema. Type `table`, `application/vnd.apache.arrow.stream`.
#[derive(Debug, Clone)]
pub struct Arrow {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    attached: Vec<MetadataEntry>,
}

impl Arrow {
    /// A table of these batches.
    ///
    /// # Errors
    /// A batch has another schema.
    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Self, Failure> {
        if batches.iter().any(|batch| batch.schema() != schema) {
            return Err(Failure::new("the record batches have different schemas"));
        }
        Ok(Self { schema, batches, attached: Vec::new() })
    }

    /// What the columns are.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The rows, in batches.
    #[must_use]
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Attaches something that is shown beside this output, and that consumers can read.
    #[must_use]
    pub fn with_metadata(mut self, label: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
        self.attached.push(entry(label, value));
        self
    }

    fn decode(bytes: impl std::io::Read) -> Result<Self, Failure> {
        let stream = StreamReader::try_new(bytes, None).map_err(|error| Failure::from(error).no_retry())?;
        let schema = stream.schema();
        let batches = stream.collect::<Result<_, _>>().map_err(|error| Failure::from(error).no_retry())?;
        Ok(Self { schema, batches, attached: Vec::new() })
    }

    fn encode(&self, into: impl std::io::Write) -> Result<(), Failure> {
        let mut stream = StreamWriter::try_new(into, &self.schema)?;
        for batch in &self.batches {
            stream.write(batch)?;
        }
        Ok(stream.finish()?)
    }
}

impl Input for Arrow {
    const TYPE: &'static str = "table";
    const MEDIA_TYPES: &'static [&'static str] = &["application/vnd.apache.arrow.stream"];

    fn read(reader: Reader) -> Result<Self, Failure> {
        Self::decode(BufReader::with_capacity(1 << 20, reader))
    }
}

impl Output for Arrow {
    const TYPE: &'static str = "table";
    const MEDIA_TYPE: &'static str = "application/vnd.apache.arrow.stream";

    fn write(self, mut writer: Writer) -> Result<(), Failure> {
        self.encode(&mut writer)?;
        writer.add_entries(&self.attached)?;
        writer.commit()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn columns_go_there_and_back() {
        let species = Field::new("species", DataType::Utf8, false);
        let mass = Field::new("mass", DataType::Float64, true);
        let schema = Arc::new(Schema::new(vec![species, mass]));
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["Gentoo", "Adelie"])),
            Arc::new(Float64Array::from(vec![Some(5000.0), None])),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let table = Arrow::new(schema, vec![batch]).unwrap();
        let mut bytes = Vec::new();
        table.encode(&mut bytes).unwrap();
        let again = Arrow::decode(bytes.as_slice()).unwrap();
        assert_eq!((again.schema(), again.batches()), (table.schema(), table.batches()));
        assert!(Arrow::decode(&bytes[..bytes.len() / 2]).is_err());
    }
}
