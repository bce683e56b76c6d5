//! The one integration binary.

mod calltouch;
mod faults;
mod product;
mod repo;
mod stand_ins;
mod walkthrough;
