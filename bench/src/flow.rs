//! How fast bytes go from a guest into the store, and from the store into a guest.

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use opyard_server::model::event::RunEvent;

use crate::house::{self, House};
use crate::meter;
use crate::table::{Better, Figure, Row};

/// The largest piece that crosses in one call.
const PIECE: usize = 1 << 20;

/// Sizes, and how many values of each are measured.
const SIZES: [(&str, usize, usize); 4] =
    [("1 KiB", 1 << 10, 500), ("1 MiB", 1 << 20, 100), ("64 MiB", 64 << 20, 4), ("1 GiB", 1 << 30, 1)];

pub(crate) const ROWS: &[&str] = &[
    "1 KiB, guest to store",
    "1 KiB, store to guest",
    "1 MiB, guest to store",
    "1 MiB, store to guest",
    "64 MiB, guest to store",
    "64 MiB, store to guest",
    "1 GiB, guest to store",
    "1 GiB, store to guest",
    "resident memory for 1 GiB, above that for 64 MiB",
];

/// Bytes a second, of two ways.
struct Speeds {
    write: f64,
    read: f64,
}

/// Rows of all sizes.
pub(crate) async fn measure() -> Result<Vec<Row>> {
    let house = House::new(Some(1))?;
    let mut rows = Vec::new();
    let mut peaks = Vec::new();
    for (at, (name, size, count)) in SIZES.into_iter().enumerate() {
        meter::forget_peak()?;
        let ours = through_guests(&house, size, count).await?;
        peaks.push(meter::peak_memory()?);
        let (write, read) = references(size, count)?;
        let row = |way: &str, speed: f64, (what, reference): (&str, f64)| {
            let row = Row::new(&format!("{name}, {way}"), "GB/s", speed / 1e9);
            let row = row.beside(what, reference / 1e9, Better::Higher);
            // Of values of one piece it is the step around them that takes the time; steps have a budget of their own.
            if size > PIECE { row.at_least(Figure::Ratio, 0.6) } else { row }
        };
        rows.push(row("guest to store", ours.write, write));
        rows.push(row("store to guest", ours.read, read));
        debug_assert_eq!(rows[2 * at].name, ROWS[2 * at]);
    }
    house.yard.close().await;
    let growth = (peaks[3] - peaks[2]).max(0.0) / 1024.0 / 1024.0;
    rows.push(Row::new(ROWS[8], "MiB", growth).at_most(Figure::Value, 16.0));
    Ok(rows)
}

/// Writes so many values in one step each, and reads each in another; one step at a time. The time is that of the steps,
/// from instance to end: a large value is on disk when its step ends.
async fn through_guests(house: &House, size: usize, count: usize) -> Result<Speeds> {
    let mut steps = String::new();
    for number in 0..count {
        writeln!(steps, "      w{number}: {{ op: probe.pour, config: {{ bytes: {size}, salt: {number} }} }}")?;
        writeln!(steps, "      r{number}: {{ op: probe.drain, inputs: {{ value: w{number} }} }}")?;
    }
    let plan = house.plan(&house::definitions("", &steps)?).await?;
    let run = house.run(&plan, false).await?.run;
    let (mut write, mut read) = (Duration::ZERO, Duration::ZERO);
    for recorded in house.yard.events(run).await? {
        let RunEvent::StepSuccess { of, usage } = recorded.event else { continue };
        let total = if of.step.to_string().starts_with('w') { &mut write } else { &mut read };
        *total += usage.wall;
    }
    Ok(Speeds { write: speed(size * count, write), read: speed(size * count, read) })
}

fn speed(bytes: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
    let bytes = bytes as f64;
    bytes / time.as_secs_f64()
}

/// What bounds a way, and how fast it is.
type Bound = (&'static str, f64);

/// What bounds the way to the store and the way back: two copies, one hash, the disk; whichever is slowest.
fn references(size: usize, count: usize) -> Result<(Bound, Bound)> {
    let piece = vec![7; size.min(PIECE)];
    let total = (size * count).max(64 << 20);
    let pieces = total / piece.len();
    let mut to = vec![0; piece.len()];
    let start = Instant::now();
    for _ in 0..2 * pieces {
        black_box(&mut to).copy_from_slice(black_box(&piece));
    }
    let copies = ("two copies", speed(pieces * piece.len(), start.elapsed()));

    let values = total / size;
    let start = Instant::now();
    for _ in 0..values {
        let mut hasher = blake3::Hasher::new();
        for _ in 0..size / piece.len() {
            hasher.update(black_box(&piece));
        }
        black_box(hasher.finalize());
    }
    let hash = ("BLAKE3", speed(values * size, start.elapsed()));

    let folder = house::folder()?;
    let (mut writing, mut reading) = (Duration::ZERO, Duration::ZERO);
    for number in 0..count.min(100) {
        let path = folder.path().join(number.to_string());
        let start = Instant::now();
        let mut file = File::create(&path)?;
        for _ in 0..size / piece.len() {
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        writing += start.elapsed();
        let start = Instant::now();
        let mut file = File::open(&path)?;
        while file.read(&mut to)? > 0 {}
        reading += start.elapsed();
    }
    let bytes = size * count.min(100);
    let slowest = |disk: Duration| {
        let all = [copies, hash, ("disk", speed(bytes, disk))];
        all.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(copies)
    };
    Ok((slowest(writing), slowest(reading)))
}
