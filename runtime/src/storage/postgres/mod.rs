//! PostgreSQL: any number of nodes on one database, each with one connection that commits its turns.

pub mod backend;
mod budgets;
mod claim;
pub mod connect;
mod gates;
mod keeper;
mod lanes;
pub mod node;
mod publish;
pub mod schema;
mod settle;
#[cfg(test)]
mod tests;
pub mod url;
