//! What is spoken on the daemon's socket.

pub mod admin;
pub mod client;

mod path;
