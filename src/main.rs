//! `docker-ceph`: the daemon and the operator's tool.

fn main() {}
