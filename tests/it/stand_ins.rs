//! The stand-ins themselves: they send and refuse what the vendors send and refuse.

mod calltouch;
mod mindbox;
mod receiver;
