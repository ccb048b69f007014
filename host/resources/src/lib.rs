//! With what: the resources that ops may be given, and the built-in IO managers.
//!
//! Each resource has the methods of its interface in `wit/deps/resources.wit`, as plain async Rust; the sandbox puts the
//! interface over it. Everything that comes in is guest-controlled: paths are checked ([`path`]), sizes, counts and waits
//! are bounded, and access is decided when the resource is opened.

mod error;
mod io_manager;
mod object_store;
pub mod path;
mod registry;
mod template;

pub use error::ResourceError;
pub use io_manager::ObjectStoreIoManager;
pub use object_store::{BlobMeta, BlobReader, BlobWriter, MAX_CHUNK, MAX_PAGE, ObjectStoreResource, Page, PutMode};
pub use registry::{IoManagers, Resources, file_url};
pub use template::{PathTemplate, TemplateError};
