//! Tests of the resources, of secrets, and of the IO manager that writes files.

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
