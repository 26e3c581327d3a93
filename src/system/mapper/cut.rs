//! Taking a device from under its users, and making sure that a client is gone.
//!
//! For a host whose client was fenced: an orderly unmap would wait for users that may never let go.
//! What is cut off fails its users' IO, and is collected by an orderly unmap when they are gone.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::{KindResult, krbd};
use crate::deadline::Deadline;
use crate::system::command::io;
use crate::system::kernel::Call;
use crate::system::linux::LinuxSystem;
use crate::system::{MappedDevice, SystemErrorKind, process};
use crate::volume::MapperKind;

/// Where a kernel client is shown for as long as anything of it is left, also an open file of a
/// device that is gone.
const CLIENTS: &str = "/sys/kernel/debug/ceph";

/// The programs that are clients of their own.
const PROGRAMS: [&str; 3] = ["rbd-nbd", "rbd-fuse", "ceph-fuse"];
/// Where the kernel shows that it has a client of Ceph at all.
const CLIENT_MODULE: &str = "/sys/module/libceph";

impl LinuxSystem {
    pub(super) fn cut(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        match (device.mapper, device.process) {
            (MapperKind::Krbd, _) => self.cut_krbd(device, deadline),
            (MapperKind::Nbd | MapperKind::Fuse, None) => Ok(()),
            (MapperKind::Nbd | MapperKind::Fuse, Some(process)) => {
                process.signal(Signal::SIGKILL);
                if process.wait_for_end(deadline) {
                    return Ok(());
                }
                Err(SystemErrorKind::Timeout { after: deadline.left() })
            }
        }
    }

    /// By sysfs: `rbd unmap` would wait for udev, and for the IO that cannot be done.
    fn cut_krbd(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        let seen = krbd::number_of_client(device)?;
        let Some(number) = seen else { return Ok(()) };
        let (path, text) = (krbd::one_of(krbd::REMOVE), format!("{number} force"));
        self.kernel().call(&Call::WriteSysfs { path, text }, deadline)
    }

    /// Is nothing left of that client? In doubt (the kernel's clients cannot be seen, a program that
    /// is a client runs) it is not gone.
    pub(super) fn client_is_gone(&self, address: &str) -> KindResult<bool> {
        let mut programs = process::all().map_err(io(Path::new("/proc")))?;
        let others = self.other_clients(address)?;
        let may_be_it =
            |pid: u32| !others.contains(&pid) && PROGRAMS.contains(&process::name(pid).as_str());
        if programs.any(may_be_it) {
            return Ok(false);
        }
        if krbd::clients()?.iter().any(|client| client == address) {
            return Ok(false);
        }
        if ![krbd::BUS, CLIENT_MODULE, CLIENTS].iter().any(|path| Path::new(path).is_dir()) {
            return Ok(true);
        }
        Ok(kernel_clients(Path::new(CLIENTS)).is_some_and(|all| !all.contains(address)))
    }
}

impl LinuxSystem {
    /// The processes that are known to be clients of other addresses: those of CephFS folders.
    fn other_clients(&self, address: &str) -> KindResult<Vec<u32>> {
        let folders = self.found_folders()?;
        let clients = folders.iter().filter_map(|found| found.fuse_client());
        let others = clients.filter(|(_, of)| of.is_some_and(|of| of != address));
        Ok(others.map(|(process, _)| process.pid).collect())
    }
}

/// What the kernel shows of its clients; `None` where it shows nothing.
fn kernel_clients(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let status = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).ok();
    entries.flatten().map(status).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_not_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(kernel_clients(&folder.path().join("missing")), None);
        assert_eq!(kernel_clients(folder.path()), Some(String::new()));
        let client = folder.path().join("8c65d9b9.client4123");
        fs::create_dir(&client).expect("a folder");
        assert_eq!(kernel_clients(folder.path()), None, "a client without a status");
        #[expect(clippy::disallowed_methods, reason = "a fixture")]
        fs::write(client.join("status"), "instance: client.4123 (3)10.77.0.11:0/318\n")
            .expect("written");
        let shown = kernel_clients(folder.path()).expect("shown");
        assert!(shown.contains("10.77.0.11:0/318"));
    }
}
