//! Virtual hosts with kernels of their own, real engines, real Ceph: `make test T=hosts`.
//!
//! What only a kernel with rbd and nbd can show, and two of them. Slow by nature: each test makes
//! as much as it can of one volume and one container.

mod choice;
mod failover;
mod krbd;
mod lab;
mod nbd;
