//! Extended attributes of an open file.

#![allow(unsafe_code, reason = "nix has no fgetxattr")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// The longest value that is read: all that are asked for here are short.
const LONGEST: usize = 256;

/// The value of that name.
pub(super) fn get(file: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>, Errno> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let mut value = vec![0u8; LONGEST];
    // SAFETY: the name is a C string, and the kernel writes at most as many bytes as there are.
    let length = unsafe {
        libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    let length = Errno::result(length)?;
    value.truncate(usize::try_from(length).unwrap_or(0));
    Ok(value)
}
