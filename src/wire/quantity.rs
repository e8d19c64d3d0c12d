//! Reads and writes Kubernetes quantities as milli units.
//!
//! The HPA controller compares in milli units, so `1`, `1000m` and `1.000` are equal here. Like the API server, this
//! must round a rest below a milli unit up.

/// Largest value; the API server also limits quantities, to 2^63-1 units. Two values of 10^27 milli units can still be
/// multiplied within an `i128`.
const MILLI_MAX: i128 = 1_000_000_000_000_000_000_000_000_000;

/// Returns a quantity in milli units; `None` if the text is not a quantity.
#[must_use]
pub fn parse_milli(text: &str) -> Option<i128> {
    parse(text, 3)
}

/// Returns the canonical text of a quantity, to the nano unit that the API server keeps; `None` if it is not one.
/// `0.1`, `100m` and `1e-1` become `100m`.
#[must_use]
pub fn canonical(text: &str) -> Option<String> {
    let mut value = parse(text, 9)?;
    let mut suffix = "n";
    for larger in ["u", "m", "", "k", "M", "G", "T", "P", "E"] {
        if value == 0 {
            return Some("0".to_owned());
        }
        if value % 1000 != 0 {
            break;
        }
        (value, suffix) = (value / 1000, larger);
    }
    Some(format!("{value}{suffix}"))
}

/// Returns the quantity in units of 10^-`places`, rounded up.
fn parse(text: &str, places: u8) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let scale = Scale::from_suffix(suffix)?;
    let digits = format!("{whole}{fraction}");
    let units = scale.units(digits.trim_start_matches('0'), fraction.len(), i32::from(places))?;
    Some(if negative { -units } else { units })
}

/// The factor of a suffix.
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of 1024.
    Binary(u32),
}

impl Scale {
    fn from_suffix(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "n" => Self::Ten(-9),
            "u" => Self::Ten(-6),
            "m" => Self::Ten(-3),
            "" => Self::Ten(0),
            "k" => Self::Ten(3),
            "M" => Self::Ten(6),
            "G" => Self::Ten(9),
            "T" => Self::Ten(12),
            "P" => Self::Ten(15),
            "E" => Self::Ten(18),
            "Ki" => Self::Binary(1),
            "Mi" => Self::Binary(2),
            "Gi" => Self::Binary(3),
            "Ti" => Self::Binary(4),
            "Pi" => Self::Binary(5),
            "Ei" => Self::Binary(6),
            exponent => {
                let digits = exponent.strip_prefix(['e', 'E'])?;
                let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
                if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                Self::Ten(digits.parse().ok()?)
            }
        })
    }

    /// Returns `digits` × 10^-`decimals` × scale × 10^`places`, rounded up and limited. `digits` has no leading zero.
    fn units(&self, digits: &str, decimals: usize, places: i32) -> Option<i128> {
        if digits.is_empty() {
            return Some(0);
        }
        let decimals = i32::try_from(decimals).ok()?;
        let (power, lifted) = match self {
            Self::Ten(power) => (*power, None),
            Self::Binary(power) => (0, Some(times(digits, 1024_u64.pow(*power)))),
        };
        let digits = lifted.as_deref().unwrap_or(digits);
        let exponent = power.saturating_add(places).saturating_sub(decimals);
        let magnitude = i64::from(exponent) + i64::try_from(digits.len()).ok()?;
        let max = MILLI_MAX.checked_mul(10_i128.checked_pow(u32::try_from(places - 3).ok()?)?)?;
        if magnitude > i64::from(25 + places) {
            return Some(max);
        }
        // Only a positive rest is left, which counts as one unit.
        if magnitude < -25 {
            return Some(1);
        }
        // Digits that do not fit into 37 decimal digits only matter for rounding up.
        let kept = &digits[..digits.len().min(37)];
        let dropped = digits.len() - kept.len();
        let exponent = exponent.saturating_add(i32::try_from(dropped).ok()?);
        let rest = digits[kept.len()..].bytes().any(|b| b != b'0');
        let value = kept.parse::<i128>().ok()?;
        let units = if exponent >= 0 {
            let lifted = 10_i128.checked_pow(exponent.unsigned_abs()).and_then(|power| value.checked_mul(power));
            lifted.and_then(|units| units.checked_add(i128::from(rest)))
        } else {
            match 10_i128.checked_pow(exponent.unsigned_abs()) {
                Some(divisor) => Some(value / divisor + i128::from(value % divisor != 0 || rest)),
                None => Some(1),
            }
        };
        Some(units.unwrap_or(max).min(max))
    }
}

/// Multiplies a number of any length, so that none of its digits is lost. `factor` is at most 1024^6, so that a carry fits.
fn times(digits: &str, factor: u64) -> String {
    let mut reversed = Vec::with_capacity(digits.len() + 19);
    let mut carry = 0;
    for digit in digits.bytes().rev() {
        carry += u64::from(digit - b'0') * factor;
        reversed.push(carry % 10);
        carry /= 10;
    }
    while carry > 0 {
        reversed.push(carry % 10);
        carry /= 10;
    }
    reversed.into_iter().rev().filter_map(|digit| char::from_digit(u32::try_from(digit).ok()?, 10)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::quantity::text;

    #[test]
    fn reads_every_suffix() {
        for (text, milli) in [
            ("0", 0),
            ("75", 75_000),
            ("500m", 500),
            ("1.500", 1_500),
            ("100.500", 100_500),
            (".5", 500),
            ("5.", 5_000),
            ("-2", -2_000),
            ("+2", 2_000),
            ("13835058055282163712", 13_835_058_055_282_163_712_000),
            ("1n", 1),
            ("1000000n", 1),
            ("1000001n", 2),
            ("1500u", 2),
            ("1k", 1_000_000),
            ("1500k", 1_500_000_000),
            ("1M", 1_000_000_000),
            ("1G", 1_000_000_000_000),
            ("9300T", 9_300_000_000_000_000_000),
            ("1P", 1_000_000_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1Ki", 1_024_000),
            ("1.5Mi", 1_572_864_000),
            ("1Gi", 1_073_741_824_000),
            ("1Ti", 1_099_511_627_776_000),
            ("1Pi", 1_125_899_906_842_624_000),
            ("1Ei", 1_152_921_504_606_846_976_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("12e-3", 12),
            ("1e-4", 1),
            ("1e+2", 100_000),
            ("0.0001", 1),
            ("000.010", 10),
            ("1e999", MILLI_MAX),
            ("1e-999", 1),
            ("12345678901234567890123456789012345678901234567890", MILLI_MAX),
        ] {
            assert_eq!(parse_milli(text), Some(milli), "{text}");
        }
    }

    #[test]
    fn spellings_of_one_quantity_have_one_text() {
        for (texts, expected) in [
            (&["0.1", "100m", "1e-1", ".1", "+0.10", "100000u", "100000000n"][..], "100m"),
            (&["0", "0.0", "0m", "0k", "-0"], "0"),
            (&["0.0005", "500u", "5e-4"], "500u"),
            (&["0.0000000001", "1n"], "1n"),
            (&["1", "1000m", "1.000"], "1"),
            (&["1500", "1.5k", "1500000m"], "1500"),
            (&["1Ki", "1024"], "1024"),
            (&["-0.5", "-500m"], "-500m"),
            // Regression: of a binary suffix only 19 digits counted.
            (&["4000029.280008203907400065Gi"], "4294998735169415598495673n"),
        ] {
            for text in texts {
                assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
            }
        }
        assert_eq!(canonical("ten"), None);
        assert!(canonical("9999999999999999999Ei").is_some() && canonical("1e999").is_some());
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in [
            "",
            "-",
            ".",
            "abc",
            "1x",
            "1ki",
            "1K",
            "1mm",
            "1e",
            "1e+",
            "1.2.3",
            "--1",
            "1 ",
            " 1",
            "1e1.5",
            "NaN",
            "Inf",
            "m",
            "1e99999999999",
            "é",
        ] {
            assert_eq!(parse_milli(text), None, "{text:?}");
        }
    }

    #[test]
    fn writes_canonical_text() {
        for (milli, expected) in [
            (0, "0"),
            (1, "1m"),
            (500, "500m"),
            (1_000, "1"),
            (1_500, "1500m"),
            (75_000, "75"),
            (1_000_000, "1k"),
            (1_500_000, "1500"),
            (1_500_000_000, "1500k"),
            (1_000_000_000_000, "1G"),
            (9_300_000_000_000_000_000, "9300T"),
            (-2_000_000, "-2k"),
        ] {
            assert_eq!(text(milli), expected);
        }
    }

    #[test]
    fn text_and_back_is_the_same_value() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let milli = i128::from(random.i64(..)) / 10_i128.pow(random.u32(0..19)) * 10_i128.pow(random.u32(0..7));
            let text = text(milli);
            assert_eq!(parse_milli(&text), Some(milli), "{text}");
        }
    }

    #[test]
    fn no_text_panics_and_order_is_kept() {
        let mut random = fastrand::Rng::with_seed(11);
        let alphabet = b"0123456789.+-eEnumkMGTPi ";
        for _ in 0..50_000 {
            let length = random.usize(0..40);
            let text: String = (0..length).map(|_| char::from(alphabet[random.usize(0..alphabet.len())])).collect();
            if let Some(milli) = parse_milli(&text) {
                assert!(milli.abs() <= MILLI_MAX, "{text}");
            }
            // A further digit never makes a positive number smaller.
            let number = random.u64(..).to_string();
            let longer = format!("{number}1");
            for suffix in ["", "m", "k", "Mi", "e2", "n", "E"] {
                assert!(parse_milli(&format!("{longer}{suffix}")) >= parse_milli(&format!("{number}{suffix}")));
            }
        }
    }
}
