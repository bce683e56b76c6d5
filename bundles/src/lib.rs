//! The language of Sheaf: what a user writes, checked and turned into plans. Pure: no clock, network, disk or environment.

pub mod diagnostic;
pub mod event;
pub mod id;
pub mod request;
pub mod shape;
pub mod value;
pub mod words;
pub mod yaml;
