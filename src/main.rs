//! `docker-ceph`: the daemon and the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    docker_volume_ceph::cli::run(std::env::args_os().collect()).into()
}
