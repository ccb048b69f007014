//! Finds the run that a user means: by its id, the beginning or the end of it, or `latest`.

use opyard_server::Yard;
use opyard_server::model::error::Code;
use opyard_server::model::id::RunId;
use opyard_server::store::run::{MAX_PAGE, RunFilter};

use crate::error::CliError;

/// The most recent runs among which a part of an id is looked for.
const SEARCHED: usize = 10_000;

/// Finds the run.
///
/// # Errors
/// `OPY-238` when there is none, or more than one.
pub(crate) async fn find(yard: &Yard, name: &str) -> Result<RunId, CliError> {
    if let Ok(run) = name.parse() {
        return Ok(run);
    }
    let limit = if name == "latest" { 1 } else { MAX_PAGE };
    let mut ids: Vec<RunId> = Vec::new();
    loop {
        let filter = RunFilter { before: ids.last().copied(), limit, ..RunFilter::default() };
        let page = yard.tenant_store().runs(filter).await?;
        let last = page.len() < MAX_PAGE;
        ids.extend(page.into_iter().map(|summary| summary.run));
        if last || ids.len() >= SEARCHED {
            break;
        }
    }
    pick(&ids, name)
}

/// Picks the one that `name` means, from ids with the newest first.
fn pick(ids: &[RunId], name: &str) -> Result<RunId, CliError> {
    let unknown = |text: String| CliError::new(Code::UnknownRun, text);
    if name == "latest" {
        return ids
            .first()
            .copied()
            .ok_or_else(|| unknown("there are no runs yet; start one with `opyard run JOB`".into()));
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    let part = name.to_ascii_uppercase();
    let part = part.strip_prefix("RUN_").unwrap_or(&part);
    if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(unknown(format!(
            "'{shown}' is not a run: give an id, the beginning or the end of one, or `latest`"
        )));
    }
    let matches = |id: &&RunId| {
        let id = id.to_string();
        let id = id.trim_start_matches("run_");
        id.starts_with(part) || id.ends_with(part)
    };
    let found: Vec<_> = ids.iter().filter(matches).collect();
    match found.as_slice() {
        [one] => Ok(**one),
        [] => Err(unknown(format!("there is no run '{shown}'; `opyard runs` lists them"))),
        several => {
            let listed: Vec<_> = several.iter().take(5).map(ToString::to_string).collect();
            let more = if several.len() > 5 { ", …" } else { "" };
            Err(unknown(format!("'{shown}' may be {} runs: {}{more}", several.len(), listed.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_by_either_end_of_its_id() {
        let ids = [RunId::from_parts(3, 0xabc), RunId::from_parts(2, 0xabd), RunId::from_parts(1 << 40, 0x7)];
        let picked = |name: &str| pick(&ids, name).ok();
        assert_eq!(picked("latest"), Some(ids[0]));
        let full = ids[1].to_string();
        for name in
            [&full, &full.to_lowercase(), &full[4..], &full[full.len() - 3..], &full[full.len() - 3..].to_lowercase()]
        {
            assert_eq!(picked(name), Some(ids[1]), "{name}");
        }
        assert_eq!(picked(&ids[2].to_string()[..8]), Some(ids[2]));
        for name in ["", "run_", "00", "zzz", "%", "../x"] {
            assert_eq!(picked(name), None, "{name}");
        }
        assert!(pick(&[], "latest").is_err());
    }
}
