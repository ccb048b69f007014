//! Publishing components: pushing them, and signing what was pushed.

use std::path::Path;

use opyard_model::digest::{ComponentDigest, ManifestDigest};
use opyard_model::error::{Code, Failure};
use opyard_model::supply::{At, OciReference, TrustedKey, Version, release_version};
use opyard_resources::oci::{Envelope, Purpose, Registry, Release, SigningKey, key_id};
use serde::Serialize;

use super::obtain::version;
use super::{registries, registry_of};
use crate::components;
use crate::error::YardError;
use crate::yard::Yard;

/// Largest key file.
const MAX_KEY: u64 = 16 << 10;

/// A component that is in a registry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Under which name.
    pub reference: OciReference,
    /// Its manifest.
    pub manifest: ManifestDigest,
    /// The component.
    pub component: ComponentDigest,
    /// The version that its manifest says.
    pub version: Option<Version>,
}

/// A signature that is in a registry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// What was signed.
    #[serde(flatten)]
    pub what: Published,
    /// The key that believes it, as `trust` takes it.
    pub ed25519: String,
    /// How the signature names the key.
    pub key_id: String,
    /// The artifact that holds it.
    pub signature: ManifestDigest,
}

impl Yard {
    /// Pushes a component file. Its interfaces and, if one is known, its version are said in the manifest.
    ///
    /// # Errors
    /// When the file is no component for Opyard; `OPY-244` when version and tag are different versions; `OPY-271` when the tag
    /// names something else and `replace` is false; those of [`Registry`].
    pub async fn push(
        &self,
        file: &Path,
        reference: &OciReference,
        said: Option<&str>,
        replace: bool,
    ) -> Result<Published, YardError> {
        let bytes = components::read(file)?;
        let version = version_to_say(reference, said)?;
        let description = self.describe(bytes.clone()).await?;
        let release = Release { version, imports: description.imports, exports: description.exports };
        let registries = registries(self.folder())?;
        let spec = registry_of(&registries, reference, self.folder())?;
        let registry = Registry::open(spec, reference, Purpose::Push).await?;
        let fetched = registry.push(bytes, &release, replace).await?;
        Ok(Published {
            reference: reference.clone(),
            manifest: fetched.digest,
            component: description.digest,
            version: release.version,
        })
    }

    /// Signs what a registry has under a reference, if it is the component of `file`: nobody signs what the registry says.
    ///
    /// # Errors
    /// `OPY-276` when the key cannot be used, `OPY-271` when the registry has something else; those of [`Registry`].
    pub async fn sign(&self, file: &Path, reference: &OciReference, key: &Path) -> Result<Signed, YardError> {
        let unreadable = |failure: Failure| Failure::new(Code::KeyUnusable, failure.description);
        let pem = components::read_bounded(key, MAX_KEY).map_err(unreadable)?;
        let key = SigningKey::from_pem(&pem)?;
        let bytes = components::read(file)?;
        let component = opyard_resources::oci::digest_of(&bytes);
        let registries = registries(self.folder())?;
        let spec = registry_of(&registries, reference, self.folder())?;
        let registry = Registry::open(spec, reference, Purpose::Push).await?;
        let fetched = registry.manifest(reference.at()).await?;
        if fetched.manifest.component != component {
            let text = format!("{reference} is {}, and {} is {component}", fetched.manifest.component, file.display());
            return Err(YardError::new(Code::TagMoved, text));
        }
        let version = version(reference, &fetched.manifest)?;
        let envelope = Envelope::sign(&key, reference, &fetched, version.as_ref());
        let signature = registry.attach(&fetched, &envelope).await?;
        let public: TrustedKey = key.public();
        let what = Published { reference: reference.clone(), manifest: fetched.digest, component, version };
        Ok(Signed { what, ed25519: public.to_string(), key_id: key_id(&public), signature })
    }
}

/// The version that a manifest will say.
fn version_to_say(reference: &OciReference, said: Option<&str>) -> Result<Option<Version>, Failure> {
    let of_tag = match reference.at() {
        At::Tag(tag) => release_version(tag),
        At::Manifest(_) => None,
    };
    let Some(said) = said else { return Ok(of_tag) };
    let wrong = || Failure::new(Code::BadCall, "a version has the form 1.4.2 (Semantic Versioning)");
    let said = release_version(said).ok_or_else(wrong)?;
    match of_tag {
        Some(tag) if tag.cmp_precedence(&said).is_ne() => {
            Err(Failure::new(Code::BadCall, format!("the tag says {tag}, and --version {said}")))
        }
        _ => Ok(Some(said)),
    }
}
