//! The one integration binary.

mod stand_ins;
