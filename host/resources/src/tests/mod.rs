#![expect(clippy::unwrap_used, reason = "tests")]

mod io;
mod objects;
mod paths;
