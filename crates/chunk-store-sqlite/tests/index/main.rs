//! The index in SQLite, from outside: one binary, because linking SQLite once is enough.

mod conformance;
mod cost;
mod crash;
mod faults;
mod full_disk;
mod model;
mod restart;
mod samples;
mod schema;
