//! `artifacts` and `cat`: what a run made.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use opyard_server::Found;
use opyard_server::model::error::{Code, sanitize};
use opyard_server::model::id::Name;
use opyard_server::store::artifact::ArtifactReader;
use serde_json::{Value, json};

use crate::args::{self, Global};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::style::DIM;
use crate::render::table::{Cell, Table};
use crate::render::{event, quantity};
use crate::report;
use crate::run_name;
use crate::screen::Screen;

/// Bytes that are read and written at a time.
const CHUNK: usize = 1 << 20;

fn name(found: &Found) -> String {
    let item = found.output.value.item_of(&found.step.mapping);
    let item = item.map(|key| format!("[{key}]")).unwrap_or_default();
    format!("{}.{}{item}", found.step, found.output.port)
}

fn json(found: &Found) -> Value {
    let value = &found.output.value;
    json!({
        "name": name(found),
        "step": found.step,
        "output": found.output.port,
        "item": value.mapping_key.text(),
        "type": value.type_name,
        "media_type": value.media_type,
        "size": value.artifact.size,
        "digest": value.artifact.digest,
        "metadata": value.metadata,
        "kept": value.kept,
    })
}

pub(crate) async fn artifacts(global: &Global, args: &args::Artifacts, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    let outputs = yard.outputs(run).await?;
    if screen.json() {
        screen.print_json(&outputs.iter().map(json).collect())?;
    } else if outputs.is_empty() {
        screen.note(&format!("{run} has no outputs: no step of it has succeeded"));
    } else {
        let (plan, _) = yard.state(run).await?;
        screen.print(&table(&outputs, &report::stores(&plan)))?;
    }
    Ok(Exit::Success)
}

fn table(outputs: &[Found], stores: &BTreeMap<Name, String>) -> String {
    let mut table = Table::new(["output", "type", "media type", ">size", "digest", "also kept"]);
    for found in outputs {
        let value = &found.output.value;
        let kept = value.kept.as_ref().map(|kept| {
            let base = stores.get(&kept.manager).map(String::as_str);
            format!("{}: {}", kept.manager, event::place(&kept.locator, base))
        });
        table.row([
            name(found).into(),
            value.type_name.as_str().into(),
            value.media_type.as_str().into(),
            quantity::size(value.artifact.size).into(),
            Cell::styled(value.artifact.digest.to_string(), DIM),
            kept.unwrap_or_default().into(),
        ]);
    }
    table.render("")
}

pub(crate) async fn cat(global: &Global, args: &args::Cat, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    let found = yard.output(run, &args.output).await?;
    if screen.json() {
        screen.print_json(&json(&found))?;
        return Ok(Exit::Success);
    }
    let mut reader = yard.open_value(&found.output.value).await?;
    if let Some(path) = &args.output_file {
        to_file(reader.as_mut(), path).await?;
        screen.note(&format!("{}: {}", path.display(), quantity::size(found.output.value.artifact.size)));
        return Ok(Exit::Success);
    }
    // Reading the end first has the whole compared with its digest: what goes to stdout cannot be called back.
    let size = found.output.value.artifact.size;
    if size > CHUNK as u64 {
        read(reader.as_mut(), size - 1).await?;
    }
    let guarded = io::stdout().is_terminal() && !args.force;
    let mut guard = TextGuard::default();
    let mut offset = 0;
    loop {
        let chunk = read(reader.as_mut(), offset).await?;
        if chunk.is_empty() {
            break;
        }
        offset += chunk.len() as u64;
        if guarded && !guard.is_text(&chunk) {
            let value = &found.output.value;
            let text = format!(
                "{} is binary ({}, {}) and would spoil the terminal: write it to a file with -o FILE, or use --force",
                name(&found),
                value.media_type,
                quantity::size(value.artifact.size)
            );
            return Err(CliError::new(Code::BadCall, text));
        }
        io::stdout().lock().write_all(&chunk)?;
    }
    io::stdout().lock().flush()?;
    Ok(Exit::Success)
}

async fn read(
    reader: &mut dyn ArtifactReader,
    offset: u64,
) -> Result<impl std::ops::Deref<Target = [u8]> + use<>, CliError> {
    Ok(reader.read_at(offset, CHUNK).await?)
}

/// Writes a value to a file; what is half written does not stay.
async fn to_file(reader: &mut dyn ArtifactReader, path: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        let path = sanitize(&path.display().to_string(), 1_000);
        CliError::new(Code::FileUnreadable, format!("{path} cannot be written: {error}"))
    };
    let mut file = std::fs::File::create(path).map_err(failed)?;
    let written = async {
        let mut offset = 0;
        loop {
            let chunk = read(&mut *reader, offset).await?;
            if chunk.is_empty() {
                return Ok(());
            }
            offset += chunk.len() as u64;
            file.write_all(&chunk).map_err(failed)?;
        }
    };
    let written = written.await;
    if written.is_err() {
        drop(std::fs::remove_file(path));
    }
    written
}

/// Tells text from what could drive a terminal, chunk by chunk. Guest-controlled.
#[derive(Debug, Default)]
struct TextGuard {
    /// The beginning of a character that the next chunk ends: three bytes at most.
    begun: Vec<u8>,
}

impl TextGuard {
    /// The chunk, after those before it, is text that can be shown as it is.
    fn is_text(&mut self, chunk: &[u8]) -> bool {
        let bytes = [self.begun.as_slice(), chunk].concat();
        let (valid, rest) = match std::str::from_utf8(&bytes) {
            Ok(text) => (text, &[][..]),
            // None: more bytes may make it whole.
            Err(error) if error.error_len().is_none() => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), rest)
            }
            Err(_) => return false,
        };
        // What `sanitize` would change is not for a terminal; a carriage return before a line end is.
        let harmless = valid.replace("\r\n", "\n").split_inclusive('\n').all(|line| sanitize(line, usize::MAX) == line);
        self.begun = rest.to_vec();
        harmless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_what_could_drive_a_terminal() {
        let is_text = |chunks: &[&[u8]]| {
            let mut guard = TextGuard::default();
            chunks.iter().all(|chunk| guard.is_text(chunk))
        };
        assert!(is_text(&[b"a,b\r\n1,\t2\n", "käse".as_bytes()]));
        assert!(is_text(&[&"日".as_bytes()[..1], &"日".as_bytes()[1..]]));
        for binary in [&b"a\0b"[..], b"\x1b[2J", b"\xff\xfe", "\u{9b}2J".as_bytes(), "\u{202e}".as_bytes()] {
            assert!(!is_text(&[b"fine\n", binary]), "{binary:?}");
        }
    }
}
