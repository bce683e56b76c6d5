//! The one integration binary.

mod calltouch;
mod stand_ins;
