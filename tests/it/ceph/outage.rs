//! An outage, on a cluster of its own: everything in it stops and goes on again.
