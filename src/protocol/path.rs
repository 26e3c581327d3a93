//! Percent-encoding, for names in the paths of the admin API.

/// `text` as one segment of a path: all but unreserved characters are encoded.
///
/// A lone `.` or `..` stays as it is: both are refused as names, and no client of ours folds them.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The text of an encoded segment; `None` where an escape is broken or the bytes are no UTF-8.
pub(crate) fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        bytes.push(16 * hex_digit(digits[0])? + hex_digit(digits[1])?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        for text in ["pgdata", "../x", "a/b", "a b", "ünï", "100%", "a\0b", "?&=#"] {
            let encoded = encode(text);
            assert!(encoded.is_ascii() && !encoded.contains(['/', ' ', '?']), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(text));
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for segment in ["%", "%4", "%zz", "a%2", "%+1", "%ff"] {
            assert_eq!(decode(segment), None, "{segment}");
        }
    }
}
