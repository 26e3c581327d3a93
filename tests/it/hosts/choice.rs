//! Which mapper `auto` takes, by what the kernel has.

use crate::engine::at_data;
use crate::support::machine::{Machine, on_one};

/// The device that a container on a volume of this host gets.
fn device(host: &Machine, volume: &str) -> String {
    let mounted = host.docker().script(at_data!(volume), "grep ' /data ' /proc/mounts");
    mounted.trim_start_matches("/dev/").chars().take_while(|c| c.is_ascii_alphabetic()).collect()
}

/// Takes a module away, as if the kernel had been built without it.
fn hide(host: &Machine, module: &str) {
    host.run(&format!(
        "[ ! -e /sys/module/{module} ] || rmmod {module}; \
         cd /lib/modules/$(uname -r); mv kernel/drivers/block/{module}.ko /run/; \
         cp -n modules.dep modules.dep.whole; sed -i '/\\/{module}\\.ko:/d' modules.dep"
    ));
}

fn show_all(host: &Machine) {
    host.run(
        "cd /lib/modules/$(uname -r); mv /run/*.ko kernel/drivers/block/; \
         mv modules.dep.whole modules.dep",
    );
}

#[test]
fn auto_takes_krbd_else_nbd_and_fuse_only_if_it_is_asked_to() {
    on_one(|host| {
        let volume = host.volume(&[]);
        assert_eq!(device(host, &volume), "rbd");
        host.assert_released();
        hide(host, "rbd");
        assert_eq!(device(host, &volume), "nbd");
        host.assert_released();
        hide(host, "nbd");
        let said = host.mount_refused(&volume);
        assert!(said.contains("kernel module rbd is missing"), "{said}");
        assert!(said.contains("kernel module nbd is missing"), "{said}");
        assert!(said.contains("set mapper to fuse"), "{said}");
        host.run("modprobe -a fuse loop");
        host.daemon(&["--mapper", "fuse"]);
        assert_eq!(device(host, &volume), "loop");
        host.assert_released();
        show_all(host);
    });
}
