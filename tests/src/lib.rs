//! What Sheaf is tested with: stand-ins for vendors, and harnesses that load it and kill it. The product never needs it.

pub mod calltouch;
pub mod mindbox;
pub mod receiver;
pub mod wire;
