//! What Sheaf is tested with: stand-ins for vendors, and harnesses that load it and kill it. The product never needs it.

pub mod bench;
pub mod calltouch;
pub mod ceiling;
pub mod clock;
pub mod faults;
pub mod latencies;
pub mod load;
pub mod mindbox;
pub mod postgres;
pub mod process;
pub mod product;
pub mod receiver;
pub mod scale;
pub mod sink;
pub mod smtp;
pub mod standard_webhooks;
pub mod wire;
