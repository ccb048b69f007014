//! What of a folder survives a power cut: see `durable.c`, which is loaded into the program and keeps it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use super::job::Random;

/// The compiled shim.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("durable.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/chaos/durable.c");
        // The compiler that built the database.
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).arg("-ldl").status();
        assert!(built.unwrap().success(), "cc");
        (folder, path)
    });
    path
}

/// Watches one folder from now on: all that is in it now is taken to be on disk.
pub(crate) struct Power {
    folder: PathBuf,
    kept: TempDir,
}

impl Power {
    pub(crate) fn on(folder: &Path) -> Self {
        let power = Self { folder: folder.canonicalize().unwrap(), kept: tempfile::tempdir().unwrap() };
        power.keep(&power.folder);
        power
    }

    /// Has the program tell what it syncs.
    pub(crate) fn supply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", shim()).env("DURABLE_OF", &self.folder).env("DURABLE_AT", self.kept.path());
    }

    fn keep(&self, folder: &Path) {
        let mut names = String::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let (kind, id) = (if path.is_dir() { 'd' } else { 'f' }, identity(&path));
            names += &format!("{kind} {id} {}\n", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.keep(&path);
            } else {
                fs::copy(&path, self.kept.path().join(format!("f-{id}"))).unwrap();
            }
        }
        fs::write(self.kept.path().join(format!("d-{}", identity(folder))), names).unwrap();
    }

    /// The folder after the power came back: what was synced, and of what was not as much as `random` lets by. It replaces
    /// the one that was there.
    pub(crate) fn cut(self, random: &mut Random) {
        let mut live = HashMap::new();
        index(&self.folder, &mut live);
        let rebuilt = tempfile::tempdir_in(self.folder.parent().unwrap()).unwrap();
        // A third of the cuts keep nothing that was not synced.
        let luck = random.below(3);
        self.rebuild(
            &identity(&self.folder),
            rebuilt.path(),
            &live,
            &mut |random: &mut Random| random.below(2) < luck.min(1),
            random,
        );
        for entry in fs::read_dir(&self.folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        for entry in fs::read_dir(rebuilt.path()).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), self.folder.join(entry.file_name())).unwrap();
        }
    }

    fn rebuild(
        &self,
        id: &str,
        to: &Path,
        live: &HashMap<String, PathBuf>,
        survives: &mut dyn FnMut(&mut Random) -> bool,
        random: &mut Random,
    ) {
        let synced = fs::read_to_string(self.kept.path().join(format!("d-{id}"))).unwrap_or_default();
        let now = live.get(id).filter(|_| survives(random)).map(|path| listing(path));
        for line in now.unwrap_or(synced).lines() {
            let mut parts = line.splitn(3, ' ');
            let (kind, child, name) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let path = to.join(name);
            if kind == "d" {
                fs::create_dir(&path).unwrap();
                self.rebuild(child, &path, live, survives, random);
                continue;
            }
            let synced = self.kept.path().join(format!("f-{child}"));
            match live.get(child).filter(|_| survives(random)) {
                Some(now) => drop(fs::copy(now, &path).unwrap()),
                None if synced.is_file() => drop(fs::copy(&synced, &path).unwrap()),
                // The name is on disk, the bytes are not.
                None => drop(fs::File::create(&path).unwrap()),
            }
        }
    }
}

fn listing(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let line = |path: PathBuf| {
        let kind = if path.is_dir() { 'd' } else { 'f' };
        format!("{kind} {} {}\n", identity(&path), path.file_name().unwrap().to_str().unwrap())
    };
    entries.map(line).collect()
}

fn index(folder: &Path, live: &mut HashMap<String, PathBuf>) {
    live.insert(identity(folder), folder.to_owned());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            index(&path, live);
        } else {
            live.insert(identity(&path), path);
        }
    }
}

/// As `durable.c` writes it.
fn identity(path: &Path) -> String {
    let about = fs::symlink_metadata(path).unwrap();
    let born = about.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    format!("{}-{}.{:09}", about.ino(), born.as_secs(), born.subsec_nanos())
}
