//! Components from registries: which one a definitions file means, whether it may be run, and how it is published.

mod lock_file;
mod obtain;
mod publish;
mod pull;
mod records;
mod trust;

pub use publish::{Published, Signed};
pub use pull::{Obtained, PullRules, Pulled, Standing};

pub(crate) use lock_file::LockFile;
pub(crate) use records::{ORIGINS, Records};

use std::path::Path;

use opyard_model::definitions::registries::{Registries, RegistrySpec};
use opyard_model::diagnostic::nearest;
use opyard_model::error::Code;
use opyard_model::supply::OciReference;

use crate::error::YardError;
use crate::project::read_source;

/// The operator's file of registries, in a yard.
pub const REGISTRIES: &str = "registries.yaml";

/// Reads the operator's file of registries in the folder of a yard; one that is not there says nothing.
fn registries(yard: &Path) -> Result<Registries, YardError> {
    let path = yard.join(REGISTRIES);
    if !path.exists() {
        return Ok(Registries::default());
    }
    let (source, path) = read_source(&path, "file of registries")?;
    Ok(Registries::parse(&source, path.parent().unwrap_or(&path))?)
}

/// Where the components of a namespace are. There is no other place where they would be looked for.
fn registry_of<'a>(
    registries: &'a Registries,
    reference: &OciReference,
    yard: &Path,
) -> Result<&'a RegistrySpec, YardError> {
    registries.namespace(reference.namespace()).ok_or_else(|| {
        let name = reference.namespace().as_str();
        let known: Vec<_> = registries.namespaces().collect();
        let hint = nearest(name, &known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let text = format!("{} names no namespace `{name}`{hint}", yard.join(REGISTRIES).display());
        YardError::new(Code::UnknownNamespace, text)
    })
}
