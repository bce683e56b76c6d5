//! Where the queue, history and bundle versions are kept: one data model on two databases.
//!
//! What is hot (publish, claim, settle) is written for each database apart; what is read, and what people do to runs,
//! is written once for both.

pub mod budgets;
pub mod database;
mod digests;
mod gates;
pub(crate) mod head;
mod history;
pub mod horizon;
mod identity;
mod lanes;
mod ledger;
mod names;
mod note;
mod numbers;
mod observe;
pub mod postgres;
mod recount;
mod replay;
mod sql;
pub mod sqlite;
pub mod store;
mod versions;
