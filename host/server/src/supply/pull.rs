//! Pinning the components of a definitions file, and looking whether what they are pinned to still stands.

use std::path::Path;

use bytes::Bytes;
use opyard_model::definitions::{ComponentPlace, OciComponent};
use opyard_model::error::{Code, Failure};
use opyard_model::id::Name;
use opyard_model::supply::{At, Locked, OciReference, Origin, Signer, TrustedKey};
use serde::Serialize;

use super::LockFile;
use crate::error::YardError;
use crate::project::Project;
use crate::yard::Yard;

/// What may change in a lock file.
#[derive(Debug, Clone, Copy, Default)]
pub struct PullRules {
    /// A reference may be pinned to something else than it was.
    pub update: bool,
    /// An older version may take the place of a newer one.
    pub allow_downgrade: bool,
}

/// A component that may be run, with what is known of it.
#[derive(Debug, Clone)]
pub struct Obtained {
    /// The component.
    pub bytes: Bytes,
    /// What its reference is pinned to.
    pub locked: Locked,
    /// Where it came from.
    pub origin: Origin,
}

/// What has become of what a component was pinned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It was not pinned.
    New,
    /// It is what it was.
    Same,
    /// Its reference names something else now.
    Moved,
}

/// A component of a definitions file, pulled.
#[derive(Debug, Clone, Serialize)]
pub struct Pulled {
    /// Its name in the definitions.
    pub name: Name,
    /// What it was pinned to.
    pub standing: Standing,
    /// What it is pinned to.
    #[serde(flatten)]
    pub locked: Locked,
    /// Who signed it, of those who are trusted.
    pub signed_by: Vec<Signer>,
}

impl Yard {
    /// Asks the registries what the references of a definitions file name now, and pins that in the lock file. When anything is
    /// wrong, nothing is pinned.
    ///
    /// # Errors
    /// `OPY-271` when a tag was moved and `update` is not set, `OPY-272` when a version is older than the one that is pinned;
    /// all that is wrong with the definitions, the registries and the components.
    pub async fn pull(&self, definitions: &Path, rules: PullRules) -> Result<Vec<Pulled>, YardError> {
        let (definitions, path) = Project::parse(definitions)?;
        let mut file = LockFile::beside(&path)?;
        let (mut pulled, mut moved) = (Vec::new(), Vec::new());
        for (name, component) in of_registries(definitions.components()) {
            let obtained = self.obtain(component, component.reference.at()).await?;
            let before = file.lock.get(name).cloned();
            // So that a run need not ask again. What it ships is looked at when it is used.
            self.components().keep(obtained.locked.component, &obtained.bytes)?;
            let Obtained { locked, origin, .. } = obtained;
            let standing = match &before {
                Some(before) if before.manifest == locked.manifest => Standing::Same,
                Some(before) if before.reference == locked.reference => Standing::Moved,
                Some(_) | None => Standing::New,
            };
            if standing == Standing::Moved && !rules.update {
                let before = before.as_ref().map(|before| before.manifest.to_string()).unwrap_or_default();
                moved.push(format!("`{name}`: {} was {before} and is {} now", locked.reference, locked.manifest));
            }
            check_age(before.as_ref().filter(|_| !rules.allow_downgrade), &locked)?;
            pulled.push(Pulled { name: name.clone(), standing, locked, signed_by: origin.signed_by });
        }
        if !moved.is_empty() {
            let hint = "pin what they name now with `opyard op pull --update`";
            return Err(YardError::new(Code::TagMoved, format!("{}; {hint}", moved.join("; "))));
        }
        let mut changed = false;
        for one in &pulled {
            changed |= file.lock.pin(&one.name, one.locked.clone());
        }
        changed |= file.lock.retain(|name| pulled.iter().any(|one| one.name == *name));
        if changed {
            file.write()?;
        }
        Ok(pulled)
    }

    /// Gets one component by its reference, whatever a lock file says. `key` is demanded beside what the operator demands.
    ///
    /// # Errors
    /// As [`pull`](Self::pull).
    pub async fn fetch(&self, reference: &OciReference, key: Option<TrustedKey>) -> Result<Obtained, YardError> {
        let named = |key| (Name::new("key").expect("`key` is a name"), key);
        let component = OciComponent { reference: reference.clone(), digest: None, verify: key.map(named) };
        self.obtain(&component, reference.at()).await
    }

    /// Gets the component `name` of a definitions file: the one that it is pinned to, else what its reference names now, which
    /// is pinned by that. A component that is pinned and kept is not asked for.
    ///
    /// # Errors
    /// As [`pull`](Self::pull).
    pub(crate) async fn pinned(
        &self,
        name: &Name,
        component: &OciComponent,
        file: &LockFile,
    ) -> Result<Obtained, YardError> {
        let before = file.lock.get(name);
        let pin = before.filter(|before| before.reference == component.reference);
        let at = pin.map_or_else(|| component.reference.at().clone(), |pin| At::Manifest(pin.manifest));
        let obtained = self.obtain(component, &at).await?;
        if pin.is_some_and(|pin| *pin != obtained.locked) {
            let text = format!("{}: `{name}` is not what its own manifest says", file.path().display());
            return Err(YardError::new(Code::LockUnusable, text));
        }
        check_age(before, &obtained.locked)?;
        Ok(obtained)
    }
}

/// The components that are not files.
pub(crate) fn of_registries<'a>(
    components: impl Iterator<Item = (&'a Name, &'a ComponentPlace)>,
) -> impl Iterator<Item = (&'a Name, &'a OciComponent)> {
    components.filter_map(|(name, place)| match place {
        ComponentPlace::Oci(component) => Some((name, &**component)),
        ComponentPlace::File(_) => None,
    })
}

/// Refuses what is older than what was pinned.
fn check_age(before: Option<&Locked>, found: &Locked) -> Result<(), Failure> {
    let Some(before) = before.filter(|before| before.is_newer_than(found)) else { return Ok(()) };
    let said = |locked: &Locked| locked.version.as_ref().map_or_else(|| "no version".to_owned(), ToString::to_string);
    let text = format!(
        "{} says {}, and {} is pinned; if that is meant, `opyard op pull --update --allow-downgrade`",
        found.reference,
        said(found),
        said(before)
    );
    Err(Failure::new(Code::Downgrade, text))
}
