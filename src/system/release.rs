//! The kernel's release, for what a kernel does not tell of itself.

/// The first two numbers of the release of this kernel, such as 6.1; 0.0 where it cannot be read.
pub(crate) fn of_kernel() -> (u32, u32) {
    parse(&std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

fn parse(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read() {
        assert_eq!(parse("6.1.0-18-amd64\n"), (6, 1));
        assert_eq!(parse("5.4"), (5, 4));
        assert_eq!(parse(""), (0, 0));
    }
}
