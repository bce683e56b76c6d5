//! The one integration binary.

mod calltouch;
mod faults;
mod stand_ins;
