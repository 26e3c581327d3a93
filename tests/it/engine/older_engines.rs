//! The main job on the engines of Debian 12 and 13.

use crate::engine::at_data;
use crate::engine::main_job::{READ, WRITE};
use crate::engine::sharing::copy_in_and_out;
use crate::support::host::{Host, on};

#[test]
fn the_main_job_is_done_on_docker_20_10() {
    on("20.10", main_job);
}

#[test]
fn the_main_job_is_done_on_docker_26_1() {
    on("26.1", main_job);
}

fn main_job(host: &mut Host) {
    let volume = host.volume(&["size=64M"]);
    let written = host.docker().script(at_data!(volume), WRITE);
    host.assert_released();
    assert_eq!(host.docker().script(at_data!(volume), READ), written);
    let (first, second) = (host.fresh("c"), host.fresh("c"));
    host.docker().idle(&first, at_data!(volume));
    host.docker().idle(&second, at_data!(volume));
    copy_in_and_out(host, &first, "while both run");
    host.docker().ok(&["rm", "--force", &first]);
    assert_eq!(host.docker().exec(&second, "cat /data/copied"), "while both run");
    host.docker().ok(&["stop", &second]);
    host.assert_released();
    copy_in_and_out(host, &second, "while none runs");
    host.assert_released();
    host.docker().ok(&["rm", &second]);
    assert_eq!(host.docker().inspect(&volume)["Status"]["state"], "ready");
    assert_eq!(host.docker().volumes("ceph", &volume), [volume.as_str()]);
    host.docker().ok(&["volume", "rm", &volume]);
    assert!(host.docker().volumes("ceph", &volume).is_empty());
}
