//! The ioctls that the children do, and the structures that they take.

#![allow(unsafe_code, reason = "an ioctl is a call with a pointer of its own meaning")]

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

/// `struct loop_info64` (linux/loop.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub(super) flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` (linux/loop.h).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct fstrim_range` (linux/fs.h).
#[repr(C)]
pub(super) struct TrimRange {
    start: u64,
    len: u64,
    min_len: u64,
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

mod raw {
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, super::LoopConfig);
    nix::ioctl_none_bad!(loop_clr_fd, 0x4C01);
    nix::ioctl_none_bad!(loop_set_capacity, 0x4C07);
    nix::ioctl_write_ptr_bad!(loop_set_status64, 0x4C04, super::LoopInfo);
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
    nix::ioctl_readwrite!(fifreeze, b'X', 119, i32);
    nix::ioctl_readwrite!(fithaw, b'X', 120, i32);
    nix::ioctl_readwrite!(fitrim, b'X', 121, super::TrimRange);
}

impl LoopInfo {
    pub(super) fn with_flags(flags: u32) -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// The number of a loop device that nobody uses yet.
pub(super) fn free_loop(control: &File) -> Result<u32, Errno> {
    // SAFETY: takes no argument.
    let number = unsafe { raw::loop_ctl_get_free(control.as_raw_fd()) }?;
    Ok(number.cast_unsigned())
}

/// Makes a loop device of a file in one step, so that no half-made one is ever seen.
pub(super) fn configure_loop(device: &File, file: &File, flags: u32) -> Result<(), Errno> {
    let config = LoopConfig {
        fd: descriptor(file.as_raw_fd()),
        block_size: 0,
        info: LoopInfo::with_flags(flags),
        reserved: [0; 8],
    };
    // SAFETY: the structure is the kernel's and lives through the call.
    unsafe { raw::loop_configure(device.as_raw_fd(), &raw const config) }.map(drop)
}

fn descriptor(fd: RawFd) -> u32 {
    fd.cast_unsigned()
}

/// Takes a loop device off its file, at once or when the last opener has gone.
pub(super) fn clear_loop(device: &File) -> Result<(), Errno> {
    // SAFETY: takes no argument.
    unsafe { raw::loop_clr_fd(device.as_raw_fd()) }.map(drop)
}

/// Sets the flags that can be set later (LO_FLAGS_AUTOCLEAR).
pub(super) fn set_loop_flags(device: &File, flags: u32) -> Result<(), Errno> {
    let info = LoopInfo::with_flags(flags);
    // SAFETY: the structure is the kernel's and lives through the call.
    unsafe { raw::loop_set_status64(device.as_raw_fd(), &raw const info) }.map(drop)
}

/// Lets a loop device take the size of its file.
pub(super) fn refresh_loop(device: &File) -> Result<(), Errno> {
    // SAFETY: takes no argument.
    unsafe { raw::loop_set_capacity(device.as_raw_fd()) }.map(drop)
}

/// The size of a block device in bytes.
pub(super) fn device_size(device: &File) -> Result<u64, Errno> {
    let mut size = 0;
    // SAFETY: the kernel writes one u64.
    unsafe { raw::blkgetsize64(device.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// Discards what the file system does not use, and says how many bytes.
pub(super) fn trim(folder: &File) -> Result<u64, Errno> {
    let mut range = TrimRange { start: 0, len: u64::MAX, min_len: 0 };
    // SAFETY: the structure is the kernel's and lives through the call.
    unsafe { raw::fitrim(folder.as_raw_fd(), &raw mut range) }?;
    Ok(range.len)
}

/// Writes out the file system, and lets every further write wait.
pub(super) fn freeze(folder: &File) -> Result<(), Errno> {
    let mut unused = 0;
    // SAFETY: the kernel neither reads nor writes the number.
    unsafe { raw::fifreeze(folder.as_raw_fd(), &raw mut unused) }.map(drop)
}

/// Lets the writes go on; `EINVAL` where they do.
pub(super) fn thaw(folder: &File) -> Result<(), Errno> {
    let mut unused = 0;
    // SAFETY: the kernel neither reads nor writes the number.
    unsafe { raw::fithaw(folder.as_raw_fd(), &raw mut unused) }.map(drop)
}
