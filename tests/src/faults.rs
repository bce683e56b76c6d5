//! Faults on purpose, judged by ledgers outside the product: one harness, one scenario for each kind of fault, one report.
//!
//! A scenario is a number of cycles. Each cycle says whether its fault bit; a run in which one did not, or in which nothing
//! was acknowledged, proves nothing and is called invalid.

pub mod callers;
pub mod calls;
pub mod certificates;
pub mod clocks;
pub mod database;
pub mod dead_vendor;
pub mod disk;
pub mod duplicates;
pub mod equations;
pub mod errors;
pub mod faketime;
pub mod judge;
pub mod kills;
pub mod lab;
pub mod ledger;
pub mod migrations;
pub mod nodes;
pub mod old;
pub mod overload;
pub mod poison;
pub mod postgres;
pub mod postmaster;
pub mod power;
pub mod report;
pub mod rig;
pub mod scenario;
pub mod script;
pub mod standby;
pub mod stop;
pub mod strace;
pub mod switch;
pub mod traffic;
pub mod two;
pub mod vendor;
pub mod way;
pub mod zombie;
