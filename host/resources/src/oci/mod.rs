//! Components in OCI registries: pulled, pushed, and signed.
//!
//! What is stored is what `wkg` and `wash` read (the CNCF's layout of Wasm artifacts): a manifest with one layer
//! `application/wasm`, so that the layer's digest is the component's, and a config `application/vnd.wasm.config.v0+json`. A
//! signature is an artifact beside it that refers to the manifest (`subject`): a DSSE envelope with an in-toto statement.
//!
//! # Hostile registries
//! Which registry is spoken to is the operator's choice; what it answers is nobody's. Every answer is bounded in bytes and
//! in time, every digest is computed here while reading, media types are checked, redirects are counted, and credentials
//! are sent to the registry's own origin alone (and to the token server, if the operator names one).

mod challenge;
mod envelope;
mod manifest;
mod session;

use bytes::Bytes;
use opyard_model::definitions::registries::RegistrySpec;
use opyard_model::digest::{ComponentDigest, ManifestDigest};
use opyard_model::error::{Code, Failure};
use opyard_model::supply::{At, OciReference};
use reqwest::StatusCode;

pub use envelope::{Envelope, SigningKey, key_id};
pub use manifest::{ComponentManifest, Release};
pub use session::Purpose;

use manifest::{Index, MANIFEST, Referrer, SignatureManifest};
use session::Session;

/// Largest component, in bytes: 64 MiB.
pub const MAX_COMPONENT: u64 = 64 << 20;
/// Largest manifest of a component.
const MAX_MANIFEST: u64 = 256 << 10;
/// Largest list of what refers to a manifest.
const MAX_INDEX: u64 = 1 << 20;
/// Largest envelope.
const MAX_ENVELOPE: u64 = 64 << 10;
/// Most signatures that are looked at: whoever may write to the registry could add any number.
const MAX_SIGNATURES: usize = 32;

/// One repository of a registry, spoken to for one purpose.
pub struct Registry {
    session: Session,
    reference: OciReference,
}

/// A manifest as it came: its bytes have the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// SHA-256 of the bytes, computed here.
    pub digest: ManifestDigest,
    /// The bytes.
    pub bytes: Bytes,
    /// What they say.
    pub manifest: ComponentManifest,
}

impl Fetched {
    /// Reads a manifest that was kept.
    ///
    /// # Errors
    /// `OPY-333` when it is not the manifest of a component.
    pub fn of(bytes: Bytes) -> Result<Self, Failure> {
        let manifest = ComponentManifest::parse(&bytes)?;
        Ok(Self { digest: ManifestDigest::from_bytes(session::sha256(&bytes)), bytes, manifest })
    }
}

impl Registry {
    /// Speaks to the registry of `reference`, which is at `spec`, for as long as a token lasts.
    ///
    /// # Errors
    /// `OPY-332` when it does not answer or refuses, `OPY-333` when it asks for credentials in a way that cannot be followed,
    /// `OPY-319` when the password is not where it should be.
    pub async fn open(spec: &RegistrySpec, reference: &OciReference, purpose: Purpose) -> Result<Self, Failure> {
        let session = Session::open(spec, reference, purpose).await?;
        Ok(Self { session, reference: reference.clone() })
    }

    /// The manifest at `at`.
    ///
    /// # Errors
    /// `OPY-230` when there is none, `OPY-332`, `OPY-333` when it is not the manifest of a component, or not the one that was
    /// asked for.
    pub async fn manifest(&self, at: &At) -> Result<Fetched, Failure> {
        let wanted = self.reference.with(at.clone());
        let name = match at {
            At::Tag(tag) => tag.clone(),
            At::Manifest(digest) => digest.to_string(),
        };
        let bytes = self.session.document(&["manifests", &name], MANIFEST, MAX_MANIFEST).await?;
        let bytes = bytes.ok_or_else(|| {
            let text = format!("there is no {wanted} at {}, or it is not shown to us", self.session.shown());
            Failure::new(Code::ComponentUnreadable, text)
        })?;
        let fetched = Fetched::of(bytes)?;
        match at {
            At::Manifest(digest) if *digest != fetched.digest => {
                Err(invalid(&format!("asked for {wanted} it answers with {}", fetched.digest)))
            }
            At::Tag(_) | At::Manifest(_) => Ok(fetched),
        }
    }

    /// The bytes of a component. Its digest is computed while reading; nothing is answered before all of it was compared.
    ///
    /// # Errors
    /// `OPY-332`, `OPY-333` when they are not what the manifest says.
    pub async fn component(&self, manifest: &ComponentManifest) -> Result<Bytes, Failure> {
        self.session.blob(manifest.component.as_bytes(), manifest.size).await
    }

    /// The envelopes that refer to a manifest, 32 at most. Nothing of them is believed yet; what cannot be read is left out.
    ///
    /// # Errors
    /// `OPY-332`.
    pub async fn signatures(&self, subject: ManifestDigest) -> Result<Vec<Envelope>, Failure> {
        let mut envelopes = Vec::new();
        for referrer in self.referrers(subject).await?.signatures().take(MAX_SIGNATURES) {
            match self.envelope(subject, referrer).await {
                Ok(envelope) => envelopes.push(envelope),
                // Somebody else's, perhaps: it is not what decides.
                Err(failure) if failure.code == Code::RegistryInvalid => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(envelopes)
    }

    async fn envelope(&self, subject: ManifestDigest, referrer: &Referrer) -> Result<Envelope, Failure> {
        let name = referrer.digest.to_string();
        let bytes = self.session.document(&["manifests", &name], MANIFEST, MAX_MANIFEST).await?;
        let bytes = bytes.ok_or_else(|| invalid("it lists a signature that is not there"))?;
        if session::sha256(&bytes) != *referrer.digest.as_bytes() {
            return Err(invalid("a signature is not the one that it lists"));
        }
        let manifest = SignatureManifest::parse(&bytes, subject)?;
        if manifest.size > MAX_ENVELOPE {
            return Err(invalid("a signature of more than 64 KiB"));
        }
        Envelope::parse(&self.session.blob(&manifest.envelope, manifest.size).await?)
    }

    /// What refers to a manifest: by the registry's own list, or where it keeps none, by the tag that stands in for it.
    async fn referrers(&self, subject: ManifestDigest) -> Result<Index, Failure> {
        let name = subject.to_string();
        let listed = self.session.document(&["referrers", &name], manifest::INDEX, MAX_INDEX).await?;
        let bytes = match listed {
            Some(bytes) => Some(bytes),
            None => self.session.document(&["manifests", &stand_in(subject)], manifest::INDEX, MAX_INDEX).await?,
        };
        bytes.map_or_else(|| Ok(Index::default()), |bytes| Index::parse(&bytes))
    }

    /// Puts a component under a tag, with what can be said of it. The same component, pushed twice, has the same digest.
    ///
    /// # Errors
    /// `OPY-271` when the tag names another one and `replace` is false; `OPY-332`, `OPY-333`.
    pub async fn push(&self, component: Bytes, release: &Release, replace: bool) -> Result<Fetched, Failure> {
        let At::Tag(tag) = self.reference.at() else {
            return Err(Failure::new(Code::BadUrl, "a component is pushed under a tag: `namespace/name:1.4.2`"));
        };
        let digest = digest_of(&component);
        let config = release.config(digest);
        let bytes = release.manifest(digest, component.len() as u64, &config);
        let fetched = Fetched::of(bytes)?;
        if !replace {
            match self.manifest(self.reference.at()).await {
                Ok(there) if there.digest == fetched.digest => return Ok(fetched),
                Err(failure) if failure.code == Code::ComponentUnreadable => {}
                Ok(_) | Err(Failure { code: Code::RegistryInvalid, .. }) => {
                    let text = format!("{} is there already, and is something else", self.reference);
                    return Err(Failure::new(Code::TagMoved, text));
                }
                Err(failure) => return Err(failure),
            }
        }
        self.session.put_blob(component).await?;
        self.session.put_blob(config).await?;
        self.session.put_manifest(tag, MANIFEST, fetched.bytes.clone()).await?;
        Ok(fetched)
    }

    /// Stores a signature beside the manifest that it is about. Beside others: each stays.
    ///
    /// # Errors
    /// `OPY-332`, `OPY-333`.
    pub async fn attach(&self, subject: &Fetched, envelope: &Envelope) -> Result<ManifestDigest, Failure> {
        let envelope = envelope.to_bytes();
        let bytes = manifest::of_signature(subject, &envelope);
        let digest = ManifestDigest::from_bytes(session::sha256(&bytes));
        let size = bytes.len() as u64;
        self.session.put_blob(manifest::EMPTY_CONFIG.into()).await?;
        self.session.put_blob(envelope).await?;
        let listed = self.session.put_manifest(&digest.to_string(), MANIFEST, bytes).await?;
        if !listed {
            // The registry keeps no list of what refers to what: the tag that stands in for it is ours to write.
            let name = stand_in(subject.digest);
            let before = self.session.document(&["manifests", &name], manifest::INDEX, MAX_INDEX).await?;
            let mut index = before.map_or_else(|| Ok(Index::default()), |bytes| Index::parse(&bytes))?;
            if index.add(Referrer::signature(digest, size)) {
                self.session.put_manifest(&name, manifest::INDEX, index.to_bytes()).await?;
            }
        }
        Ok(digest)
    }
}

/// The tag of a list of what refers to a manifest, in a registry that keeps no such list itself.
fn stand_in(subject: ManifestDigest) -> String {
    subject.to_string().replace(':', "-")
}

/// A registry that answers with what it must not.
fn invalid(problem: &str) -> Failure {
    Failure::new(Code::RegistryInvalid, format!("the registry cannot be believed: {problem}"))
}

/// What a status means that is not a success.
fn refusal(status: StatusCode, shown: &str) -> Failure {
    let text = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("{shown} does not let us: status {}", status.as_u16())
        }
        _ => format!("{shown} answers with status {}", status.as_u16()),
    };
    Failure::new(Code::RegistryUnavailable, text)
}

/// SHA-256 of what is too large to be held, in hex.
#[derive(Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn hex(self) -> String {
        let digest = ManifestDigest::from_bytes(sha2::Digest::finalize(self.0).into()).to_string();
        digest.trim_start_matches("sha256:").to_owned()
    }
}

/// The digest of a component's bytes, as registries compute it.
#[must_use]
pub fn digest_of(component: &[u8]) -> ComponentDigest {
    ComponentDigest::from_bytes(session::sha256(component))
}
