//! Reading secrets: when a resource needs one, and not before.

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use opyard_model::error::Code;
use opyard_model::id::Name;
use opyard_model::secret::{MAX_SECRET, SecretSpec};
use opyard_store::object::CALL_TIMEOUT;
use zeroize::Zeroizing;

use crate::error::ResourceFailure;
use crate::given::Given;

/// The bytes of a secret. They are not shown by `Debug`, not serialised, and wiped when this is dropped.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Bytes that a test gives.
    #[must_use]
    pub fn given(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever hands them to what they are for. Every use of this is a place to look at.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

/// Where secrets are read.
#[derive(Debug, Clone, Default)]
pub(crate) enum Secrets {
    /// Where their specs say.
    #[default]
    Machine,
    /// Among what a test gives, by name.
    Given(Arc<Given>),
}

impl Secrets {
    /// Reads the secret `name`, 30 s at most.
    ///
    /// # Errors
    /// `Unavailable`; the operator is told the name and the place.
    pub(crate) async fn read(&self, name: &Name, from: &SecretSpec) -> Result<SecretBytes, ResourceFailure> {
        match self {
            Self::Machine => read_secret(name, from).await,
            Self::Given(given) => given.secret(name).ok_or_else(|| {
                let text = format!("the test gives no secret `{name}`");
                ResourceFailure::unavailable(
                    "a secret that the resource needs cannot be had",
                    Code::SecretMissing,
                    text,
                )
            }),
        }
    }
}

async fn read_secret(name: &Name, from: &SecretSpec) -> Result<SecretBytes, ResourceFailure> {
    let failed = |problem: &str| {
        let text = format!("the secret `{name}` cannot be had from {from}: {problem}");
        ResourceFailure::unavailable("a secret that the resource needs cannot be had", Code::SecretMissing, text)
    };
    let spec = from.clone();
    // A file may be on a disk that does not answer.
    let reading = tokio::task::spawn_blocking(move || read(&spec));
    match tokio::time::timeout(CALL_TIMEOUT, reading).await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(problem))) => Err(failed(&problem)),
        Ok(Err(_)) => Err(failed("reading it was interrupted")),
        Err(_) => Err(failed("reading it took too long")),
    }
}

/// What is wrong with a secret, if it cannot be had now: `it is not set`. Reads it, and forgets it at once.
#[must_use]
pub fn secret_problem(from: &SecretSpec) -> Option<String> {
    read(from).err()
}

/// At most [`MAX_SECRET`] bytes, at least one. No text of an error holds any of them.
fn read(from: &SecretSpec) -> Result<SecretBytes, String> {
    let mut bytes = match from {
        SecretSpec::Env(name) => {
            let value = std::env::var_os(name).ok_or("it is not set")?;
            Zeroizing::new(value.into_encoded_bytes())
        }
        SecretSpec::File(path) => file(path)?,
    };
    if matches!(from, SecretSpec::File(_)) && bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    match bytes.len() {
        0 => Err("it is empty".to_owned()),
        1..=MAX_SECRET => Ok(SecretBytes(bytes)),
        _ => Err(format!("it has more than {MAX_SECRET} bytes")),
    }
}

fn file(path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("it cannot be read ({})", error.kind()),
    };
    // A pipe would be waited for.
    if !std::fs::metadata(path).map_err(told)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    // All of it and a line end, and one byte that is too much: the vector is never moved, which would leave a copy.
    let most = MAX_SECRET + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    std::fs::File::open(path).map_err(told)?.take(most as u64).read_to_end(&mut bytes).map_err(told)?;
    Ok(bytes)
}
