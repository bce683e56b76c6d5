//! What the product knows about other services: a folder of data for each, and the pure code that reads their requests,
//! checks their signatures and fills in their secrets.

pub mod auth;
pub mod charset;
pub mod form;
pub mod pairs;
