//! All input and output of Sheaf: hooks, the queue, the way out, settings and logs.

pub mod clock;
pub mod config;
pub mod egress;
pub mod queue;
pub mod secrets;
pub mod storage;
pub mod telemetry;
pub mod token;
