//! What an op can be given by the host: a parameter of one of these types is a resource, and its name is the key that
//! grants refer to.

mod blob;
mod key_value;
mod model_registry;
mod object_store;

use std::error::Error;
use std::fmt;

use crate::bindings::opyard::resources::errors;

pub use crate::bindings::opyard::resources::blobs::BlobMeta;
pub use blob::BlobReader;
pub use key_value::{Entry, KeyValue};
pub use model_registry::{ModelRegistry, ModelVersion, ModelWriter};
pub use object_store::{ObjectStore, PutMode};

/// Why a resource did not do what was asked.
#[derive(Debug, Clone)]
pub struct ResourceError {
    /// The resource and what was asked of it: ``object store `raw`, get `a.csv` ``.
    pub of: String,
    /// What the host answered.
    pub kind: ResourceErrorKind,
}

/// What a resource answers when it does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResourceErrorKind {
    /// Not granted. Says nothing about whether the thing exists.
    Denied,
    /// There is no such thing.
    NotFound,
    /// A precondition did not hold: it exists already, or has changed.
    Conflict,
    /// A limit of this step; the text names it.
    Limit(String),
    /// The surroundings failed.
    Unavailable(String),
    /// The call itself is wrong: the same next time.
    Invalid(String),
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.of)?;
        match &self.kind {
            ResourceErrorKind::Denied => f.write_str("denied"),
            ResourceErrorKind::NotFound => f.write_str("not found"),
            ResourceErrorKind::Conflict => f.write_str("conflict"),
            ResourceErrorKind::Limit(text) => write!(f, "limit reached: {text}"),
            ResourceErrorKind::Unavailable(text) => write!(f, "unavailable: {text}"),
            ResourceErrorKind::Invalid(text) => write!(f, "invalid: {text}"),
        }
    }
}

impl Error for ResourceError {}

impl ResourceError {
    pub(crate) fn new(of: String, error: errors::Error) -> Self {
        let kind = match error {
            errors::Error::Denied => ResourceErrorKind::Denied,
            errors::Error::NotFound => ResourceErrorKind::NotFound,
            errors::Error::Conflict => ResourceErrorKind::Conflict,
            errors::Error::Limit(text) => ResourceErrorKind::Limit(text),
            errors::Error::Unavailable(text) => ResourceErrorKind::Unavailable(text),
            errors::Error::Invalid(text) => ResourceErrorKind::Invalid(text),
        };
        Self { of, kind }
    }
}

/// Makes a type with a function `open(key)` a parameter of ops, optional or not.
macro_rules! argument {
    ($name:ident, $import:literal) => {
        impl $crate::port::Argument for $name {
            const ROLE: $crate::port::Role = $crate::port::Role::Resource;

            fn declare(port: &$crate::port::Port, op: &mut $crate::definition::OpDefinition) {
                op.resources.push($crate::definition::ResourceRequirement {
                    key: port.name.to_owned(),
                    through: $import.to_owned(),
                    optional: false,
                });
            }

            fn acquire(port: &$crate::port::Port) -> Result<Self, $crate::Failure> {
                Ok(Self::open(port.name)?)
            }
        }

        /// None when it was not granted.
        impl $crate::port::OptionalArgument for $name {
            fn acquire_optional(port: &$crate::port::Port) -> Result<Option<Self>, $crate::Failure> {
                match Self::open(port.name) {
                    Ok(opened) => Ok(Some(opened)),
                    Err($crate::resource::ResourceError {
                        kind: $crate::resource::ResourceErrorKind::Denied, ..
                    }) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    };
}
pub(crate) use argument;

/// The items of a list that the host gives page by page, as the iterator is advanced. `ask` is given the token of a page.
fn pages<T>(
    mut ask: impl FnMut(Option<&str>) -> Result<(Vec<T>, Option<String>), ResourceError>,
) -> impl Iterator<Item = Result<T, ResourceError>> {
    let mut page = Vec::new().into_iter();
    let mut token = None;
    let mut last = false;
    std::iter::from_fn(move || {
        loop {
            if let Some(item) = page.next() {
                return Some(Ok(item));
            }
            if last {
                return None;
            }
            match ask(token.as_deref()) {
                Ok((items, next)) => {
                    last = next.is_none();
                    token = next;
                    page = items.into_iter();
                }
                Err(error) => {
                    last = true;
                    return Some(Err(error));
                }
            }
        }
    })
}

/// Most names of one page.
const PAGE: u32 = 1000;
