//! Tests of the resources and of the IO manager `object_store`.

mod io;
mod key_values;
mod models;
mod objects;
mod paths;
mod twice;
