//! Randomness of the system, for names that nobody else gives.

use crate::error::ResourceError;

/// Sixteen random bytes.
///
/// # Errors
/// `Unavailable` when the system has none.
pub(crate) fn bytes() -> Result<[u8; 16], ResourceError> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|_| ResourceError::Unavailable("the system has no randomness".into()))?;
    Ok(random)
}
