//! From a reference to the bytes of a component that may be run.

use bytes::Bytes;
use opyard_model::definitions::OciComponent;
use opyard_model::error::{Code, Failure};
use opyard_model::supply::{At, Locked, OciReference, Origin, Signer, Version, release_version};
use opyard_resources::oci::{ComponentManifest, Envelope, Fetched, Purpose, Registry};

use super::pull::Obtained;
use super::{registries, registry_of, trust};
use crate::error::YardError;
use crate::yard::Yard;

impl Yard {
    /// Gets the component of a reference at `at`: what its tag names now, or the manifest that it is pinned to. The policy is
    /// asked each time; the registry only for what the yard has not kept.
    ///
    /// # Errors
    /// `OPY-275` for a namespace that the operator does not name, `OPY-274` when nobody who is trusted has signed it, `OPY-271`
    /// when its bytes are not those of `digest`, and those of [`Registry`].
    pub(crate) async fn obtain(&self, component: &OciComponent, at: &At) -> Result<Obtained, YardError> {
        let reference = &component.reference;
        let registries = registries(self.folder())?;
        let spec = registry_of(&registries, reference, self.folder())?;
        let policy = registries.policy(self.tenant_store().tenant());
        let judge = |fetched: &Fetched, envelopes: &[Envelope]| {
            let demanded = component.verify.as_ref();
            trust::signers(&policy, demanded, (reference, fetched.digest), envelopes)
        };
        if let At::Manifest(digest) = at
            && let Some((fetched, envelopes)) = self.told_by_registries().read(*digest)
            && let Ok(signed_by) = judge(&fetched, &envelopes)
            && let Some(bytes) = self.components().verified(fetched.manifest.component).await
        {
            return obtained(component, &fetched, signed_by, bytes).map_err(Into::into);
        }
        let registry = Registry::open(spec, reference, Purpose::Pull).await?;
        let fetched = registry.manifest(at).await?;
        let envelopes = registry.signatures(fetched.digest).await?;
        // Before the component is fetched: what may not be run is not even read.
        let signed_by = judge(&fetched, &envelopes)?;
        let bytes = match self.components().verified(fetched.manifest.component).await {
            Some(bytes) => bytes,
            None => registry.component(&fetched.manifest).await?,
        };
        let obtained = obtained(component, &fetched, signed_by, bytes)?;
        self.told_by_registries().keep(&fetched, &envelopes)?;
        Ok(obtained)
    }
}

fn obtained(
    component: &OciComponent,
    fetched: &Fetched,
    signed_by: Vec<Signer>,
    bytes: Bytes,
) -> Result<Obtained, Failure> {
    let reference = &component.reference;
    let (manifest, found) = (fetched.digest, fetched.manifest.component);
    if let Some(pinned) = component.digest.filter(|pinned| *pinned != found) {
        let text = format!("{reference} is {found}, and the definitions pin {pinned}");
        return Err(Failure::new(Code::TagMoved, text));
    }
    let version = version(reference, &fetched.manifest)?;
    let locked = Locked { reference: reference.clone(), manifest, component: found, version: version.clone() };
    let origin = Origin { reference: reference.clone(), manifest, version, signed_by };
    Ok(Obtained { bytes, locked, origin })
}

/// The version that a manifest says, else that of the tag. A tag that is a version holds no other one: that is what a tag would
/// be moved to in order to show an old component as a new one.
pub(super) fn version(reference: &OciReference, manifest: &ComponentManifest) -> Result<Option<Version>, Failure> {
    let of_tag = match reference.at() {
        At::Tag(tag) => release_version(tag),
        At::Manifest(_) => None,
    };
    match (&manifest.version, of_tag) {
        (Some(said), Some(tag)) if said.cmp_precedence(&tag).is_ne() => {
            let text = format!("the registry cannot be believed: {reference} says that it is {said}");
            Err(Failure::new(Code::RegistryInvalid, text))
        }
        (Some(said), _) => Ok(Some(said.clone())),
        (None, of_tag) => Ok(of_tag),
    }
}
