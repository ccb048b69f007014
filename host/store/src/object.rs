//! Object stores by their address.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use url::Url;

use crate::error::{StoreError, StoreErrorKind};

/// Longest wait for one call of an object store.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Prefixes of the environment variables that configure cloud stores (credentials, region, endpoint). Nothing else of the
/// environment is looked at.
const SETTINGS: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];
/// What of it holds, whoever asks: where the store is and how it is spoken to. The rest says who asks.
const WHERE_AND_HOW: [&str; 9] = [
    "endpoint",
    "endpoint_url",
    "endpoint_url_s3",
    "storage_endpoint",
    "region",
    "default_region",
    "allow_http",
    "virtual_hosted_style_request",
    "storage_use_emulator",
];

/// Where an opened object store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Files of this machine.
    Local,
    /// The memory of this process.
    Memory,
    /// Over the network.
    Remote,
}

fn says_where_or_how(setting: &str) -> bool {
    setting.split_once('_').is_some_and(|(_, setting)| WHERE_AND_HOW.contains(&setting))
}

/// An opened object store: everything below its address.
#[derive(Clone)]
pub struct Objects {
    /// The store. Paths are relative to the address.
    pub store: Arc<dyn ObjectStore>,
    /// Where it is.
    pub place: Place,
    /// The root directory, of a store of local files.
    pub root: Option<PathBuf>,
    cleaning: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({:?}, {})", self.place, self.store)
    }
}

impl Objects {
    /// Opens the store at `address`: `file:///…`, `s3://…`, `gs://…`, `az://…` or `memory:///`. Credentials of cloud stores
    /// come from the environment. Local writes are synced before they are acknowledged. Does not touch the network.
    ///
    /// A directory that is not there is made when `create` is set. Every `memory:` store is a new, empty one.
    ///
    /// # Errors
    /// `Invalid` when the address cannot be used; `Unavailable`, `Full` when a directory cannot be made.
    pub fn open(address: &str, create: bool) -> Result<Self, StoreError> {
        Self::open_as(address, create, &[])
    }

    /// The same, with credentials in place of those of the environment, if there are any: settings as `object_store` names
    /// them, and what they are.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); none tells anything of a credential.
    pub fn open_as(address: &str, create: bool, credentials: &[(&str, &str)]) -> Result<Self, StoreError> {
        let invalid = |reason: String| {
            let shown: String = address.chars().take(200).collect();
            StoreError::new(format!("opening the object store '{shown}'"), StoreErrorKind::Invalid(reason))
        };
        let url = Url::parse(address).map_err(|error| invalid(error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("an address must not hold credentials".into()));
        }
        match url.scheme() {
            // The parser takes a relative path for one from the root.
            "file" if !address.starts_with("file:/") => Err(invalid("not an absolute path".into())),
            "file" => Self::local(&url, create, address),
            "memory" => Ok(Self::new(Arc::new(InMemory::new()), Place::Memory, None)),
            "s3" | "gs" | "az" => {
                // Whoever has chosen one before has the last word.
                drop(rustls::crypto::ring::default_provider().install_default());
                let options = std::env::vars_os()
                    .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
                    .filter(|(key, _)| SETTINGS.iter().any(|prefix| key.starts_with(prefix)))
                    .map(|(key, value)| (key.to_ascii_lowercase(), value))
                    .filter(|(key, _)| credentials.is_empty() || says_where_or_how(key))
                    .chain(credentials.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
                // A text that cannot be a credential may stand in the error.
                let wrong = |error: object_store::Error| match credentials {
                    [] => invalid(chain(&error)),
                    _ => invalid("it cannot be opened with these credentials".to_owned()),
                };
                let (store, prefix) = object_store::parse_url_opts(&url, options).map_err(wrong)?;
                let store: Arc<dyn ObjectStore> = Arc::from(store);
                let store = if prefix == Path::default() { store } else { Arc::new(PrefixStore::new(store, prefix)) };
                Ok(Self::new(store, Place::Remote, None))
            }
            other => Err(invalid(format!("'{other}:' is none of file:, s3:, gs:, az:, memory:"))),
        }
    }

    /// Takes an object store that is open already.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, place: Place, root: Option<PathBuf>) -> Self {
        Self { store, place, root, cleaning: Arc::default() }
    }

    /// Does `work` in the background: it belongs to this store, and [`settled`](Self::settled) waits for it.
    pub(crate) fn clean_up(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime the process is ending; what is left behind is not visible anyway.
        if let Ok(runtime) = Handle::try_current() {
            let mut cleaning = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
            while cleaning.try_join_next().is_some() {}
            cleaning.spawn_on(work, &runtime);
        }
    }

    /// Waits until everything that dropped uploads left behind is removed.
    pub async fn settled(&self) {
        let mut cleaning = std::mem::take(&mut *self.cleaning.lock().unwrap_or_else(PoisonError::into_inner));
        while cleaning.join_next().await.is_some() {}
    }

    fn local(url: &Url, create: bool, address: &str) -> Result<Self, StoreError> {
        let context = || format!("opening the object store '{address}'");
        let path = url.to_file_path().map_err(|()| {
            StoreError::new(context(), StoreErrorKind::Invalid("not an absolute path of this machine".into()))
        })?;
        if create {
            crate::folder::make(&path).map_err(|error| StoreError::new(context(), io_kind(&error)))?;
        }
        let root = path.canonicalize().map_err(|error| StoreError::new(context(), io_kind(&error)))?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| object_error(&context(), &error))?;
        Ok(Self::new(Arc::new(store.with_fsync(true)), Place::Local, Some(root)))
    }

    /// How many bytes are written at a time, to a large object: at least what S3 takes as a part.
    #[must_use]
    pub fn part_bytes(&self) -> usize {
        match self.place {
            Place::Local | Place::Memory => 1 << 20,
            Place::Remote => 8 << 20,
        }
    }
}

/// An error and its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// What an error of the file system means to a store.
pub(crate) fn io_kind(error: &std::io::Error) -> StoreErrorKind {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreErrorKind::Full(error.to_string()),
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            StoreErrorKind::ReadOnly(error.to_string())
        }
        _ => StoreErrorKind::Unavailable(error.to_string()),
    }
}

/// What an error of an object store means to a store: no space left, nothing may be written, or no answer.
#[must_use]
pub fn object_error(context: &str, error: &object_store::Error) -> StoreError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && let kind @ (StoreErrorKind::Full(_) | StoreErrorKind::ReadOnly(_)) = io_kind(error)
        {
            return StoreError::new(context, kind);
        }
        cause = error.source();
    }
    StoreError::new(context, StoreErrorKind::Unavailable(chain(error)))
}

/// Waits for `call`, [`CALL_TIMEOUT`] at most.
///
/// # Errors
/// `Unavailable` when the time is over; what the call answers otherwise.
pub async fn bounded<T>(
    context: &str,
    call: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| object_error(context, &error)),
        Err(_) => Err(StoreError::new(
            context,
            StoreErrorKind::Unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
        )),
    }
}
