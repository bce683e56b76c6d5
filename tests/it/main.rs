//! The one integration binary.

mod calltouch;
mod probe;
mod product;
mod repo;
mod stand_ins;
mod walkthrough;
