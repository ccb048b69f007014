//! The files that a run is made of: definitions, components, configs. They are looked at now and then, which works with
//! every editor, compiler and file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use opyard_server::Project;

use crate::args::Overlay;
use crate::place::Place;

/// How often the files are looked at: a tenth of what a person notices as waiting.
const LOOK: Duration = Duration::from_millis(100);

/// What tells one version of a file from another; none when it is not there.
type Version = Option<(u64, SystemTime)>;

/// Files, and the version of each that was used last.
pub(crate) struct Sources {
    definitions: PathBuf,
    configs: Vec<PathBuf>,
    used: BTreeMap<PathBuf, Version>,
}

impl Sources {
    /// The files of a run that is about to be planned.
    pub(crate) fn of(place: &Place, overlay: &Overlay) -> Self {
        let mut sources =
            Self { definitions: place.file.clone(), configs: overlay.config.clone(), used: BTreeMap::new() };
        sources.used = sources.versions();
        sources
    }

    /// Waits until a file differs from the one that was used, and has stopped changing: a compiler writes in pieces.
    pub(crate) async fn change(&mut self) {
        let mut last = self.used.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.versions();
            let there = now.values().all(Option::is_some);
            if now != self.used && now == last && there {
                // A file that changes while it is used is another one than this.
                self.used = now;
                return;
            }
            last = now;
        }
    }

    fn versions(&self) -> BTreeMap<PathBuf, Version> {
        // While the definitions cannot be read, what they named before is looked at.
        let components = Project::component_files(&self.definitions);
        let components = components.unwrap_or_else(|_| self.used.keys().cloned().collect());
        let all = std::iter::once(self.definitions.clone()).chain(self.configs.iter().cloned()).chain(components);
        all.map(|path| (path.clone(), version(&path))).collect()
    }
}

fn version(path: &Path) -> Version {
    let about = std::fs::metadata(path).ok()?;
    Some((about.len(), about.modified().ok()?))
}
