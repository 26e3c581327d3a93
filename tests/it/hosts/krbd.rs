//! The mapper krbd, on the kernel that it is for.

use crate::engine::at_data;
use crate::support::machine::{Machine, on_one, on_two};

/// What sysfs says of every rbd device here, one word each.
fn devices(host: &Machine, field: &str) -> String {
    host.run(&format!("cat /sys/bus/rbd/devices/*/{field} 2>/dev/null || true"))
}

/// KiB of the file system at `/data`.
fn size(host: &Machine, container: &str) -> u64 {
    let size = host.docker().exec(container, "df -k /data | tail -n 1 | awk '{print $2}'");
    size.parse().expect("a number")
}

#[test]
fn a_volume_goes_from_one_kernel_to_the_other_and_never_is_on_both() {
    on_two(|one, other| {
        other.daemon(&["--busy-wait", "3s"]);
        let volume = one.fresh("v");
        one.tool(&["create", &volume, "-o", "size=64M"]);
        let container = one.fresh("c");
        one.docker().idle(&container, at_data!(volume));
        one.docker().exec(&container, "echo from one > /data/file; sync /data/file");

        // `auto` took krbd, as it should: exclusive, with a client of its own, in the namespace.
        let mounted = one.docker().exec(&container, "grep ' /data ' /proc/mounts");
        assert!(mounted.starts_with("/dev/rbd"), "{mounted}");
        assert_eq!(devices(one, "name"), volume);
        assert_eq!(devices(one, "pool_ns"), "docker");
        let config = devices(one, "config_info");
        assert!(config.contains("noshare") && config.contains("exclusive"), "{config}");
        let address = devices(one, "client_addr");
        assert!(address.starts_with("10.77.0.11:0/"), "{address}");
        let claim = &one.docker().inspect(&volume)["Status"]["holder"];
        assert_eq!((&claim["host"], &claim["address"]), (&"host1".into(), &address.clone().into()));

        let said = other.mount_refused(&volume);
        assert!(said.contains("in use on host host1 since"), "{said}");
        other.assert_released();

        one.docker().ok(&["rm", "--force", &container]);
        one.assert_released();
        assert_eq!(other.docker().script(at_data!(volume), "cat /data/file"), "from one");
        // An orderly move: nobody had to be fenced.
        let fenced = one.network().ceph(&["osd", "blocklist", "ls"]);
        assert!(!fenced.contains(&address), "{fenced}");
    });
}

#[test]
fn both_kernels_read_an_image_at_once() {
    on_two(|one, other| {
        let volume = one.volume(&[]);
        one.docker().script(at_data!(volume), "echo for all > /data/file");
        one.assert_released();
        let readable = one.fresh("ro");
        let image = format!("image=rbd/docker/{volume}");
        let create = ["volume", "create", "-d", "ceph", "-o", &image, "-o", "read-only", &readable];
        one.docker().ok(&create);
        let container = one.fresh("c");
        for host in [&*one, &*other] {
            host.docker().idle(&container, at_data!(readable));
            assert_eq!(host.docker().exec(&container, "cat /data/file"), "for all");
            assert_eq!(host.run("cat /sys/block/rbd*/ro"), "1");
        }
        let said = one.docker().refused(&["exec", &container, "touch", "/data/other"]);
        assert!(said.contains("Read-only file system"), "{said}");
        for host in [&*one, &*other] {
            host.docker().ok(&["rm", "--force", &container]);
            host.assert_released();
        }
    });
}

#[test]
fn a_volume_grows_between_two_mounts_and_gives_bytes_back() {
    on_one(|host| {
        let volume = host.volume(&["size=128M"]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        let before = size(host, &container);
        // With `exclusive` the kernel keeps the lock, which whoever resizes would need.
        let refused = host.try_tool(&["resize", &volume, "192M"]);
        assert_eq!(refused.status, 4, "{refused:?}");
        assert!(refused.err.contains("stop its containers, resize it"), "{refused:?}");
        host.docker().ok(&["stop", &container]);
        host.assert_released();
        host.tool(&["resize", &volume, "192M"]);
        host.docker().ok(&["start", &container]);
        let after = size(host, &container);
        assert!(after > before + 50 * 1024, "{before} KiB to {after} KiB");

        host.docker().exec(&container, "dd if=/dev/urandom of=/data/big bs=1M count=40; sync");
        let full = host.network().used(&volume);
        assert!(full > 40 << 20, "{full}");
        host.docker().exec(&container, "rm /data/big; sync");
        host.tool(&["trim", &volume]);
        let trimmed = host.network().used(&volume);
        assert!(trimmed + (32 << 20) < full, "{full} before and {trimmed} after");
    });
}

#[test]
fn an_image_that_the_kernel_cannot_carry_is_refused_with_the_advice() {
    on_one(|host| {
        let volume = host.volume(&[]);
        host.network().rbd(&["feature", "enable", &volume, "journaling"]);
        let said = host.mount_refused(&volume);
        let advice = format!("rbd feature disable rbd/docker/{volume} journaling");
        assert!(
            said.contains("krbd on this host cannot carry") && said.contains(&advice),
            "{said}"
        );
        host.assert_released();
        host.network().rbd(&["feature", "disable", &volume, "journaling"]);
        host.docker().script(at_data!(volume), "touch /data/file");
    });
}
