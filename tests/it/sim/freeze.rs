//! File systems of the simulated host that stand still, and the hooks around that.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::system::{
    AfterFailure, Freezing, Frozen, Hooks, Result, Stood, SystemErrorKind,
};

use super::host::{Kernel, SimHost};
use super::kernel::{failed, timed_out};

impl Freezing for SimHost {
    fn freeze(&self, at: &Path, limit: Duration, _: &Deadline) -> Result<Box<dyn Frozen>> {
        let step = format!("freeze {}", at.display());
        let mut kernel = self.running(&step)?;
        let minor = mounted(&kernel, at, &step)?;
        let Some(superblock) = kernel.filesystems.get(&minor) else {
            let text = "a file system of this type cannot be frozen";
            return Err(SystemErrorKind::Refused(text.to_owned()).during(step));
        };
        if superblock.frozen.is_some() {
            return Err(SystemErrorKind::Refused("it is frozen already".to_owned()).during(step));
        }
        if !kernel.write_out(minor, &self.cluster) {
            return Err(timed_out(step));
        }
        kernel.next_pid += 1;
        let number = kernel.next_pid;
        kernel.filesystems.get_mut(&minor).expect("it is mounted").frozen = Some(number);
        let kernel = self.shared_kernel();
        Ok(Box::new(SimFrozen { kernel, minor, number, since: Instant::now(), limit }))
    }

    fn thaw_left_over(&self, at: &Path, _: &Deadline) -> Result<bool> {
        let step = format!("thaw {}", at.display());
        let mut kernel = self.running(&step)?;
        let minor = mounted(&kernel, at, &step)?;
        Ok(kernel.filesystems.get_mut(&minor).is_some_and(|found| found.frozen.take().is_some()))
    }

    fn sync(&self, at: &Path, _: &Deadline) -> Result<()> {
        let step = format!("write out {}", at.display());
        let mut kernel = self.running(&step)?;
        let minor = mounted(&kernel, at, &step)?;
        if kernel.write_out(minor, &self.cluster) { Ok(()) } else { Err(timed_out(step)) }
    }
}

impl Hooks for SimHost {
    fn run_hooks(
        &self,
        folder: &Path,
        environment: &[(String, String)],
        _: Duration,
        _: AfterFailure,
        _: &Deadline,
    ) -> Result<usize> {
        let step = format!("run the hooks in {}", folder.display());
        let mut kernel = self.running(&step)?;
        kernel.hooks_run.push((folder.to_owned(), environment.to_vec()));
        let fails = kernel.failing_hooks.contains(folder);
        if fails { Err(failed(step, "10-hook", "it does not work")) } else { Ok(1) }
    }
}

fn mounted(kernel: &Kernel, at: &Path, step: &str) -> Result<u32> {
    let mount = kernel.mounts.iter().find(|mount| mount.target == at);
    let mount = mount.ok_or_else(|| failed(step, "open", "not mounted"))?;
    Ok(mount.number.minor)
}

/// A frozen file system. Its limit does not thaw it by itself: time only passes where a test waits,
/// and then it counts as thawed since.
#[derive(Debug)]
struct SimFrozen {
    kernel: Arc<Mutex<Kernel>>,
    minor: u32,
    number: u32,
    since: Instant,
    limit: Duration,
}

impl SimFrozen {
    /// Was it frozen by us until now?
    fn end(&self) -> bool {
        let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let superblock = kernel.filesystems.get_mut(&self.minor);
        let ours = superblock.filter(|found| found.frozen == Some(self.number));
        ours.is_some_and(|found| found.frozen.take().is_some())
    }
}

impl Frozen for SimFrozen {
    fn thaw(self: Box<Self>) -> Result<Stood> {
        let time = self.since.elapsed();
        Ok(Stood { whole: self.end() && time < self.limit, time })
    }
}

impl Drop for SimFrozen {
    fn drop(&mut self) {
        self.end();
    }
}
