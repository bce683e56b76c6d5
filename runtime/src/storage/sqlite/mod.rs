//! SQLite: write-ahead log, fsync before every answer, one writer and several readers.

pub mod backend;
mod claim;
mod connect;
mod dedupe;
mod guard;
mod head;
mod history;
mod ledger;
mod note;
mod observe;
mod publish;
mod recount;
mod replay;
mod schema;
mod settle;
mod shape;
pub mod store;
#[cfg(test)]
mod tests;
mod versions;
