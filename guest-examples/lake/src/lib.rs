//! A small lake: values in parts, with a manifest, in an object store.
//!
//! A value is cut at line ends, so that of NDJSON and CSV every part holds whole rows, and other programs read them one by
//! one. A part is named by the SHA-256 of its bytes and is never changed; the manifest lists the parts, and is written when
//! all of them are there. So a reader sees the value of before or that of now, and the digest of the manifest tells whether
//! anything has changed.
//!
//! What lies in the store is the claim of whoever wrote there: parts are compared with their digests when they are loaded.

mod manifest;
mod parts;

use opyard_guest::resource::{PutMode, ResourceError, ResourceErrorKind};
use opyard_guest::{Failure, IoManager, ObjectStore, Reader, Slot, Stored, Writer, events, io_manager};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use manifest::{Manifest, Part};

/// Where values are kept, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The folder of all values.
    #[schemars(length(min = 1, max = 200))]
    folder: String,
    /// Most bytes of a part, a longer line apart.
    #[serde(default = "part_bytes")]
    #[schemars(range(min = 1, max = 16_777_216))]
    part_bytes: u32,
}

fn part_bytes() -> u32 {
    1 << 20
}

/// A value: its manifest, and the digest of that, unless whatever is there now is meant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    manifest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// Keeps each value in parts of whole lines, with a manifest: `folder/step.port/manifest.json`.
///
/// A value of a later run takes the place of the one before.
#[io_manager]
struct Lines {
    config: Config,
    store: ObjectStore,
}

/// The name of a value: the same for every run.
fn name(slot: &Slot) -> String {
    let item = slot.mapping_key.as_ref().map(|key| format!(".{key}")).unwrap_or_default();
    let step = slot.step_key.replace('[', ".").replace(']', "");
    format!("{step}.{}{item}", slot.port)
}

impl Lines {
    /// The manifest that is there now, and its digest; none when there is none.
    fn manifest(&self, path: &str) -> Result<Option<(Manifest, String)>, Failure> {
        match self.store.read(path) {
            Ok(bytes) => {
                let digest = parts::digest(&bytes);
                Ok(Some((Manifest::parse(&bytes)?, digest)))
            }
            Err(ResourceError { kind: ResourceErrorKind::NotFound, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, folder: &str, parts: &[Part]) -> Result<(), Failure> {
        for part in parts {
            match self.store.remove(&part.path(folder)) {
                Ok(()) | Err(ResourceError { kind: ResourceErrorKind::NotFound, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl IoManager for Lines {
    type Locator = Place;

    fn handle_output(&self, slot: &Slot, mut value: Reader) -> Result<Stored<Place>, Failure> {
        let folder = format!("{}/{}", self.config.folder, name(slot));
        let path = format!("{folder}/manifest.json");
        // Whatever is wrong with the one before, it is replaced.
        let before = self.manifest(&path).ok().flatten();
        let mut manifest = Manifest::new(&value.type_name(), &value.media_type());
        parts::cut(&mut value, self.config.part_bytes as usize, |bytes| {
            let part = Part::of(bytes);
            self.store.put(&part.path(&folder), PutMode::Overwrite, bytes)?;
            manifest.push(part);
            Ok(())
        })?;
        let bytes = manifest.to_bytes()?;
        self.store.put(&path, PutMode::Overwrite, &bytes)?;
        if let Some((before, _)) = before {
            let gone: Vec<_> = before.parts.into_iter().filter(|part| !manifest.parts.contains(part)).collect();
            self.remove(&folder, &gone)?;
        }
        let (parts, lines) = (manifest.parts.len(), manifest.lines());
        let place = Place { manifest: path, digest: Some(parts::digest(&bytes)) };
        Ok(Stored::at(place).with_metadata("parts", parts).with_metadata("lines", lines))
    }

    fn load_input(&self, slot: &Slot, place: Place, mut into: Writer) -> Result<(), Failure> {
        let Some((manifest, digest)) = self.manifest(&place.manifest)? else {
            return Err(Failure::new(format!("there is no `{}`", place.manifest)).no_retry());
        };
        if place.digest.is_some_and(|expected| expected != digest) {
            return Err(Failure::new(format!("`{}` was replaced since", place.manifest)).no_retry());
        }
        let folder = manifest::folder(&place.manifest);
        for part in &manifest.parts {
            let bytes = self.store.read(&part.path(folder))?;
            if Part::of(&bytes) != *part {
                return Err(Failure::new(format!("`{}` was altered", part.path(folder))).no_retry());
            }
            into.write_bytes(&bytes)?;
        }
        events::log(events::Level::Info, &format!("{} parts for `{}`", manifest.parts.len(), slot.port), &[]);
        into.add_metadata("parts", manifest.parts.len())?;
        into.add_metadata("lines", manifest.lines())?;
        into.commit()
    }

    /// The digest of the manifest: parts cannot change under it.
    fn fingerprint(&self, place: Place) -> Result<Option<String>, Failure> {
        Ok(self.manifest(&place.manifest)?.map(|(_, digest)| digest))
    }

    fn forget(&self, place: Place) -> Result<(), Failure> {
        match self.manifest(&place.manifest)? {
            // What took its place is another value.
            Some((manifest, digest)) if place.digest.as_ref().is_none_or(|kept| *kept == digest) => {
                self.store.remove(&place.manifest)?;
                self.remove(manifest::folder(&place.manifest), &manifest.parts)
            }
            Some(_) | None => Ok(()),
        }
    }
}

opyard_guest::component! { io_managers: [Lines] }
