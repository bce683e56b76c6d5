//! The one integration binary.

mod calltouch;
mod faults;
mod repo;
mod stand_ins;
