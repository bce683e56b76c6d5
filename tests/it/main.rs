//! The one integration binary.

mod calltouch;
mod faults;
mod probe;
mod product;
mod repo;
mod stand_ins;
mod walkthrough;
