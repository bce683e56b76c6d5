//! What the product does at its promised size: a million deliveries, a million delayed runs, many bundles, several nodes, dead
//! vendors. Real processes and real HTTP; each scenario takes its size, so that a short form of it runs in seconds.
//!
//! A promise that did not hold fails the run. A speed that was not reached is said, and does not: it is the machine's too.

pub mod dead_vendor;
pub mod delayed;
pub mod duplicates;
pub mod filled;
pub mod lab;
pub mod many;
pub mod nodes;
pub mod order;
pub mod pairs;
pub mod scenario;
pub mod snapshot;
pub mod volume;
