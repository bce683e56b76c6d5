//! The command line as people meet it: the binary itself, what it prints, and how it ends.

mod demo;
mod files;
mod history;
mod server;
mod shop;
mod vendor;
mod workspaces;
