//! Giving privileges up, for good.

#![allow(unsafe_code, reason = "the calls that nix has no functions for")]

use std::io;

use nix::errno::Errno;
use nix::sys::prctl;

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h): two words for each set.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`; process 0 is the calling thread.
#[repr(C)]
struct Header {
    version: u32,
    process: i32,
}

/// `struct __user_cap_data_struct`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Neither this thread nor whatever it starts gets a capability again that it gives up, whichever
/// program it becomes. To be called while the process has one thread.
pub(crate) fn gain_no_more() -> io::Result<()> {
    prctl::set_no_new_privs()?;
    for capability in 0..64 {
        // SAFETY: the call reads two numbers.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            // There are no more of them; or it may not be, and then has nothing that counts.
            Err(Errno::EINVAL | Errno::EPERM) => break,
            result => result.map(drop)?,
        }
    }
    Ok(())
}

/// This thread has no capability from here on. To be called while the process has one thread.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let (header, none) = (Header { version: VERSION, process: 0 }, [Sets::default(); 2]);
    // SAFETY: the call reads a header and, by its version, two sets, all of which outlive it.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Ok(Errno::result(set).map(drop)?)
}
