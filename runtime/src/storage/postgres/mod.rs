//! PostgreSQL: any number of nodes on one database, each with a connection that commits its turns.

pub mod backend;
mod budgets;
mod claim;
pub mod connect;
mod counts;
mod gates;
mod identities;
mod keeper;
mod lanes;
pub mod node;
mod publish;
pub mod schema;
mod settle;
#[cfg(test)]
pub(crate) mod tests;
mod turn;
pub mod url;
