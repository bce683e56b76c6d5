//! All input and output of Sheaf: hooks, the queue, the way out, settings and logs.

pub mod addresses;
pub mod alerts;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directory;
pub mod egress;
pub mod executor;
#[cfg(feature = "faulty")]
pub mod faulty;
pub mod intake;
pub mod live;
pub mod management;
pub mod metrics;
pub mod oversight;
pub mod queue;
pub mod secrets;
pub mod spool;
pub mod stop;
pub mod storage;
pub mod telemetry;
pub mod token;
pub mod watch;
pub mod worker;
