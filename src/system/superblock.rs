//! The superblock of ext4: can the file system be mounted as it is?
//!
//! `e2fsck -p` decides by the superblock whether it looks any further, and `resize2fs` by the
//! superblock whether there is anything to do. Both are slow to start, and each reads the device
//! anew. So the superblock is read here, once; whatever is not certain is left to the programs.

/// How much of a device is needed to judge.
pub(super) const LENGTH: usize = START + SIZE;

const START: usize = 1024;
const SIZE: usize = 1024;
const CHECKSUM: usize = 0x3FC;

const MAGIC: u16 = 0xEF53;
/// `s_state`: unmounted cleanly; and neither errors nor orphans.
const CLEAN: u16 = 1;
/// `s_feature_incompat`: blocks are counted in 64 bits.
const SIXTY_FOUR_BIT: u32 = 0x80;
/// `s_feature_incompat`: the journal is to be replayed.
const TO_REPLAY: u32 = 0x4;
/// `s_feature_incompat`: that, or the device is another's journal.
const NOT_AS_IT_IS: u32 = TO_REPLAY | 0x8;
/// `s_feature_ro_compat`: the superblock has a checksum.
const CHECKSUMS: u32 = 0x400;
/// `s_feature_ro_compat`: the file of orphans holds some.
const ORPHANS: u32 = 0x1_0000;

/// Is it an ext4 that was unmounted cleanly, has no errors, is due for no check and fills a device
/// of that size? `start` is the first [`LENGTH`] bytes of the device.
pub(super) fn is_sound_ext4(start: &[u8], device: u64) -> bool {
    let superblock: Option<&[u8; SIZE]> = start.get(START..).and_then(<[u8]>::first_chunk);
    superblock.is_some_and(|bytes| {
        let superblock = Superblock(bytes);
        superblock.is_whole() && superblock.is_clean() && superblock.fills(device)
    })
}

/// Is it an ext4 whose journal has to be replayed before its device is as it was written?
pub(super) fn needs_replay(start: &[u8]) -> bool {
    let superblock: Option<&[u8; SIZE]> = start.get(START..).and_then(<[u8]>::first_chunk);
    superblock.is_some_and(|bytes| {
        let superblock = Superblock(bytes);
        superblock.u16(0x38) == MAGIC && superblock.u32(0x60) & TO_REPLAY != 0
    })
}

/// The bytes, by `struct ext4_super_block`.
struct Superblock<'a>(&'a [u8; SIZE]);

impl Superblock<'_> {
    fn is_whole(&self) -> bool {
        let known = self.u16(0x38) == MAGIC && self.u32(0x64) & CHECKSUMS != 0;
        known && self.u32(CHECKSUM) == crc32c(&self.0[..CHECKSUM])
    }

    /// As `e2fsck -p` sees it; one that is checked by the calendar is always left to it.
    fn is_clean(&self) -> bool {
        let (mounts, most) = (self.u16(0x34), self.u16(0x36).cast_signed());
        let check_is_due = most > 0 && mounts >= most.unsigned_abs();
        let (interval, orphan, errors) = (self.u32(0x44), self.u32(0xE8), self.u32(0x194));
        self.u16(0x3A) == CLEAN
            && self.u32(0x60) & NOT_AS_IT_IS == 0
            && self.u32(0x64) & ORPHANS == 0
            && !check_is_due
            && interval == 0
            && orphan == 0
            && errors == 0
    }

    /// Is there neither room to grow nor too little room?
    fn fills(&self, device: u64) -> bool {
        let high = if self.u32(0x60) & SIXTY_FOUR_BIT == 0 { 0 } else { self.u32(0x150) };
        let blocks = u64::from(high) << 32 | u64::from(self.u32(0x4));
        let block = 1024_u64.checked_shl(self.u32(0x18)).filter(|block| *block <= 1 << 16);
        block.is_some_and(|block| device / block == blocks)
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }
}

/// CRC-32C as ext4 has it: begun with all ones, and not inverted at its end.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carried = if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            crc >> 1 ^ carried
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: u64 = 1000 * 4096;

    /// A clean file system of 1000 blocks of 4 KiB, changed by `change`, with the right checksum.
    fn device(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut start = vec![0; LENGTH];
        let superblock = &mut start[START..];
        let mut set = |at: usize, value: u32| {
            superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        set(0x4, 1000);
        set(0x18, 2);
        set(0x34, 0xFFFF_0001);
        set(0x38, u32::from(CLEAN) << 16 | u32::from(MAGIC));
        set(0x4C, 1);
        set(0x60, 0x2C2);
        set(0x64, CHECKSUMS | 0x6B);
        change(superblock);
        let checksum = crc32c(&superblock[..CHECKSUM]);
        superblock[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        start
    }

    #[test]
    fn the_checksum_is_that_of_castagnoli() {
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_clean_file_system_that_fills_its_device_is_sound() {
        assert!(is_sound_ext4(&device(|_| ()), DEVICE));
        assert!(is_sound_ext4(&device(|_| ()), DEVICE + 4095), "no room for a block more");
        assert!(is_sound_ext4(&device(|bytes| bytes[0x34] = 9), DEVICE), "checked at no mount");
    }

    #[test]
    fn what_needs_a_look_is_not_sound() {
        type Change = fn(&mut [u8]);
        let cases: [(&str, Change); 12] = [
            ("no ext4", |bytes| bytes[0x38] = 0),
            ("no checksum", |bytes| bytes[0x65] = 0),
            ("not unmounted", |bytes| bytes[0x3A] = 0),
            ("errors", |bytes| bytes[0x3A] = 3),
            ("orphans on their way", |bytes| bytes[0x3A] = 5),
            ("a journal to replay", |bytes| bytes[0x60] |= 4),
            ("a journal of another", |bytes| bytes[0x60] |= 8),
            ("orphans in their file", |bytes| bytes[0x66] = 1),
            ("orphans", |bytes| bytes[0xE8] = 12),
            ("an error that the kernel has seen", |bytes| bytes[0x194] = 1),
            ("checked every 20 mounts", |bytes| bytes[0x34..0x38].copy_from_slice(&[20, 0, 20, 0])),
            ("checked every month", |bytes| bytes[0x44] = 1),
        ];
        for (what, change) in cases {
            assert!(!is_sound_ext4(&device(change), DEVICE), "{what}");
        }
        let mut broken = device(|_| ());
        broken[START + 0x80] ^= 1;
        assert!(!is_sound_ext4(&broken, DEVICE), "the checksum is another's");
        assert!(!is_sound_ext4(&broken[..LENGTH - 1], DEVICE), "too short");
    }

    #[test]
    fn a_journal_to_replay_is_seen() {
        assert!(needs_replay(&device(|bytes| bytes[0x60] |= 4)));
        assert!(!needs_replay(&device(|_| ())));
        assert!(!needs_replay(&device(|bytes| {
            bytes[0x60] |= 4;
            bytes[0x38] = 0;
        })));
        assert!(!needs_replay(&[0xFF; LENGTH - 1]));
    }

    #[test]
    fn another_size_than_the_devices_is_not_sound() {
        for size in [DEVICE - 1, DEVICE + 4096, 2 * DEVICE, 0] {
            assert!(!is_sound_ext4(&device(|_| ()), size), "{size}");
        }
        assert!(!is_sound_ext4(&device(|bytes| bytes[0x150] = 1), DEVICE), "64 bits of blocks");
        assert!(!is_sound_ext4(&device(|bytes| bytes[0x18] = 64), DEVICE), "blocks without end");
    }
}
