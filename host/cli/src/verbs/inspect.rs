//! `op inspect`: what is in a component file?

use serde_json::json;

use crate::args::{self, File, Global};
use crate::compile;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render;
use crate::screen::Screen;

pub(crate) async fn inspect(global: &Global, args: &args::Inspect, screen: &Screen) -> Outcome {
    let place = Place::of_yard(global, &File { file: None }, &here()?);
    // A yard that is there has compiled it, perhaps; none is made for looking at a file.
    let inspected = if place.has_yard() {
        place.open()?.inspect(&args.component).await?
    } else {
        opyard_server::inspect(&args.component, Some(compile::worker()?)).await?
    };
    if screen.json() {
        screen.print_json(&json!(inspected))?;
    } else {
        screen.print(&render::inspect::component(&args.component.display().to_string(), &inspected))?;
    }
    Ok(Exit::Success)
}
