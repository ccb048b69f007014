//! A copy of a yard while it is in use, and a yard from such a copy.
//!
//! A backup is laid out as a yard is: `opyard.db`, `objects/`, further folders, and `backup.json`. First the database is
//! copied as it stands at one moment, then the objects that it names; clean-up is held off meanwhile, so they are there
//! still. `backup.json` is written last: a folder without it is a backup that was interrupted. It says of which format the
//! yard is, and what each file but the objects must be; what the objects must be, the digests in the database say.
//!
//! Restoring reads hostile files: nothing is written outside of a new folder, which becomes the yard, by a rename, only
//! once every byte in it was compared with its digest.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStoreExt;
use opyard_model::digest::Digest;
use opyard_model::time::{Clock, Timestamp};
use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};

use crate::audit::AuditReport;
use crate::error::{StoreError, StoreErrorKind};
use crate::gc::Amount;
use crate::object::{Objects, bounded, io_kind};
use crate::sqlite::upkeep::Hold;
use crate::sqlite::{new_ulid, schema, sqlite_error};
use crate::store::{Store, StoreSettings};
use crate::upload::Upload;

/// The database, in a backup and in a yard.
pub const DATABASE: &str = "opyard.db";
/// The folder of objects, in a backup and in a yard.
pub const OBJECTS: &str = "objects";
/// What says that a backup is whole.
const MANIFEST: &str = "backup.json";
/// The version of the manifest.
const VERSION: u32 = 1;
/// Longest manifest that is read.
const MAX_MANIFEST: u64 = 16 << 20;
/// Most files beside the objects.
const MAX_FILES: usize = 100_000;
/// Bytes copied at a time.
const BLOCK: usize = 1 << 20;
/// Objects whose names are held at a time.
const PAGE: i64 = 1_000;

/// A folder of files, without folders in it, that belongs to the yard: it is copied into the backup's folder of that name.
/// Files whose names start with a full stop are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Its name in a backup and in a yard.
    pub name: &'static str,
    /// Where it is. It need not be there.
    pub folder: PathBuf,
}

/// A file of a backup that is not an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// `opyard.db`, or a folder and a name in it.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Their digest.
    pub digest: Digest,
}

/// What a backup holds: `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this file.
    pub opyard_backup: u32,
    /// The format of the yard.
    pub format: u32,
    /// When it was made, in microseconds since 1970.
    pub made_at: Timestamp,
    /// All files but the objects and this one.
    pub files: Vec<BackupFile>,
    /// How many objects there are.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// What the backup said that it holds.
    pub manifest: Manifest,
    /// What came of reading it all.
    pub audit: AuditReport,
}

fn disk(context: impl Into<String>, error: &std::io::Error) -> StoreError {
    StoreError::new(context, io_kind(error))
}

fn unusable(from: &Path, reason: impl std::fmt::Display) -> StoreError {
    let context = format!("reading the backup {}", from.display());
    StoreError::new(context, StoreErrorKind::NotABackup(reason.to_string()))
}

impl Store {
    /// Copies the yard into `folder`, which has to be empty or not there yet. Everything that was acknowledged before is in
    /// the copy; what is recorded meanwhile is not.
    ///
    /// # Errors
    /// `NotEmpty`; `Locked` when a clean-up or another backup is under way; `Missing` when the yard itself lacks an object;
    /// `Full`, `Unavailable`. What was copied until then stays, without `backup.json`.
    pub async fn backup(&self, folder: &Path, beside: &[Beside]) -> Result<Manifest, StoreError> {
        make_empty(folder)?;
        let hold = Hold::take(self.shared()).await?;
        let done = self.copy_to(folder, beside, &hold).await;
        hold.release().await;
        done
    }

    async fn copy_to(&self, folder: &Path, beside: &[Beside], hold: &Hold) -> Result<Manifest, StoreError> {
        let shared = self.shared();
        let made_at = shared.clock.now();
        let database = folder.join(DATABASE);
        let (source, busy) = shared.readers.database();
        let (source, target) = (source.clone(), database.clone());
        blocking(move || copy_database(&schema::open_reader(&source, busy)?, &target)).await?;
        hold.keep().await?;

        let objects = Objects::open(&address(&folder.join(OBJECTS))?, true)?;
        let copied = copy_objects(&database, (&shared.objects, &objects), Some(hold)).await?;
        let mut files = vec![blocking(move || hash(&database, DATABASE)).await?];
        for Beside { name, folder: from } in beside {
            let (name, from, to): (&'static str, _, _) = (name, from.clone(), folder.join(name));
            files.extend(blocking(move || copy_beside(&from, &to, name)).await?);
            hold.keep().await?;
        }
        let Amount { count, bytes } = copied;
        let manifest = Manifest {
            opyard_backup: VERSION,
            format: schema::FORMAT,
            made_at,
            files,
            objects: count,
            object_bytes: bytes,
        };
        // Had another begun to clean up meanwhile, this would fail.
        hold.write(|_, _| Ok(())).await?;
        let (written, folder) = (manifest.clone(), folder.to_owned());
        blocking(move || write_manifest(&folder, &written)).await?;
        Ok(manifest)
    }
}

/// Makes a yard at `to`, which has to be empty or not there yet, from the backup in `from`. It is there whole when this
/// returns, and not at all before. Blocks while it copies files that are not objects.
///
/// # Errors
/// `NotEmpty`; `NotABackup` when it is not whole, or altered; `Version` when a newer program made it; `Full`, `Unavailable`.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn restore(from: &Path, to: &Path, clock: Arc<dyn Clock>) -> Result<Restored, StoreError> {
    let manifest = read_manifest(from)?;
    let to = std::path::absolute(to).map_err(|error| disk("restoring a yard", &error))?;
    make_empty(&to)?;
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        let reason = format!("{} cannot be a yard", to.display());
        return Err(StoreError::new("restoring a yard", StoreErrorKind::Invalid(reason)));
    };
    let half = parent.join(format!(".{}.restoring-{}", name.display(), new_ulid(&*clock)?));
    let restored = restore_into(&half, from, manifest, clock).await;
    let moved = restored.and_then(|restored| {
        // Over an empty folder.
        fs::rename(&half, &to)
            .and_then(|()| File::open(parent)?.sync_all())
            .map_err(|error| disk(format!("moving the yard to {}", to.display()), &error))?;
        Ok(restored)
    });
    if moved.is_err() {
        // What cannot be removed is a folder whose name says what it is.
        drop(fs::remove_dir_all(&half));
    }
    moved
}

async fn restore_into(
    half: &Path,
    from: &Path,
    manifest: Manifest,
    clock: Arc<dyn Clock>,
) -> Result<Restored, StoreError> {
    fs::create_dir(half).map_err(|error| disk(format!("making {}", half.display()), &error))?;
    for file in &manifest.files {
        let (source, target) = (from.join(&file.path), half.join(&file.path));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(|error| disk(format!("making {}", folder.display()), &error))?;
        }
        if !source.is_file() {
            return Err(unusable(from, format!("{} is not there", file.path)));
        }
        let (copied, path) = (file.clone(), file.path.clone());
        let copied_as = blocking(move || copy_file(&source, &target, &path)).await?;
        if copied_as != copied {
            return Err(unusable(from, format!("{} was altered", file.path)));
        }
    }
    let objects = from.join(OBJECTS);
    let source = Objects::open(&address(&objects)?, false).map_err(|error| unusable(from, error.kind))?;
    let objects = address(&half.join(OBJECTS))?;
    let target = Objects::open(&objects, true)?;
    let its_own = |error: StoreError| match error.kind {
        StoreErrorKind::Missing(_) | StoreErrorKind::Corrupt(_) | StoreErrorKind::Unreadable(_) => {
            unusable(from, format!("{}: {}", error.context, error.kind))
        }
        _ => error,
    };
    let copied = copy_objects(&half.join(DATABASE), (&source, &target), None).await.map_err(its_own)?;
    if (copied.count, copied.bytes) != (manifest.objects, manifest.object_bytes) {
        return Err(unusable(from, "it does not hold as many objects as it says"));
    }
    let store = Store::open(StoreSettings::new(half.join(DATABASE), objects, clock))?;
    let audit = store.audit().await;
    store.close().await;
    drop(store);
    let audit = audit.map_err(its_own)?;
    if let Some(finding) = audit.findings.first() {
        let reason = format!("{} artifacts are damaged; {} is the first", audit.damaged, finding.digest);
        return Err(unusable(from, reason));
    }
    Ok(Restored { manifest, audit })
}

/// Does `work` on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::new("copying", StoreErrorKind::Unavailable(error.to_string())))?
}

/// The address of a folder.
fn address(folder: &Path) -> Result<String, StoreError> {
    let path = std::path::absolute(folder).map_err(|error| disk(folder.display().to_string(), &error))?;
    let url = url::Url::from_directory_path(&path).map_err(|()| {
        let reason = format!("{} cannot be written as an address", path.display());
        StoreError::new("opening a folder", StoreErrorKind::Invalid(reason))
    })?;
    Ok(url.into())
}

/// Makes a folder, unless it is there and empty.
fn make_empty(folder: &Path) -> Result<(), StoreError> {
    let context = || format!("making the folder {}", folder.display());
    fs::create_dir_all(folder).map_err(|error| disk(context(), &error))?;
    let mut inside = fs::read_dir(folder).map_err(|error| disk(context(), &error))?;
    if inside.next().is_some() {
        return Err(StoreError::new(context(), StoreErrorKind::NotEmpty));
    }
    Ok(())
}

/// Copies the database as it stands at one moment.
fn copy_database(source: &Connection, target: &Path) -> Result<(), StoreError> {
    let wrong = |error: rusqlite::Error| sqlite_error("copying the database", &error);
    let mut copy = Connection::open(target).map_err(wrong)?;
    {
        let backup = rusqlite::backup::Backup::new(source, &mut copy).map_err(wrong)?;
        // All pages in one step, and so of one moment; writers need not wait for it.
        if backup.step(-1).map_err(wrong)? != rusqlite::backup::StepResult::Done {
            let reason = "it is locked".to_owned();
            return Err(StoreError::new("copying the database", StoreErrorKind::Locked(reason)));
        }
    }
    // One file, without a log beside it; and nobody holds the copy.
    copy.pragma_update(None, "journal_mode", "delete").map_err(wrong)?;
    copy.execute("UPDATE upkeep SET holder = NULL", []).map_err(wrong)?;
    copy.close().map_err(|(_, error)| wrong(error))?;
    File::open(target).and_then(|file| file.sync_all()).map_err(|error| disk("copying the database", &error))
}

/// Copies the objects that a copied database names.
async fn copy_objects(
    database: &Path,
    (source, target): (&Objects, &Objects),
    hold: Option<&Hold>,
) -> Result<Amount, StoreError> {
    let mut copied = Amount::default();
    let mut after = 0;
    loop {
        let path = database.to_owned();
        let page = blocking(move || objects_after(&path, after)).await?;
        let Some((last, ..)) = page.last() else { return Ok(copied) };
        after = *last;
        for (number, name, size) in page {
            copy_object(database, (number, &name, size), (source, target), hold).await?;
            copied.add(size);
        }
    }
}

/// A page of the objects' rows: number, name, size.
fn objects_after(database: &Path, after: i64) -> Result<Vec<(i64, String, u64)>, StoreError> {
    let wrong = |error: rusqlite::Error| sqlite_error("reading the copied database", &error);
    open_copy(database)?
        .prepare("SELECT object_no, name, size FROM objects WHERE object_no > ?1 ORDER BY object_no LIMIT ?2")
        .map_err(wrong)?
        .query_map([after, PAGE], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs())))
        .map_err(wrong)?
        .collect::<Result<_, _>>()
        .map_err(wrong)
}

fn open_copy(database: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(database, flags).map_err(|error| sqlite_error("reading the copied database", &error))
}

/// Copies one object, some at a time.
async fn copy_object(
    database: &Path,
    (number, name, size): (i64, &str, u64),
    (source, target): (&Objects, &Objects),
    hold: Option<&Hold>,
) -> Result<(), StoreError> {
    let path = object_store::path::Path::from(name);
    let call = async {
        match source.store.head(&path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            answer => answer.map(|about| Some(about.size)),
        }
    };
    let found = bounded("copying an object", call).await?;
    if found != Some(size) {
        let digest = one_of(database, number)?;
        let kind = found.map_or(StoreErrorKind::Missing(digest), |_| StoreErrorKind::Corrupt(digest));
        return Err(StoreError::new(format!("copying the object {name}"), kind));
    }
    let mut upload = Upload::new(target, path.clone());
    while upload.size() < size {
        let end = size.min(upload.size() + source.part_bytes() as u64);
        let bytes = bounded("copying an object", source.store.get_range(&path, upload.size()..end)).await?;
        if bytes.is_empty() {
            let digest = one_of(database, number)?;
            return Err(StoreError::new(format!("copying the object {name}"), StoreErrorKind::Corrupt(digest)));
        }
        upload.write(bytes).await?;
        if let Some(hold) = hold {
            hold.keep().await?;
        }
    }
    upload.finish().await?;
    Ok(())
}

/// An artifact that an object holds, to name it by.
fn one_of(database: &Path, number: i64) -> Result<Digest, StoreError> {
    open_copy(database)?
        .query_row("SELECT digest FROM artifacts WHERE object_no = ?1", params![number], |row| row.get(0))
        .map(Digest::from_bytes)
        .map_err(|error| sqlite_error("copying an object", &error))
}

/// Reads a file to its end, a block at a time.
fn read_through(file: File, mut with: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<(u64, Digest)> {
    let (mut file, mut hasher, mut size) = (file, blake3::Hasher::new(), 0);
    let mut block = vec![0; BLOCK];
    loop {
        let read = match file.read(&mut block) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok((size, Digest::from_bytes(*hasher.finalize().as_bytes())));
        };
        hasher.update(bytes);
        size += bytes.len() as u64;
        with(bytes)?;
    }
}

fn hash(file: &Path, path: &str) -> Result<BackupFile, StoreError> {
    let read = File::open(file).and_then(|file| read_through(file, |_| Ok(())));
    let (size, digest) = read.map_err(|error| disk(format!("reading {}", file.display()), &error))?;
    Ok(BackupFile { path: path.to_owned(), size, digest })
}

/// Copies a file and syncs the copy.
fn copy_file(source: &Path, target: &Path, path: &str) -> Result<BackupFile, StoreError> {
    let copy = || -> std::io::Result<(u64, Digest)> {
        let mut copy = File::create_new(target)?;
        let read = read_through(File::open(source)?, |bytes| copy.write_all(bytes))?;
        copy.sync_all()?;
        Ok(read)
    };
    let (size, digest) = copy().map_err(|error| disk(format!("copying {}", source.display()), &error))?;
    Ok(BackupFile { path: path.to_owned(), size, digest })
}

/// Copies the files of a folder.
fn copy_beside(from: &Path, to: &Path, name: &str) -> Result<Vec<BackupFile>, StoreError> {
    let wrong = |error: &std::io::Error| disk(format!("copying {}", from.display()), error);
    let files = match fs::read_dir(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.map_err(|error| wrong(&error))?,
    };
    fs::create_dir(to).map_err(|error| wrong(&error))?;
    let mut copied = Vec::new();
    for file in files {
        let file = file.map_err(|error| wrong(&error))?;
        let kind = file.file_type().map_err(|error| wrong(&error))?;
        let Some(file_name) = file.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned) else {
            continue;
        };
        if kind.is_file() {
            copied.push(copy_file(&file.path(), &to.join(&file_name), &format!("{name}/{file_name}"))?);
        }
        if copied.len() > MAX_FILES {
            let reason = format!("over {MAX_FILES} files in {}", from.display());
            return Err(StoreError::new("copying files", StoreErrorKind::TooLarge(reason)));
        }
    }
    sync_folder(to)?;
    Ok(copied)
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(|error| disk(format!("syncing {}", folder.display()), &error))
}

/// Writes the manifest: after everything else, and whole.
fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let half = folder.join(format!(".{MANIFEST}"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&half)?;
        file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
        file.sync_all()
    };
    sync_folder(folder)?;
    write()
        .and_then(|()| fs::rename(&half, folder.join(MANIFEST)))
        .map_err(|error| disk(format!("writing {}", half.display()), &error))?;
    sync_folder(folder)
}

/// Reads and checks the manifest. It comes from outside.
fn read_manifest(from: &Path) -> Result<Manifest, StoreError> {
    let file = match File::open(from.join(MANIFEST)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(unusable(from, format!("there is no {MANIFEST}: it is none, or was interrupted")));
        }
        file => file.map_err(|error| disk(format!("reading the backup {}", from.display()), &error))?,
    };
    let mut text = Vec::new();
    file.take(MAX_MANIFEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| disk(format!("reading the backup {}", from.display()), &error))?;
    if text.len() as u64 > MAX_MANIFEST {
        return Err(unusable(from, format!("{MANIFEST} is too large")));
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| unusable(from, error))?;
    for (found, known) in [(manifest.opyard_backup, VERSION), (manifest.format, schema::FORMAT)] {
        if found > known {
            let context = format!("reading the backup {}", from.display());
            return Err(StoreError::new(context, StoreErrorKind::Version { found, known }));
        }
    }
    if manifest.files.len() > MAX_FILES || !manifest.files.iter().any(|file| file.path == DATABASE) {
        return Err(unusable(from, "it names too many files, or no database"));
    }
    if let Some(file) = manifest.files.iter().find(|file| !is_inside(&file.path)) {
        return Err(unusable(from, format!("it names the file '{}'", file.path.escape_debug())));
    }
    Ok(manifest)
}

/// The database, or a folder that is not that of the objects and a plain name in it.
fn is_inside(path: &str) -> bool {
    let plain = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
    };
    match path.split_once('/') {
        None => path == DATABASE,
        Some((folder, name)) => folder != OBJECTS && plain(folder) && plain(name),
    }
}
