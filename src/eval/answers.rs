//! Whether each test image was named right, as results keep it: a bit each, eight of them in two
//! hexadecimal digits, the first one lowest.

/// Bits as digits.
pub fn to_digits(right: &[bool]) -> String {
    let byte = |bits: &[bool]| {
        let byte = bits.iter().enumerate().fold(0u8, |byte, (i, bit)| byte | u8::from(*bit) << i);
        format!("{byte:02x}")
    };
    right.chunks(8).map(byte).collect()
}

/// So many bits from digits; none where these are others.
pub fn from_digits(digits: &str, count: usize) -> Option<Vec<bool>> {
    let byte = |i: usize| u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..count.div_ceil(8)).map(byte).collect();
    let bytes = bytes.filter(|_| digits.len() == 2 * count.div_ceil(8))?;
    Some((0..count).map(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back() {
        let mut right = vec![false; 9];
        [0, 3, 8].iter().for_each(|i| right[*i] = true);
        assert_eq!(to_digits(&right), "0901");
        assert_eq!(from_digits("0901", 9), Some(right));
        assert_eq!(
            (from_digits("09", 9), from_digits("zz", 8), from_digits("é", 8)),
            (None, None, None)
        );
        assert_eq!(from_digits("", 0), Some(Vec::new()));
    }
}
