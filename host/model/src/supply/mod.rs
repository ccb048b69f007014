//! Components that come from elsewhere: how they are named, pinned, and trusted. Pure data; asking a registry is for
//! `opyard-resources`, deciding when for `opyard-server`.

mod key;
mod lock;
mod origin;
mod reference;

pub use key::{KeyError, TrustedKey};
pub use lock::{Lock, LockError, Locked, MAX_LOCK};
pub use origin::{Origin, Signer};
pub use reference::{At, MAX_REFERENCE, OciReference, ReferenceError, release_version};

pub use semver::Version;
