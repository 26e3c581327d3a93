//! `docker-ceph`: the daemon and the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: as a child of the daemon, this program is only a system call.
    if let Some(code) = docker_volume_ceph::system::kernel_entry() {
        return code;
    }
    let exit = docker_volume_ceph::cli::run(std::env::args_os().collect());
    docker_volume_ceph::system::end_process(exit.code())
}
