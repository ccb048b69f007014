//! What a step costs: run, found in the memo, in chains and fanned out, in small runs and in large ones.

use std::fs::File;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::bare::{Bare, Sink};
use crate::house::{self, House};
use crate::meter::{self, Meter, Spent};
use crate::table::{Better, Figure, Row};

/// Steps of the runs that figures of one step are taken from.
const STEPS: usize = 10_000;
/// Calls of the bare loop.
const CALLS: usize = 20_000;

pub(crate) const CHAIN_ROWS: &[&str] = &[
    "bare loop: store, instance, call",
    "bare loop, the bytes of a durable step hashed and written",
    "durable step, chain of 10,000",
    "durable step, chain of 10,000, memo off",
    "memoised step, chain of 10,000",
    "plan and no-op re-run of 10,000 memoised steps",
];
pub(crate) const FAN_ROWS: &[&str] = &["durable step, fan-out of 10,000", "memoised step, fan-out of 10,000"];
pub(crate) const SCALE_ROWS: &[&str] = &["step in a chain of 100,000", "memory of a step in a chain of 100,000"];

/// Calls the smallest op so many times, each with the number that the call before gave.
async fn bare_loop(bare: &Bare, mut sink: Option<Sink>) -> Result<Spent> {
    let mut value = b"0".to_vec();
    for _ in 0..CALLS / 20 {
        bare.call("next", &value).await?;
    }
    let meter = Meter::start();
    for _ in 0..CALLS {
        let output = bare.call("next", &value).await?;
        if let Some(sink) = &mut sink {
            sink.take(&value, &output)?;
        }
        value = output;
    }
    Ok(meter.stop())
}

/// The bare loop that hashes and writes as many bytes as a durable step of a run does.
async fn loop_with_bytes(bare: &Bare, bytes: usize) -> Result<Spent> {
    let folder = house::folder()?;
    let file = File::create(folder.path().join("bytes"))?;
    bare_loop(bare, Some(Sink::new(file, bytes))).await
}

fn row(name: &str, spent: Spent, count: usize) -> Row {
    let (cpu, wall) = spent.micros(count);
    Row::new(name, "µs", cpu).wall(wall)
}

/// Rows of a chain.
pub(crate) async fn chain() -> Result<Vec<Row>> {
    let [bare_name, bytes_name, durable_name, off_name, memoised_name, again_name] = CHAIN_ROWS else {
        unreachable!("six rows")
    };
    let bare = Bare::compile(&std::fs::read(house::probe()?)?)?;
    let house = House::new(None)?;
    // The component is compiled, code and files are warm.
    house.run(&house.plan(&house::chain(500, 1 << 40)?).await?, true).await?;
    let chain = house.plan(&house::chain(STEPS, 0)?).await?;
    let other = house.plan(&house::chain(STEPS, 2 * STEPS)?).await?;

    let plain = bare_loop(&bare, None).await?;
    let durable = house.run(&chain, true).await?;
    let off = house.run(&other, false).await?;
    let bytes = house.bytes_of(durable.run).await? / STEPS;
    let with_bytes = loop_with_bytes(&bare, bytes).await?;
    let memoised = house.run(&chain, true).await?;

    let flat = house::flat_chain(STEPS, 0)?;
    let meter = Meter::start();
    let plan = house.plan(&flat).await?;
    house.run(&plan, true).await?;
    let again = meter.stop();
    house.yard.close().await;

    let (plain_cpu, with_bytes_cpu) = (plain.micros(CALLS).0, with_bytes.micros(CALLS).0);
    let beside = format!("bare loop with {bytes} B");
    let within = |name: &str, spent: Spent| {
        let row = row(name, spent, STEPS).beside(&beside, with_bytes_cpu, Better::Lower);
        row.at_most(Figure::Value, 200.0).at_most(Figure::Wall, 300.0).at_most(Figure::Ratio, 3.0)
    };
    Ok(vec![
        row(bare_name, plain, CALLS),
        row(bytes_name, with_bytes, CALLS).beside("bare loop", plain_cpu, Better::Lower),
        within(durable_name, durable.spent),
        within(off_name, off.spent),
        row(memoised_name, memoised.spent, STEPS)
            .beside("bare loop", plain_cpu, Better::Lower)
            .at_most(Figure::Value, 60.0),
        Row::new(again_name, "s", again.cpu.as_secs_f64()).wall(again.wall.as_secs_f64()).at_most(Figure::Wall, 1.0),
    ])
}

/// Rows of a step that is mapped over the items of another.
pub(crate) async fn fan() -> Result<Vec<Row>> {
    let [durable_name, memoised_name] = FAN_ROWS else { unreachable!("two rows") };
    let bare = Bare::compile(&std::fs::read(house::probe()?)?)?;
    let house = House::new(None)?;
    house.run(&house.plan(&house::chain(500, 1 << 40)?).await?, true).await?;
    let fan = house.plan(&house::fan(STEPS)?).await?;
    let durable = house.run(&fan, true).await?;
    let bytes = house.bytes_of(durable.run).await? / STEPS;
    let with_bytes = loop_with_bytes(&bare, bytes).await?;
    let memoised = house.run(&fan, true).await?;
    house.yard.close().await;
    let with_bytes_cpu = with_bytes.micros(CALLS).0;
    let beside = format!("bare loop with {bytes} B");
    Ok(vec![
        row(durable_name, durable.spent, STEPS)
            .beside(&beside, with_bytes_cpu, Better::Lower)
            .at_most(Figure::Value, 200.0)
            .at_most(Figure::Ratio, 3.0),
        row(memoised_name, memoised.spent, STEPS)
            .beside(&beside, with_bytes_cpu, Better::Lower)
            .at_most(Figure::Value, 60.0),
    ])
}

/// What one run of a chain took, in a process that did nothing else.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Alone {
    steps: usize,
    cpu_micros: f64,
    wall_micros: f64,
    peak_bytes: f64,
}

/// Runs one chain.
pub(crate) async fn alone(steps: usize) -> Result<Alone> {
    let house = House::new(None)?;
    let plan = house.plan(&house::chain(steps, 0)?).await?;
    let spent = house.run(&plan, true).await?.spent;
    house.yard.close().await;
    let (cpu_micros, wall_micros) = spent.micros(steps);
    Ok(Alone { steps, cpu_micros, wall_micros, peak_bytes: meter::peak_memory()? })
}

/// The length of the short chain and of the long one.
pub(crate) const LENGTHS: [usize; 2] = [STEPS, 10 * STEPS];

/// Rows that compare a long chain with a short one.
pub(crate) fn scale(short: &Alone, long: &Alone) -> Result<Vec<Row>> {
    let [time_name, memory_name] = SCALE_ROWS else { unreachable!("two rows") };
    let more = u32::try_from(long.steps - short.steps).context("too many steps")?;
    let bytes = (long.peak_bytes - short.peak_bytes) / f64::from(more);
    Ok(vec![
        Row::new(time_name, "µs", long.cpu_micros)
            .wall(long.wall_micros)
            .beside("chain of 10,000", short.cpu_micros, Better::Lower)
            .at_most(Figure::Ratio, 1.2),
        Row::new(memory_name, "B", bytes).at_most(Figure::Value, 1024.0),
    ])
}
