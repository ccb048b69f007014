//! `assets` and `metrics`: what steps said over time.

use opyard_server::{Listed, Series, numeric_metadata};
use serde_json::json;

use crate::args::{self, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render;
use crate::screen::Screen;

/// What is said when a list was cut.
const MORE: &str = "there are more; ask for more with -n, or with `opyard query`";

pub(crate) async fn assets(global: &Global, args: &args::assets::Assets, screen: &Screen) -> Outcome {
    let place = Place::of_yard(global, &args.file, &here()?);
    let limit = args.limit.into();
    let truncated = match &args.asset {
        None => {
            // Looking makes no yard; none has no assets.
            let nothing = Listed { found: Vec::new(), truncated: false };
            let listed = if place.has_yard() { place.open()?.assets(limit).await? } else { nothing };
            if screen.json() {
                screen.print_json(&json!(listed.found))?;
            } else if listed.found.is_empty() {
                screen.note("no assets; an op tells of one with `materialize` or `observe`");
            } else {
                screen.print(&render::assets::list(&listed.found))?;
            }
            listed.truncated
        }
        Some(name) => {
            let listed = place.open_existing()?.asset(&key(name), limit).await?;
            let series = numeric_metadata(&listed.found);
            if screen.json() {
                let key = listed.found.first().map(|record| &record.asset_key);
                screen.print_json(&json!({ "asset_key": key, "events": listed.found, "series": series }))?;
            } else {
                screen.print(&render::assets::history(&listed.found, &series))?;
            }
            listed.truncated
        }
    };
    if truncated {
        screen.note(MORE);
    }
    Ok(Exit::Success)
}

pub(crate) async fn metrics(global: &Global, args: &args::assets::Metrics, screen: &Screen) -> Outcome {
    let place = Place::of_yard(global, &args.file, &here()?);
    let limit = args.limit.into();
    let truncated = match &args.series {
        None => {
            let nothing = Listed { found: Vec::new(), truncated: false };
            let listed = if place.has_yard() { place.open()?.series(limit).await? } else { nothing };
            if screen.json() {
                let latest = |series: &Series| json!({ "name": series.name, "latest": series.points.last() });
                screen.print_json(&listed.found.iter().map(latest).collect())?;
            } else if listed.found.is_empty() {
                screen.note("no series; an op adds a point to one with `metric`");
            } else {
                screen.print(&render::assets::series(&listed.found))?;
            }
            listed.truncated
        }
        Some(name) => {
            let Listed { found: points, truncated } = place.open_existing()?.metric(name, limit).await?;
            let series = Series { name: name.clone(), points };
            if screen.json() {
                screen.print_json(&json!(series))?;
            } else {
                screen.print(&render::assets::points(&series))?;
            }
            truncated
        }
    };
    if truncated {
        screen.note(MORE);
    }
    Ok(Exit::Success)
}

/// `lake/penguins`; a name that has a slash itself is written in JSON: `["lake","a/b"]`.
fn key(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| text.split('/').map(ToOwned::to_owned).collect())
}
