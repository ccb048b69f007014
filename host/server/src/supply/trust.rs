//! Whether somebody who is trusted has signed a component.

use opyard_model::definitions::registries::{TrustPolicy, Unsigned};
use opyard_model::digest::ManifestDigest;
use opyard_model::error::{Code, Failure};
use opyard_model::id::Name;
use opyard_model::supply::{OciReference, Signer, TrustedKey};
use opyard_resources::oci::Envelope;

/// Who of those that are trusted signed `subject` as the component of that name.
///
/// What the operator demands and what the definitions demand hold both: definitions can ask for more, never for less.
///
/// # Errors
/// `OPY-274` when nobody has who has to.
pub(super) fn signers(
    policy: &TrustPolicy,
    demanded: Option<&(Name, TrustedKey)>,
    (reference, subject): (&OciReference, ManifestDigest),
    envelopes: &[Envelope],
) -> Result<Vec<Signer>, Failure> {
    let signed = |key: &TrustedKey| envelopes.iter().any(|envelope| envelope.is_by(key, reference, subject));
    let untrusted = |problem: String| Failure::new(Code::Untrusted, format!("{reference} ({subject}): {problem}"));
    let found = match envelopes.len() {
        0 => "it is not signed".to_owned(),
        1 => "its one signature is by nobody of them, or of something else".to_owned(),
        count => format!("its {count} signatures are by nobody of them, or of something else"),
    };
    let keys = policy.keys.get(reference.namespace()).map(Vec::as_slice).unwrap_or_default();
    let mut signers: Vec<_> = keys.iter().filter(|(_, key)| signed(key)).map(|(name, key)| signer(name, key)).collect();
    if keys.is_empty() && policy.unsigned == Unsigned::Refuse {
        let namespace = reference.namespace();
        return Err(untrusted(format!("nobody is trusted for `{namespace}`, and what is unsigned is refused")));
    }
    if !keys.is_empty() && signers.is_empty() {
        let names: Vec<_> = keys.iter().map(|(name, _)| name.as_str()).collect();
        return Err(untrusted(format!("the operator wants a signature by {}: {found}", names.join(" or "))));
    }
    if let Some((name, key)) = demanded {
        if !signed(key) {
            return Err(untrusted(format!("the definitions want a signature by {name}: {found}")));
        }
        let demanded = signer(name, key);
        if signers.iter().all(|signer| signer.ed25519 != demanded.ed25519) {
            signers.push(demanded);
        }
    }
    Ok(signers)
}

fn signer(name: &Name, key: &TrustedKey) -> Signer {
    Signer { name: name.to_string(), ed25519: key.to_string() }
}
