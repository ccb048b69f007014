//! Tests of the resources, of secrets, and of the IO manager that writes files.

mod credentials;
mod http;
mod io;
mod key_values;
mod models;
mod objects;
mod paths;
mod registries;
mod secrets;
mod server;
mod twice;

use futures::FutureExt as _;

/// What is opened without a secret waits for nothing.
fn at_once<T>(opening: impl Future<Output = T>) -> T {
    opening.now_or_never().expect("it waits")
}
