//! Numbers as Kubernetes quantities, in milli units, which is the precision of the HPA controller.

/// The HPA controller multiplies by 1,000 in 64 bits; larger values would wrap around there.
pub const VALUE_MAX: f64 = 9_223_372_036_854_775.0;

/// Returns a metric value in milli units: rounded, negatives and NaN as 0, and at most [`VALUE_MAX`], so that the HPA
/// controller can always represent it.
#[must_use]
pub fn milli(value: f64) -> i64 {
    if value.is_nan() || value <= 0.0 {
        return 0;
    }
    // Fits after the cap: VALUE_MAX × 1000 is below i64::MAX by less than 1,000.
    #[expect(clippy::cast_possible_truncation)]
    let milli = (value.min(VALUE_MAX) * 1000.0).round() as i64;
    milli.min(i64::MAX / 1000 * 1000)
}

/// Canonical text, the largest suffix that leaves an integer, as Kubernetes itself prints it: `500`, `2500m`, `5k`,
/// `0`.
#[must_use]
pub fn text(milli: i128) -> String {
    if milli % 1000 != 0 {
        return format!("{milli}m");
    }
    let (mut value, mut suffix) = (milli / 1000, "");
    for larger in ["k", "M", "G", "T", "P", "E"] {
        if value == 0 || value % 1000 != 0 {
            break;
        }
        (value, suffix) = (value / 1000, larger);
    }
    format!("{value}{suffix}")
}

/// The shorter of [`text`] and the binary notation: `200Mi` for memory, `500m` or `128k` for the rest.
#[must_use]
pub fn short_text(milli: i128) -> String {
    let decimal = text(milli);
    let (mut value, mut suffix) = (milli / 1000, "");
    for larger in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if milli % 1000 != 0 || value == 0 || value % 1024 != 0 {
            break;
        }
        (value, suffix) = (value / 1024, larger);
    }
    let binary = format!("{value}{suffix}");
    if !suffix.is_empty() && binary.len() < decimal.len() { binary } else { decimal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_printed_as_it_is_written() {
        for (milli, expected) in [
            (500, "500m"),
            (1_000, "1"),
            (209_715_200_000, "200Mi"),
            (1_073_741_824_000, "1Gi"),
            (1_572_864_000, "1536Ki"),
            (200_000_000_000, "200M"),
            (128_000_000, "128k"),
            (1_024_500, "1024500m"),
            (0, "0"),
        ] {
            assert_eq!(short_text(milli), expected);
        }
    }

    #[test]
    fn values_become_text_the_hpa_can_carry() {
        for (value, expected) in [
            (0.0, "0"),
            (0.5, "500m"),
            (0.0004, "0"),
            (0.0005, "1m"),
            (1.0, "1"),
            (1.5, "1500m"),
            (1000.0, "1k"),
            (1500.0, "1500"),
            (2.5e6, "2500k"),
            (1e9, "1G"),
            (100.1234, "100123m"),
            (-3.0, "0"),
            (-0.0, "0"),
            (f64::NAN, "0"),
            (f64::NEG_INFINITY, "0"),
            (f64::INFINITY, "9223372036854775"),
            (2e16, "9223372036854775"),
            (1e300, "9223372036854775"),
            (f64::MIN_POSITIVE, "0"),
        ] {
            assert_eq!(text(milli(value).into()), expected, "{value}");
        }
    }

    #[test]
    fn more_is_never_less() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let exponent = random.f64() * 40.0 - 10.0;
            let (a, b) = (10f64.powf(exponent), 10f64.powf(exponent) * (1.0 + random.f64()));
            assert!(milli(a) <= milli(b), "{a} {b}");
            assert!(milli(b) <= 9_223_372_036_854_775_000);
        }
    }
}
