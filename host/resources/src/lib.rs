//! What ops may be given, and the IO managers that are built in.
//!
//! [`Resources`] opens what a grant names as the kind of thing that an interface of the contract wants;
//! [`IoManagers`] opens what keeps outputs beside the artifact store. Both are built from the specs of a plan, and keep what
//! they opened, so that a step does not connect again.

mod error;
mod http;
mod io;
mod object_store;
mod path;
mod pool;
mod secret;

pub use error::{ResourceError, ResourceFailure};
pub use http::{HttpClientResource, HttpRequest, HttpResponse, MAX_BODY};
pub use io::{Files, IoManagers, PathTemplate, TemplateError};
pub use object_store::{
    BlobMeta, BlobReader, BlobWriter, MAX_CHUNK, MAX_CONDITIONAL, MAX_PAGE, ObjectStoreResource, Page, PutMode,
};
pub use path::{MAX_PATH, ObjectPath};
pub use pool::{Resources, file_url};
pub use secret::{SecretBytes, secret_problem};

#[cfg(test)]
mod tests;
