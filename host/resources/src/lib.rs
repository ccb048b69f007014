//! What ops may be given, and the IO managers that are built in.
//!
//! [`Resources`] opens what a grant names as the kind of thing that an interface of the contract wants;
//! [`IoManagers`] opens what keeps outputs beside the artifact store. Both are built from the specs of a plan, and keep what
//! they opened, so that a step does not connect again.

mod blob;
mod error;
mod given;
mod http;
mod io;
mod key_value;
mod location;
mod model_registry;
mod object_store;
pub mod oci;
mod path;
mod pool;
mod random;
mod secret;
mod webhook;

pub use blob::{BlobMeta, BlobReader, BlobWriter, MAX_CHUNK, MAX_CONDITIONAL};
pub use error::{ResourceError, ResourceFailure};
pub use given::{Given, GivenAnswer, GivenAnswers, SeenRequest};
pub use http::{HttpClientResource, HttpRequest, HttpResponse, MAX_BODY};
pub use io::{Files, IoManagers, PathTemplate, TemplateError};
pub use key_value::{Entry, KeyValueResource, MAX_NAME, MAX_NAMES_PAGE, MAX_VALUE, NamesPage};
pub use model_registry::{MAX_ALIASES, MAX_FILES, MAX_METADATA, ModelRegistryResource, ModelVersion, ModelWriter};
pub use object_store::{MAX_PAGE, ObjectStoreResource, Page, PutMode};
pub use path::{MAX_PATH, ObjectPath};
pub use pool::{Resources, file_url};
pub use secret::{SecretBytes, secret_problem};

#[cfg(test)]
mod tests;
