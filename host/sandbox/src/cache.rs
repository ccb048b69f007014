//! Compiled code, kept between processes under a key that only this host can make and verify.
//!
//! wasmtime believes compiled code: whoever can write it can run anything. So each file starts with a keyed hash over its
//! name and content, and nothing is handed to wasmtime before that was checked, in memory.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use opyard_model::digest::{ComponentDigest, Digest, FieldHasher};
use opyard_model::error::{Code, Failure, sanitize};
use opyard_store::crash::{self, CrashPoint};
use wasmtime::Engine;

use crate::compiler::MAX_CODE;
use crate::settings::{SandboxError, SandboxErrorKind};

const MAC: usize = 32;
const SECRET: &str = "secret";

/// A file of the cache was not what this host wrote. It was not used; the component was compiled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheIntegrity {
    /// The component whose code it claimed to be.
    pub component: ComponentDigest,
    /// The file.
    pub file: PathBuf,
}

impl CacheIntegrity {
    /// What there is to say about it, with its code, `OPY-312`.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        // A path may be of any length.
        let file = sanitize(&self.file.display().to_string(), 1 << 10);
        let text =
            format!("{file} is not what was written there; it was not used, and the component was compiled again");
        Failure::new(Code::CacheIntegrity, text)
    }
}

/// A folder of compiled code.
pub struct CodeCache {
    dir: PathBuf,
    key: [u8; MAC],
    /// What compiled code depends on, beside the component.
    engine: Digest,
}

/// What the cache has of a component.
pub(crate) enum Entry {
    /// The code, as this host wrote it.
    Code(Vec<u8>),
    /// Nothing.
    Absent,
    /// Something else.
    Altered(CacheIntegrity),
}

impl CodeCache {
    /// Opens the cache in `dir`, which is made if it is not there, together with a secret that only its owner can read.
    /// `engine` is the fingerprint of the engine that the code is for.
    ///
    /// # Errors
    /// When the folder or the secret cannot be made or read, or others can read the secret.
    pub(crate) fn open(dir: &Path, engine: Digest) -> Result<Self, SandboxError> {
        let failed = |error: io::Error| SandboxError::new(format!("opening the code cache {}", dir.display()), error);
        fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join(SECRET);
        if !path.exists() {
            make_secret(dir, &path).map_err(failed)?;
        }
        let mut file = File::open(&path).map_err(failed)?;
        if is_open_to_others(&file).map_err(failed)? {
            let text = format!("others than its owner can read {}: remove it", path.display());
            return Err(SandboxError::new("opening the code cache", SandboxErrorKind::Settings(text)));
        }
        let mut key = [0; MAC];
        file.read_exact(&mut key).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), key, engine })
    }

    /// The file of a component's code. Other settings, another version or another machine make another file.
    fn path(&self, component: ComponentDigest) -> PathBuf {
        let mut hasher = FieldHasher::new("opyard code cache 1");
        hasher.field(component.as_bytes()).field(self.engine.as_bytes());
        self.dir.join(format!("{}.cwasm", &hasher.finish().to_string()["b3:".len()..]))
    }

    fn mac(&self, path: &Path, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(code);
        hasher.finalize()
    }

    /// The code of a component. Blocks.
    pub(crate) fn get(&self, component: ComponentDigest) -> Entry {
        let path = self.path(component);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_CODE + MAC as u64).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Entry::Absent,
            // Compiling again is always right.
            Err(_) => return Entry::Absent,
        }
        if let Some((mac, code)) = bytes.split_first_chunk::<MAC>()
            && self.mac(&path, code) == *mac
        {
            bytes.drain(..MAC);
            return Entry::Code(bytes);
        }
        Entry::Altered(CacheIntegrity { component, file: path })
    }

    /// Keeps the code of a component. Blocks. Whoever reads meanwhile sees the whole file or none.
    ///
    /// # Errors
    /// When it cannot be written; nothing is there then, and nothing is lost.
    pub(crate) fn put(&self, component: ComponentDigest, code: &[u8]) -> io::Result<()> {
        let path = self.path(component);
        let fresh = self.dir.join(fresh_name()?);
        let written = (|| {
            let mut file = private().open(&fresh)?;
            file.write_all(self.mac(&path, code).as_bytes())?;
            file.write_all(code)?;
            drop(file);
            crash::point(CrashPoint::CodeCached);
            fs::rename(&fresh, &path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written
    }
}

fn no_randomness(error: getrandom::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// A name that nobody else takes.
fn fresh_name() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(no_randomness)?;
    Ok(format!(".{:032x}.new", u128::from_le_bytes(random)))
}

/// Of two processes that make a secret, the first wins, and both read that one.
fn make_secret(dir: &Path, path: &Path) -> io::Result<()> {
    let mut secret = [0; MAC];
    getrandom::fill(&mut secret).map_err(no_randomness)?;
    let fresh = dir.join(fresh_name()?);
    let mut file = private().open(&fresh)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn is_open_to_others(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// All that decides whether compiled code fits: version and settings of wasmtime, target, features of the processor.
pub(crate) fn fingerprint(engine: &Engine) -> Digest {
    struct Into(blake3::Hasher);
    impl Hasher for Into {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Into(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.write(std::env::consts::ARCH.as_bytes());
    hasher.write(std::env::consts::OS.as_bytes());
    Digest::from_bytes(*hasher.0.finalize().as_bytes())
}
