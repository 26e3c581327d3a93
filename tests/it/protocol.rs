//! The protocol over a real socket, byte for byte as the engine speaks it, with a fake service
//! behind it that does what a volume's name says.

mod bytes;
mod client;
mod daemon;
mod fake;
mod golden;
mod metrics;
mod mounting;
mod overload;
mod socket;
mod stopping;
