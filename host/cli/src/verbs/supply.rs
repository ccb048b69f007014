//! `op pull`, `op push`, `op sign`, `op verify`: components and registries.

use opyard_server::Yard;
use opyard_server::model::error::Code;
use opyard_server::model::supply::Signer;
use opyard_server::supply::{Obtained, PullRules, Pulled, Standing};
use serde_json::json;

use crate::args::supply::{Pull, Push, Sign, VerifyComponent};
use crate::args::{File, Global};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::style::{GOOD, WARN};
use crate::render::table::{Cell, Table};
use crate::render::text::counted;
use crate::screen::Screen;

pub(crate) async fn pull(global: &Global, args: &Pull, screen: &Screen) -> Outcome {
    if let (Some(reference), Some(file)) = (&args.reference, &args.output_file) {
        let obtained = yard(global)?.fetch(reference, None).await?;
        std::fs::write(file, &obtained.bytes)
            .map_err(|error| CliError::new(Code::FileUnreadable, format!("{}: {error}", file.display())))?;
        return told(&obtained, screen);
    }
    let place = Place::of_definitions(global, &args.file);
    place.check_file()?;
    let rules = PullRules { update: args.update, allow_downgrade: args.allow_downgrade };
    let pulled = place.open()?.pull(&place.file, rules).await?;
    if screen.json() {
        screen.print_json(&json!(pulled))?;
    } else if pulled.is_empty() {
        screen.note("no component of these definitions comes from a registry");
    } else {
        screen.print(&table(&pulled))?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn push(global: &Global, args: &Push, screen: &Screen) -> Outcome {
    let yard = yard(global)?;
    let version = args.version.as_deref();
    let published = yard.push(&args.component, &args.reference, version, args.replace).await?;
    if screen.json() {
        screen.print_json(&json!(published))?;
    } else {
        let version = published.version.map(|version| format!(" ({version})")).unwrap_or_default();
        let text = format!("{}{version}\n  manifest  {}", published.reference, published.manifest);
        screen.print(&format!("{text}\n  component {}", published.component))?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn sign(global: &Global, args: &Sign, screen: &Screen) -> Outcome {
    let signed = yard(global)?.sign(&args.component, &args.reference, &args.key).await?;
    if screen.json() {
        screen.print_json(&json!(signed))?;
    } else {
        let what = &signed.what;
        screen.print(&format!(
            "signed {} ({})\n  key       {}\n  signature {}",
            what.reference, what.manifest, signed.ed25519, signed.signature
        ))?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn verify(global: &Global, args: &VerifyComponent, screen: &Screen) -> Outcome {
    let obtained = yard(global)?.fetch(&args.reference, args.key).await?;
    told(&obtained, screen)
}

/// The yard whose registries are meant.
fn yard(global: &Global) -> Result<Yard, CliError> {
    Place::of_yard(global, &File { file: None }, &here()?).open()
}

fn told(obtained: &Obtained, screen: &Screen) -> Outcome {
    let (locked, origin) = (&obtained.locked, &obtained.origin);
    if screen.json() {
        let mut told = json!(locked);
        told["size"] = json!(obtained.bytes.len());
        told["signed_by"] = json!(origin.signed_by);
        screen.print_json(&told)?;
    } else {
        let version = locked.version.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
        screen.print(&format!(
            "{}{version}\n  manifest  {}\n  component {}\n  signed by {}",
            locked.reference,
            locked.manifest,
            locked.component,
            names(&origin.signed_by)
        ))?;
    }
    Ok(Exit::Success)
}

fn names(signers: &[Signer]) -> String {
    if signers.is_empty() {
        return "nobody who is trusted: the operator lets it pass".to_owned();
    }
    signers.iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn table(pulled: &[Pulled]) -> String {
    let mut table = Table::new(["component", "reference", "version", "pin", "signed by", "digest"]);
    for one in pulled {
        let (standing, style) = match one.standing {
            Standing::New => ("new", GOOD),
            Standing::Same => ("as before", GOOD),
            Standing::Moved => ("moved", WARN),
        };
        table.row([
            one.name.to_string().into(),
            one.locked.reference.to_string().into(),
            one.locked.version.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            Cell::styled(standing, style),
            one.signed_by.iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>().join(", ").into(),
            one.locked.component.to_string().into(),
        ]);
    }
    format!("{}\n\n{}", table.render(""), counted(pulled.len(), "component"))
}
