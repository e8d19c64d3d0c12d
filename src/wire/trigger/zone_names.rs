//! Suggests what an unknown time zone probably means. Never suggests a zone whose clocks differ from what the text
//! says: an offset is explained instead.

use super::zones;

/// Abbreviations that are not in the database, with their meaning, their offset in minutes, and a place that has them
/// in part of the year.
const ABBREVIATIONS: &[(&str, &str, i32, &str)] = &[
    ("CEST", "Central European Summer Time", 120, "Europe/Berlin"),
    ("EEST", "Eastern European Summer Time", 180, "Europe/Athens"),
    ("WEST", "Western European Summer Time", 60, "Europe/Lisbon"),
    ("MSK", "Moscow Time", 180, "Europe/Moscow"),
    ("TRT", "Turkey Time", 180, "Europe/Istanbul"),
    ("EDT", "Eastern Daylight Time", -240, "America/New_York"),
    ("CDT", "Central Daylight Time", -300, "America/Chicago"),
    ("MDT", "Mountain Daylight Time", -360, "America/Denver"),
    ("PDT", "Pacific Daylight Time", -420, "America/Los_Angeles"),
    ("PST", "Pacific Standard Time", -480, "America/Los_Angeles"),
    ("AKST", "Alaska Standard Time", -540, "America/Anchorage"),
    ("AKDT", "Alaska Daylight Time", -480, "America/Anchorage"),
    ("NST", "Newfoundland Standard Time", -210, "America/St_Johns"),
    ("NDT", "Newfoundland Daylight Time", -150, "America/St_Johns"),
    ("BRT", "Brasilia Time", -180, "America/Sao_Paulo"),
    ("JST", "Japan Standard Time", 540, "Asia/Tokyo"),
    ("KST", "Korea Standard Time", 540, "Asia/Seoul"),
    ("HKT", "Hong Kong Time", 480, "Asia/Hong_Kong"),
    ("SGT", "Singapore Time", 480, "Asia/Singapore"),
    ("PKT", "Pakistan Standard Time", 300, "Asia/Karachi"),
    ("WIB", "Western Indonesia Time", 420, "Asia/Jakarta"),
    ("SAST", "South African Standard Time", 120, "Africa/Johannesburg"),
    ("EAT", "East Africa Time", 180, "Africa/Nairobi"),
    ("WAT", "West Africa Time", 60, "Africa/Lagos"),
    ("CAT", "Central Africa Time", 120, "Africa/Maputo"),
    ("AEST", "Australian Eastern Standard Time", 600, "Australia/Sydney"),
    ("AEDT", "Australian Eastern Daylight Time", 660, "Australia/Sydney"),
    ("ACST", "Australian Central Standard Time", 570, "Australia/Adelaide"),
    ("AWST", "Australian Western Standard Time", 480, "Australia/Perth"),
    ("NZST", "New Zealand Standard Time", 720, "Pacific/Auckland"),
    ("NZDT", "New Zealand Daylight Time", 780, "Pacific/Auckland"),
];

/// Abbreviations with several meanings.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("BST", "British Summer Time or Bangladesh Standard Time"),
    ("IST", "India, Israel or Irish Standard Time"),
    ("CST", "Central Standard Time in America, China Standard Time or Cuba Standard Time"),
    ("AST", "Atlantic or Arabia Standard Time"),
    ("ADT", "Atlantic or Arabia Daylight Time"),
    ("GST", "Gulf or South Georgia Standard Time"),
    ("SST", "Samoa or Singapore Standard Time"),
    ("AMT", "Amazon or Armenia Time"),
    ("ECT", "Ecuador or Eastern Caribbean Time"),
    ("WST", "Western Standard Time in Australia or Samoa"),
];

/// Zones without daylight saving time for offsets that are not whole hours, in minutes.
const PARTS_OF_HOURS: &[(i32, &str)] = &[
    (-570, "Pacific/Marquesas"),
    (210, "Asia/Tehran"),
    (270, "Asia/Kabul"),
    (330, "Asia/Kolkata"),
    (345, "Asia/Kathmandu"),
    (390, "Asia/Yangon"),
    (525, "Australia/Eucla"),
    (570, "Australia/Darwin"),
];

/// Cities that users write and that the database has under another name.
const CITIES: &[(&str, &str)] = &[
    ("Beijing", "Asia/Shanghai"),
    ("Mumbai", "Asia/Kolkata"),
    ("Delhi", "Asia/Kolkata"),
    ("Bangalore", "Asia/Kolkata"),
    ("San_Francisco", "America/Los_Angeles"),
    ("Seattle", "America/Los_Angeles"),
    ("Washington", "America/New_York"),
    ("Munich", "Europe/Berlin"),
    ("Frankfurt", "Europe/Berlin"),
    ("Hamburg", "Europe/Berlin"),
    ("Milan", "Europe/Rome"),
    ("Barcelona", "Europe/Madrid"),
    ("Geneva", "Europe/Zurich"),
];

/// Returns what to write instead of `name`, which is not a zone.
pub(super) fn advice(name: &str) -> String {
    const EXAMPLES: &str = "write a name of the IANA database, e.g. \"Europe/Berlin\" or \"Etc/UTC\"";
    if let Some(same) = zones::names().find(|known| known.eq_ignore_ascii_case(name)) {
        return format!("write {same:?}");
    }
    if let Some(minutes) = offset(name) {
        return explained(minutes);
    }
    let upper = name.to_ascii_uppercase();
    if let Some((_, meaning, minutes, place)) = ABBREVIATIONS.iter().find(|(known, ..)| *known == upper) {
        let fixed = fixed(*minutes).map(|zone| format!(", or {zone:?} for that offset all year")).unwrap_or_default();
        return format!("{upper} is {meaning} (UTC{}): write a place such as {place:?}{fixed}", signed(*minutes));
    }
    if let Some((_, meanings)) = AMBIGUOUS.iter().find(|(known, _)| *known == upper) {
        return format!("{upper} can be {meanings}: write a place such as \"Europe/London\"");
    }
    meant(name).map_or_else(|| EXAMPLES.to_owned(), |zone| format!("write {zone:?}"))
}

/// Returns the minutes east of Greenwich of a text such as `UTC-5`, `GMT+05:30`, `+0200` or `Z`.
fn offset(name: &str) -> Option<i32> {
    let upper: String = name.to_ascii_uppercase().chars().filter(|c| !c.is_whitespace() && *c != '_').collect();
    let text = upper.strip_prefix("ETC/").unwrap_or(&upper);
    if text == "Z" {
        return Some(0);
    }
    let text = ["UTC", "GMT"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let text = text.replace('\u{2212}', "-");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits.to_owned()),
        None => (1, text.strip_prefix('+')?.to_owned()),
    };
    let (hours, minutes) = match digits.split_once([':', '.']) {
        Some((hours, minutes)) => (hours.to_owned(), minutes.to_owned()),
        None if digits.len() > 2 => {
            let (hours, minutes) = digits.split_at_checked(digits.len() - 2)?;
            (hours.to_owned(), minutes.to_owned())
        }
        None => (digits, "00".to_owned()),
    };
    let is_number =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(&hours, 2) || !is_number(&minutes, 2) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Returns the zone that has this offset all year, if there is one.
fn fixed(minutes: i32) -> Option<String> {
    match (minutes / 60, minutes % 60) {
        (0, 0) => Some("Etc/UTC".to_owned()),
        // The signs in these names follow POSIX: west is positive.
        (hours @ 1..=14, 0) => Some(format!("Etc/GMT-{hours}")),
        (hours @ -12..=-1, 0) => Some(format!("Etc/GMT+{}", -hours)),
        _ => PARTS_OF_HOURS.iter().find(|(known, _)| *known == minutes).map(|(_, zone)| (*zone).to_owned()),
    }
}

fn explained(minutes: i32) -> String {
    match fixed(minutes) {
        Some(zone) if zone.starts_with("Etc/GMT") => format!(
            "{zone} is UTC{}, as the signs of these names are turned round: write {zone:?}, or a place whose clocks change",
            signed(minutes)
        ),
        Some(zone) => format!("write {zone:?}, which is UTC{}", signed(minutes)),
        None => format!("no zone is UTC{} all year: write a place, e.g. \"Europe/Berlin\"", signed(minutes)),
    }
}

/// Formats an offset as `+5:30`; empty for zero.
fn signed(minutes: i32) -> String {
    let (sign, size) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
    match (size / 60, size % 60) {
        (0, 0) => String::new(),
        (hours, 0) => format!("{sign}{hours}"),
        (hours, minutes) => format!("{sign}{hours}:{minutes:02}"),
    }
}

/// Finds a place that is misspelt, or written without its region or with a wrong one.
fn meant(name: &str) -> Option<&'static str> {
    if name.contains(|c: char| c.is_ascii_digit() || matches!(c, '+' | ':')) {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '-'], "_");
    let city = plain(name.rsplit('/').next().unwrap_or(name));
    if city.len() >= 4 {
        if let Some((_, zone)) = CITIES.iter().find(|(known, _)| plain(known) == city) {
            return Some(zone);
        }
        let places = zones::names().filter(|zone| zone.contains('/'));
        let same: Vec<&str> =
            places.filter(|zone| zone.rsplit('/').next().map(plain).as_deref() == Some(&city)).collect();
        if let Some(zone) = one_clock(&same) {
            return Some(zone);
        }
    }
    // Short words without a region are abbreviations, each of which differs from another one by a letter.
    let mistakes = match name.len() {
        ..6 => return None,
        6..12 => 1,
        _ => 2,
    };
    let name = plain(name);
    let near: Vec<(usize, &str)> = zones::names()
        .filter(|zone| zone.len().abs_diff(name.len()) <= mistakes)
        .map(|zone| (crate::spelling::distance(&name, &plain(zone)), zone))
        .filter(|(distance, _)| *distance <= mistakes)
        .collect();
    let least = near.iter().map(|(distance, _)| *distance).min()?;
    let nearest: Vec<&str> = near.iter().filter(|(distance, _)| *distance == least).map(|(_, zone)| *zone).collect();
    one_clock(&nearest)
}

/// Returns the first of these zones if the clocks of all are the same.
fn one_clock(names: &[&'static str]) -> Option<&'static str> {
    let first = names.first()?;
    names.iter().all(|name| zones::clock(name) == zones::clock(first)).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_explained_and_never_turned_round() {
        for (name, words) in [
            ("UTC-5", "Etc/GMT+5 is UTC-5, as the signs of these names are turned round: write \"Etc/GMT+5\""),
            ("GMT+2", "write \"Etc/GMT-2\""),
            ("+02:00", "Etc/GMT-2 is UTC+2"),
            ("-0800", "Etc/GMT+8 is UTC-8"),
            ("utc +1", "Etc/GMT-1 is UTC+1"),
            ("Etc/UTC+3", "Etc/GMT-3 is UTC+3"),
            ("UTC+05:30", "write \"Asia/Kolkata\", which is UTC+5:30"),
            ("+5:45", "Asia/Kathmandu"),
            ("UTC+0", "write \"Etc/UTC\", which is UTC"),
            ("Z", "Etc/UTC"),
            ("UTC-3:30", "no zone is UTC-3:30 all year"),
            ("UTC+14", "Etc/GMT-14"),
            ("UTC+15", "a name of the IANA database"),
            (
                "CEST",
                "CEST is Central European Summer Time (UTC+2): write a place such as \"Europe/Berlin\", or \"Etc/GMT-2\"",
            ),
            ("pst", "PST is Pacific Standard Time (UTC-8): write a place such as \"America/Los_Angeles\""),
            ("IST", "IST can be India, Israel or Irish Standard Time"),
            ("utc", "write \"UTC\""),
            ("est5edt", "write \"EST5EDT\""),
            ("europe/berlin", "write \"Europe/Berlin\""),
            ("Europe/Berln", "write \"Europe/Berlin\""),
            ("Asia/Tokio", "write \"Asia/Tokyo\""),
            ("Berlin", "write \"Europe/Berlin\""),
            ("New York", "write \"America/New_York\""),
            ("Europe/New_York", "write \"America/New_York\""),
            ("Asia/Beijing", "write \"Asia/Shanghai\""),
            ("India", "a name of the IANA database"),
            ("UTX", "a name of the IANA database"),
            ("PST8PST", "a name of the IANA database"),
            ("Nowhere/At/All", "a name of the IANA database"),
            ("", "a name of the IANA database"),
            ("\u{2212}5", "Etc/GMT+5"),
            ("é", "a name of the IANA database"),
            ("+é1", "a name of the IANA database"),
        ] {
            assert!(zones::find(name).is_none(), "{name} is a zone");
            let advice = advice(name);
            assert!(advice.contains(words), "{name}: {advice}");
        }
        assert!(zones::find("EST5EDT").is_some());
    }

    /// Compares the tables with the database, at noon of each day of a year.
    #[test]
    fn what_is_proposed_has_the_offset_that_is_meant() {
        let days = || (0..366).map(|day| 1_798_761_600 + day * 86_400);
        let offsets = |zone: &str| -> Vec<i32> {
            let zone = zones::find(zone).unwrap_or_else(|| panic!("{zone} is no zone"));
            days().map(|second| zone.offset_at(second).0 / 60).collect()
        };
        for (name, _, minutes, place) in ABBREVIATIONS {
            assert!(zones::find(name).is_none(), "{name} is a zone");
            assert!(offsets(place).contains(minutes), "{name} in {place}");
        }
        for (name, _) in AMBIGUOUS {
            assert!(zones::find(name).is_none(), "{name} is a zone");
        }
        for (_, zone) in CITIES {
            assert!(zones::find(zone).is_some(), "{zone}");
        }
        for minutes in (-14 * 60..=14 * 60).step_by(15) {
            let text = if minutes == 0 { "UTC+0".to_owned() } else { format!("UTC{}", signed(minutes)) };
            assert_eq!(offset(&text), Some(minutes), "{text}");
            if let Some(zone) = fixed(minutes) {
                assert!(offsets(&zone).iter().all(|found| *found == minutes), "{text}: {zone}");
            }
        }
    }
}
