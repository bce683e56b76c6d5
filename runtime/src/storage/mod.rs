//! Where the queue, history and bundle versions are kept.

mod sqlite;

pub use sqlite::{backend::SqliteBackend, store::Store};
