//! Where things are: paths and addresses, made absolute by the folder of the definitions file, and the credentials for them.
//! Pure: nothing is looked up.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::names::unknown;
use super::reading::{Fields, Keys, Reading};
use super::tree::Node;
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::location::{Credential, Credentials, Location, UsedSecret};

const USED: Keys = Keys { what: "a secret that is used", known: &["secret"], later: &[] };

/// Schemes of object stores, and what comes after them.
pub(crate) const SCHEMES: [&str; 5] = ["file", "s3", "gs", "az", "memory"];

/// `path` taken from `folder`, without `.` and `..`.
pub(crate) fn resolve_path(folder: &Path, path: &str) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                resolved.pop();
            }
            other => resolved.push(other),
        }
    }
    resolved
}

/// The absolute form of an object store's address.
///
/// # Errors
/// A phrase that says what is wrong with it.
pub(crate) fn resolve_url(folder: &Path, url: &str) -> Result<String, String> {
    if let Some(wrong) = url.chars().find(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("it holds {wrong:?}; write `%20` for a space"));
    }
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err("it has no scheme; for a folder write `file:./path`".to_owned());
    };
    match scheme {
        "file" => {
            let path = match rest.strip_prefix("//") {
                Some(absolute) if absolute.starts_with('/') => absolute,
                Some(_) => {
                    return Err("`file://` is followed by a host; write `file:./path` or `file:///path`".to_owned());
                }
                None => rest,
            };
            if path.contains(['?', '#']) {
                return Err("a file has neither query nor fragment; write `%3F` and `%23`".to_owned());
            }
            if path.is_empty() {
                return Err("it names no path".to_owned());
            }
            Ok(format!("file://{}", resolve_segments(folder, path)))
        }
        "memory" => {
            if rest == "///" || rest == "//" {
                Ok("memory:///".to_owned())
            } else {
                Err("write `memory:///`".to_owned())
            }
        }
        "s3" | "gs" | "az" => {
            let bucket = rest.strip_prefix("//").unwrap_or("").split('/').next().unwrap_or("");
            if bucket.is_empty() {
                return Err(format!("it names no bucket; write `{scheme}://bucket/prefix`"));
            }
            if bucket.contains('@') {
                return Err("credentials do not belong into an address".to_owned());
            }
            if rest.contains(['?', '#']) {
                return Err("an object store has neither query nor fragment".to_owned());
            }
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("the scheme `{scheme}` is not known; there are {}", SCHEMES.join(", "))),
    }
}

/// The address of a server, without a slash at its end.
///
/// # Errors
/// A phrase that says what is wrong with it.
pub(crate) fn resolve_server(url: &str) -> Result<String, String> {
    if let Some(wrong) = url.chars().find(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("it holds {wrong:?}"));
    }
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return Err("it starts with `http://` or `https://`".to_owned());
    };
    let host = rest.split('/').next().unwrap_or("");
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    if host.contains('@') {
        return Err("credentials do not belong into an address".to_owned());
    }
    if rest.contains(['?', '#']) {
        return Err("it has neither query nor fragment".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// `path` (percent-encoded as written) taken from `folder` (encoded here), as the path of an address.
fn resolve_segments(folder: &Path, path: &str) -> String {
    let mut segments: Vec<String> = Vec::new();
    if !path.starts_with('/') {
        for part in folder.components() {
            match part {
                Component::Normal(part) => segments.push(encode(&part.to_string_lossy())),
                Component::ParentDir => drop(segments.pop()),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(segments.pop()),
            part => segments.push(part.to_owned()),
        }
    }
    format!("/{}", segments.join("/"))
}

fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~+@=,!$&'()*;:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Placeholders of an IO manager's path.
pub(crate) const PLACEHOLDERS: [&str; 5] = ["job", "run", "step", "output", "key"];

/// Checks the path template of an IO manager.
///
/// # Errors
/// A phrase that says what is wrong with it.
pub(crate) fn check_template(path: &str) -> Result<(), String> {
    if path.is_empty() || path.len() > 1_000 {
        return Err("it has 1 to 1,000 characters".to_owned());
    }
    if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(
            "it stays below the manager's address: no leading `/`, no empty part, no `.` and no `..`".to_owned()
        );
    }
    if let Some(wrong) = path.chars().find(|c| c.is_control() || *c == '\\') {
        return Err(format!("it holds {wrong:?}"));
    }
    let mut rest = path;
    while let Some(at) = rest.find(['{', '}']) {
        let Some(inner) = rest[at..].strip_prefix('{') else { return Err("a `}` without a `{`".to_owned()) };
        let Some((name, after)) = inner.split_once('}') else { return Err("a `{` without a `}`".to_owned()) };
        if name == "partition" {
            return Err("`{partition}` means nothing yet: this version has no partitions".to_owned());
        }
        if !PLACEHOLDERS.contains(&name) {
            let known: Vec<_> = PLACEHOLDERS.iter().map(|name| format!("{{{name}}}")).collect();
            return Err(format!("`{{{name}}}` is not known; there are {}", known.join(", ")));
        }
        rest = after;
    }
    Ok(())
}

impl Reading<'_> {
    /// An object store, with what the host shows there.
    pub(super) fn location(&mut self, fields: &Fields<'_>) -> Option<Location> {
        let help = format!("an address: {}", SCHEMES.map(|scheme| format!("`{scheme}:`")).join(", "));
        self.located(fields, &help, |reading, text| resolve_url(reading.folder, text))
    }

    /// A server, likewise.
    pub(super) fn server_location(&mut self, fields: &Fields<'_>) -> Option<Location> {
        let help = "the address of a server: `http://host:port` or `https://host`";
        self.located(fields, help, |_, text| resolve_server(text))
    }

    fn located(
        &mut self,
        fields: &Fields<'_>,
        help: &str,
        resolve: impl FnOnce(&Self, &str) -> Result<String, String>,
    ) -> Option<Location> {
        let node = fields.require(self, "url", help)?;
        let text = self.text(node, "`url`")?;
        let url = match resolve(self, text) {
            Ok(url) => url,
            Err(problem) => {
                let wrong = Diagnostic::error(Code::BadUrl, "this address cannot be used");
                self.push(wrong.at(&node.place, problem).help(help));
                return None;
            }
        };
        let credentials = match fields.get("credentials") {
            Some(node) => self.credentials(node, Credential::sets(&url))?,
            None => Credentials::new(),
        };
        Some(Location { url, credentials })
    }

    /// `{ access_key_id: { secret: name }, … }`: one of the sets that the address takes.
    fn credentials(&mut self, node: &Node, sets: &[&[Credential]]) -> Option<Credentials> {
        if sets.is_empty() {
            let text = "this address takes no credentials";
            self.push(Diagnostic::error(Code::WrongShape, text).at(&node.place, "remove this"));
            return None;
        }
        let mut credentials = Credentials::new();
        let mut right = true;
        for (key, item) in self.entries(node, "`credentials`")? {
            let mut known = sets.iter().copied().flatten().copied();
            let Some(part) = known.clone().find(|part| part.name() == key.text) else {
                let text = format!("`{}` is no part of the credentials for this address", key.text);
                let wrong = Diagnostic::error(Code::UnknownKey, text).at(&key.place, "unknown");
                self.push(wrong.nearest(&key.text, known.by_ref().map(Credential::name)));
                right = false;
                continue;
            };
            match self.used_secret(item) {
                Some(used) => drop(credentials.insert(part, used)),
                None => right = false,
            }
        }
        let is_whole = |set: &&[Credential]| {
            set.len() == credentials.len() && set.iter().all(|part| credentials.contains_key(part))
        };
        if right && !sets.iter().any(is_whole) {
            let names = |set: &&[Credential]| {
                set.iter().map(|part| format!("`{}`", part.name())).collect::<Vec<_>>().join(", ")
            };
            let sets: Vec<_> = sets.iter().map(names).collect();
            let wrong = Diagnostic::error(Code::MissingKey, "these credentials are not whole").at(&node.place, "here");
            self.push(wrong.help(format!("together go {}", sets.join("; or "))));
            right = false;
        }
        right.then_some(credentials)
    }

    /// `{ secret: name }`: a secret of the file that the host uses. None when there is none of that name, or it is wrong itself.
    pub(super) fn used_secret(&mut self, node: &Node) -> Option<UsedSecret> {
        let fields = self.fields(node, &USED)?;
        self.secret_of(&fields)
    }

    /// The `secret` that fields name.
    pub(super) fn secret_of(&mut self, fields: &Fields<'_>) -> Option<UsedSecret> {
        let node = fields.require(self, "secret", "name a secret of `secrets`")?;
        let secret = self.name_at(node, "a secret")?;
        if let Some(found) = self.secrets.get(secret.as_str()) {
            let from = found.value.clone();
            return Some(UsedSecret { secret, from });
        }
        // What is wrong with one that is there was said at its own place.
        if !self.secrets.knows(secret.as_str()) {
            let known = self.secrets.names();
            let problem = unknown(Code::UnknownResource, "secret", secret.as_str(), &node.place, known);
            self.push(problem);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_absolute() {
        let folder = Path::new("/home/a b/ü");
        for (url, absolute) in [
            ("file:./data", "file:///home/a%20b/%C3%BC/data"),
            ("file:data/", "file:///home/a%20b/%C3%BC/data"),
            ("file:../x/./y", "file:///home/a%20b/x/y"),
            ("file:/../..", "file:///"),
            ("file:///srv/a%20b", "file:///srv/a%20b"),
            ("s3://bucket/prefix/", "s3://bucket/prefix"),
            ("memory:///", "memory:///"),
        ] {
            assert_eq!(resolve_url(folder, url).as_deref(), Ok(absolute), "{url}");
        }
        for wrong in [
            "",
            "data",
            "file:",
            "file://host/x",
            "s3:bucket",
            "s3://",
            "s3://key@b",
            "ftp://x",
            "file:a b",
            "memory:x",
        ] {
            assert!(resolve_url(folder, wrong).is_err(), "{wrong}");
        }
        assert_eq!(resolve_server("http://127.0.0.1:5000/").as_deref(), Ok("http://127.0.0.1:5000"));
        assert_eq!(resolve_server("https://mlflow.example.com/base").as_deref(), Ok("https://mlflow.example.com/base"));
        for wrong in
            ["", "http:", "http://", "http:///x", "ftp://x", "http://u:p@h", "http://h?x", "http://h#x", "http://h h"]
        {
            assert!(resolve_server(wrong).is_err(), "{wrong}");
        }
        assert_eq!(resolve_path(Path::new("/a/b"), "../c/./d.wasm"), Path::new("/a/c/d.wasm"));
    }
}
