//! An IO manager that does what it is told to, allowed or not.

use opyard_guest::{Failure, IoManager, KeyValue, Reader, Slot, Stored, Writer, io_manager};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How it behaves.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct How {
    behaves: Behaviour,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    /// As it should: values are kept by their names, as long as they are small.
    Well,
    /// Fails, and says so.
    Fails,
    /// Panics.
    Panics,
    /// Never ends.
    Spins,
    /// Keeps nothing, and says that it is kept in a very long place.
    Rambles,
    /// Loads, and commits nothing.
    Forgets,
    /// Loads without end.
    Pours,
    /// Loads what is no JSON.
    Garbles,
    /// Tells a very long fingerprint.
    Boasts,
}

/// Where a value is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    name: String,
}

/// Keeps values in a bucket, or misbehaves.
#[io_manager(name = "moody")]
pub(crate) struct Moody {
    config: How,
    bucket: Option<KeyValue>,
}

impl Moody {
    fn misbehave(&self) -> Result<(), Failure> {
        match self.config.behaves {
            Behaviour::Fails => Err(Failure::new("it does not want to").with_metadata("mood", "bad")),
            Behaviour::Panics => panic!("it cannot stand this"),
            Behaviour::Spins => loop {
                std::hint::black_box(());
            },
            _ => Ok(()),
        }
    }

    fn bucket(&self) -> Result<&KeyValue, Failure> {
        self.bucket.as_ref().ok_or_else(|| Failure::new("it has no bucket").no_retry())
    }
}

impl IoManager for Moody {
    type Locator = Place;

    fn handle_output(&self, slot: &Slot, mut value: Reader) -> Result<Stored<Place>, Failure> {
        self.misbehave()?;
        if self.config.behaves == Behaviour::Rambles {
            return Ok(Stored::at(Place { name: "x".repeat(70_000) }));
        }
        let item = slot.mapping_key.as_ref().map(|key| format!("[{key}]")).unwrap_or_default();
        let name = format!("{}/{}.{}{item}", slot.run_id, slot.step_key, slot.port);
        let bytes = value.read_all()?;
        self.bucket()?.put(&name, &bytes)?;
        Ok(Stored::at(Place { name }).with_metadata("bytes", bytes.len()))
    }

    fn load_input(&self, _: &Slot, place: Place, mut into: Writer) -> Result<(), Failure> {
        self.misbehave()?;
        match self.config.behaves {
            Behaviour::Forgets => return Ok(()),
            Behaviour::Garbles => into.write_bytes(b"{\"no\": json")?,
            Behaviour::Pours => loop {
                into.write_bytes(&[b' '; 1 << 16])?;
            },
            _ => {
                let missing = || Failure::new(format!("there is no `{}`", place.name)).no_retry();
                into.write_bytes(&self.bucket()?.get(&place.name)?.ok_or_else(missing)?)?;
            }
        }
        into.add_metadata("from", place.name)?;
        into.commit()
    }

    fn fingerprint(&self, place: Place) -> Result<Option<String>, Failure> {
        match self.config.behaves {
            Behaviour::Boasts => Ok(Some("x".repeat(2_000))),
            Behaviour::Well => Ok(self.bucket()?.entry(&place.name)?.map(|entry| entry.revision)),
            _ => Ok(None),
        }
    }

    fn forget(&self, place: Place) -> Result<(), Failure> {
        self.misbehave()?;
        self.bucket()?.remove(&place.name)?;
        Ok(())
    }
}
