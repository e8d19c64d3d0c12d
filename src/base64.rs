//! Base64, both ways: kubeconfigs, Secrets and caBundles are written in it.

/// Standard base64 with padding; white space is skipped, since people wrap long values.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes().iter().filter(|b| !b.is_ascii_whitespace());
    let (mut out, mut bits, mut held, mut count, mut padding) = (Vec::new(), 0_u32, 0, 0, 0);
    for &byte in text {
        count += 1;
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (count % 4 == 0 && padding <= 2 && bits == 0).then_some(out)
}

/// Standard alphabet with padding, as Kubernetes writes byte fields.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for place in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(decode("Zm9v\n Zg==\n").as_deref(), Some(&b"foof"[..]));
        for bad in ["Z", "Zg", "Zg=", "Zg===", "Z===", "Zm=v", "Zh==", "Zm-_", "*"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
