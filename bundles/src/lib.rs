//! The language of Sheaf: what a user writes, checked and turned into plans. Pure: no clock, network, disk or environment.

pub mod artefact;
pub mod connection;
pub mod diagnostic;
pub mod duration;
pub mod event;
pub mod expression;
pub mod function;
pub mod hook;
pub mod id;
pub mod json;
pub mod manifest;
pub mod path;
pub mod plan;
pub mod request;
pub mod retry;
pub mod run;
pub mod shape;
pub mod template;
pub mod types;
pub mod value;
pub mod verdict;
pub mod words;
pub mod yaml;
