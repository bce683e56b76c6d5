//! The whole product in this process, between stand-ins for both vendors, with a clock that stands until it is set.

mod alerts;
mod alerts_of_workspaces;
mod budgets;
mod delivery;
mod nodes;
mod order;
mod outcomes;
mod quarantine;
mod resend;
mod shares;
mod workspaces;
mod world;
