//! Many items of one op, and many rows of one table.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use opyard_server::model::event::RunEvent;
use serde::{Deserialize, Serialize};

use crate::house::{self, House};
use crate::meter;
use crate::table::{Better, Figure, Row};

/// Items of a small map and of a large one.
pub(crate) const ITEMS: [usize; 2] = [100, 10_000];
/// Rows of the table that is checked.
const TABLE: usize = 1_000_000;

pub(crate) const MAP_ROWS: &[&str] =
    &["items committed when the first of 10,000 is mapped", "memory of a map over 10,000 items, above that of 100"];
pub(crate) const TABLE_ROWS: &[&str] = &["table of 1,000,000 rows, loaded and checked"];

/// What one run of a map took, in a process that did nothing else.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Mapped {
    /// Items that were committed when the first mapped step began.
    before_first: u32,
    peak_bytes: f64,
}

/// Runs one map.
pub(crate) async fn mapped(items: usize) -> Result<Mapped> {
    let house = House::new(None)?;
    let plan = house.plan(&house::fan(items)?).await?;
    let run = house.run(&plan, true).await?.run;
    let peak_bytes = meter::peak_memory()?;
    let mut before_first = 0;
    for recorded in house.yard.events(run).await? {
        match recorded.event {
            RunEvent::StepOutput { of, .. } if of.step.mapping.is_empty() => before_first += 1,
            RunEvent::StepStart { of } if !of.step.mapping.is_empty() => break,
            _ => {}
        }
    }
    house.yard.close().await;
    Ok(Mapped { before_first, peak_bytes })
}

/// Rows that compare a large map with a small one.
pub(crate) fn compare(small: &Mapped, large: &Mapped) -> Result<Vec<Row>> {
    let [first_name, memory_name] = MAP_ROWS else { unreachable!("two rows") };
    let growth = (large.peak_bytes - small.peak_bytes).max(0.0) / 1024.0 / 1024.0;
    Ok(vec![
        Row::new(first_name, "items", f64::from(large.before_first)).at_most(Figure::Value, 100.0),
        Row::new(memory_name, "MiB", growth).at_most(Figure::Value, 16.0),
    ])
}

/// One table, loaded as it is, and checked column by column.
pub(crate) async fn table() -> Result<Vec<Row>> {
    let folder = house::folder()?;
    let mut rows = String::from("id,species,body_mass_g,flipper_length_mm,sex\n");
    for id in 0..TABLE {
        let species = ["Adelie", "Gentoo", "Chinstrap"][id % 3];
        writeln!(rows, "{id},{species},{},{},{}", 2700 + id % 3600, 172 + id % 60, ["male", "female"][id % 2])?;
    }
    std::fs::write(folder.path().join("rows.csv"), rows)?;
    let definitions = |types: &str| -> Result<String> {
        Ok(format!(
            "opyard: 1\ncomponents:\n  penguins: {{ path: \"{}\" }}\n  tables: {{ path: \"{}\" }}\ntypes:\n  \
             rows:\n    base: table\n    check: {{ with: tables.table, rows: {{ min: 1 }}, strict: true, columns: {{ \
             id: {{ type: int64, unique: true }}, species: {{ type: utf8, in: [Adelie, Gentoo, Chinstrap] }}, \
             body_mass_g: {{ type: float64, min: 2000, max: 7000, nullable: false }}, \
             flipper_length_mm: {{ type: float64, min: 100 }}, sex: {{ type: utf8, pattern: \"^(fe)?male$\" }} }} }}\n\
             resources: {{ raw: {{ kind: object_store, url: \"file://{}\", access: read }} }}\n\
             grants: {{ penguins.load_csv: {{ resources: {{ raw: raw }} }}, penguins: {{ limits: {{ memory: 1GiB, cpu: 60s }} }}, \
             tables.table: {{ limits: {{ memory: 1GiB, cpu: 60s }} }} }}\n\
             jobs:\n  work:\n    steps:\n      load: {{ op: penguins.load_csv, config: {{ object: rows.csv }}{types} }}\n",
            house::guest("penguins").canonicalize().context("`cargo xtask guests` makes the components")?.display(),
            house::guest("table_types").canonicalize().context("`cargo xtask guests` makes the components")?.display(),
            folder.path().display(),
        ))
    };
    let house = House::new(None)?;
    let plain = house.plan(&definitions("")?).await?;
    let checked = house.plan(&definitions(", types: { result: rows }")?).await?;
    house.run(&plain, false).await?;
    house.run(&checked, false).await?;
    let without = house.run(&plain, false).await?.spent.cpu.as_secs_f64();
    let spent = house.run(&checked, false).await?.spent;
    house.yard.close().await;
    let row = Row::new(TABLE_ROWS[0], "s", spent.cpu.as_secs_f64()).wall(spent.wall.as_secs_f64());
    Ok(vec![row.beside("not checked", without, Better::Lower)])
}
