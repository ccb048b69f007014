//! Signatures: an Ed25519 key signs an in-toto statement in a DSSE envelope. Nothing of it needs a network.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use opyard_model::digest::ManifestDigest;
use opyard_model::error::{Code, Failure};
use opyard_model::supply::{OciReference, TrustedKey, Version};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::session::sha256;
use super::{Fetched, MAX_ENVELOPE, invalid};

/// What the payload is.
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What the statement says of its subject: that it is that version of that component.
const RELEASE: &str = "urn:opyard:release:1";
/// Most signatures of one envelope, and most subjects of one statement, that are looked at.
const MAX_OF_EACH: usize = 16;

/// A key that signs. It is not shown by `Debug`.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    /// Reads a key from PEM: PKCS #8, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// `OPY-276`. The text holds no byte of what was read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Failure> {
        let wrong = |problem: &str| Failure::new(Code::KeyUnusable, problem);
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| wrong("expected a PEM file with `BEGIN PRIVATE KEY`: one without a passphrase"))?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| wrong("the key is not an Ed25519 key; `openssl genpkey -algorithm ed25519` makes one"))
    }

    /// The key with which its signatures are checked.
    #[must_use]
    pub fn public(&self) -> TrustedKey {
        let bytes = self.0.public_key().as_ref();
        TrustedKey::from_bytes(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }
}

/// How signatures name a key: the SHA-256 of its DER, in hex. A hint; it decides nothing.
#[must_use]
pub fn key_id(key: &TrustedKey) -> String {
    ManifestDigest::from_bytes(sha256(&key.der())).to_string().trim_start_matches("sha256:").to_owned()
}

/// A DSSE envelope, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// What a statement says, of that which counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: String,
}

/// What is signed: the type and the payload with their lengths, so that neither can be taken for the other (DSSE's PAE).
fn signed_bytes(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// Signs that the manifest `subject` is that of the component at `reference`.
    #[must_use]
    pub fn sign(key: &SigningKey, reference: &OciReference, subject: &Fetched, version: Option<&Version>) -> Self {
        let digest = subject.digest.to_string();
        let statement = json!({
            "_type": STATEMENT,
            "subject": [{
                "name": reference.path(),
                "digest": { "sha256": digest.trim_start_matches("sha256:") },
            }],
            "predicateType": RELEASE,
            "predicate": { "component": subject.manifest.component, "version": version },
        });
        let payload = statement.to_string().into_bytes();
        let sig = key.0.sign(&signed_bytes(IN_TOTO, &payload));
        let signature = Signature { keyid: key_id(&key.public()), sig: STANDARD.encode(sig.as_ref()) };
        Self { payload: STANDARD.encode(payload), payload_type: IN_TOTO.to_owned(), signatures: vec![signature] }
    }

    /// Reads an envelope; nothing of it is believed by that. Registry-controlled.
    ///
    /// # Errors
    /// `OPY-333`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.len() as u64 > MAX_ENVELOPE {
            return Err(invalid("a signature of more than 64 KiB"));
        }
        serde_json::from_slice(bytes).map_err(|_| invalid("a signature that cannot be read"))
    }

    /// The envelope as it is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts alone").into()
    }

    /// Whether `key` signed that the manifest `subject` is that of a component at the path of `reference`.
    ///
    /// The path counts: whoever writes to the registry could otherwise put one component of a trusted author under the name
    /// of another. Nothing of the payload is looked at before the signature over all of it is right.
    #[must_use]
    pub fn is_by(&self, key: &TrustedKey, reference: &OciReference, subject: ManifestDigest) -> bool {
        let Ok(payload) = STANDARD.decode(&self.payload) else { return false };
        if self.payload_type != IN_TOTO {
            return false;
        }
        let signed = signed_bytes(&self.payload_type, &payload);
        let public = UnparsedPublicKey::new(&ED25519, key.as_bytes());
        let is_signed = self
            .signatures
            .iter()
            .take(MAX_OF_EACH)
            .any(|signature| STANDARD.decode(&signature.sig).is_ok_and(|sig| public.verify(&signed, &sig).is_ok()));
        if !is_signed {
            return false;
        }
        let Ok(statement) = serde_json::from_slice::<Statement>(&payload) else { return false };
        let (path, digest) = (reference.path(), subject.to_string());
        statement.kind == STATEMENT
            && statement.predicate_type == RELEASE
            && statement.subject.iter().take(MAX_OF_EACH).any(|subject| {
                subject.name == path && digest.strip_prefix("sha256:") == Some(subject.digest.sha256.as_str())
            })
    }
}

#[cfg(test)]
mod tests {
    use opyard_model::digest::ComponentDigest;
    use proptest::prelude::*;

    use super::super::Release;
    use super::*;

    /// A key that `openssl genpkey -algorithm ed25519` made, and what `openssl pkey -pubout` says of it.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINyMQJDBoitDOMqR+fDdIBl1zYElYiTtXmXGt9SzHOOR\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "MCowBQYDK2VwAyEA6ihh86fKAHTsIEflatqw9bm7UV80c/z7O9tHFdXtdh4=";

    fn subject() -> Fetched {
        let release = Release { version: None, imports: Vec::new(), exports: Vec::new() };
        let component = ComponentDigest::from_bytes([3; 32]);
        Fetched::of(release.manifest(component, 4, &release.config(component))).unwrap()
    }

    #[test]
    fn what_openssl_makes_signs() {
        let key = SigningKey::from_pem(PRIVATE.as_bytes()).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC);
        assert!(!format!("{key:?}").contains("zYElYiTtXmXGt9SzHOOR"));
        for wrong in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", PUBLIC] {
            assert_eq!(SigningKey::from_pem(wrong.as_bytes()).unwrap_err().code, Code::KeyUnusable);
        }
    }

    #[test]
    fn a_signature_is_of_one_manifest_under_one_name_by_one_key() {
        let key = SigningKey::from_pem(PRIVATE.as_bytes()).unwrap();
        let (subject, reference) = (subject(), "acme/stats:1.4.2".parse::<OciReference>().unwrap());
        let envelope = Envelope::sign(&key, &reference, &subject, None);
        let envelope = Envelope::parse(&envelope.to_bytes()).unwrap();
        let public = key.public();
        assert!(envelope.is_by(&public, &reference, subject.digest));
        // Tags may be moved: what is signed is the name and the manifest.
        assert!(envelope.is_by(&public, &"acme/stats:latest".parse().unwrap(), subject.digest));
        assert!(!envelope.is_by(&public, &"acme/other:1.4.2".parse().unwrap(), subject.digest));
        assert!(!envelope.is_by(&public, &reference, ManifestDigest::from_bytes([4; 32])));
        assert!(!envelope.is_by(&TrustedKey::from_bytes([7; 32]), &reference, subject.digest));
        let mut unsigned = envelope.clone();
        unsigned.signatures.clear();
        assert!(!unsigned.is_by(&public, &reference, subject.digest));
        let retyped = Envelope { payload_type: "application/json".to_owned(), ..envelope };
        assert!(!retyped.is_by(&public, &reference, subject.digest));
    }

    proptest! {
        /// Whatever byte of an envelope is altered: either it is the same envelope, or it is not by the key.
        #[test]
        fn no_altered_envelope_is_believed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let key = SigningKey::from_pem(PRIVATE.as_bytes()).unwrap();
            let (subject, reference) = (subject(), "acme/stats:1.4.2".parse::<OciReference>().unwrap());
            let envelope = Envelope::sign(&key, &reference, &subject, None);
            let mut bytes = envelope.to_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(altered) = Envelope::parse(&bytes) {
                let is_by = altered.is_by(&key.public(), &reference, subject.digest);
                let same = altered.payload == envelope.payload
                    && altered.payload_type == envelope.payload_type
                    && altered.signatures[0].sig == envelope.signatures[0].sig;
                prop_assert_eq!(is_by, same);
            }
        }
    }
}
