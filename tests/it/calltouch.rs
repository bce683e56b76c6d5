//! Calltouch's webhooks by the vendor's own article, against the connector that comes with the product.

mod event;
mod identity;
mod inbound;
mod manifest;
mod recipe;
mod triggers;
