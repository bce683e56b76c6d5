//! SQLite: write-ahead log, fsync before every answer, one writer and several readers.

pub mod backend;
mod ballast;
mod budgets;
mod claim;
pub mod connect;
mod dedupe;
mod filter;
mod gates;
pub mod guard;
mod lanes;
mod publish;
pub mod schema;
mod settle;
mod shape;
mod tally;
#[cfg(test)]
mod tests;
