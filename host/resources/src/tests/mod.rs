//! Tests of the resource `object_store` and of the IO manager of the same name.

mod io;
mod objects;
mod paths;
