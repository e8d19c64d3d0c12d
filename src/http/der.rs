//! Reads the subject's common name and organisations, and the validity, out of a certificate.
//!
//! Pure: a walk over DER that knows only the way to these fields. It does not judge whether a certificate can be
//! trusted; `chain` does, and these values mean something only for a chain that it has accepted.

use std::fmt;

use jiff::civil::DateTime;

/// The subject of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// Empty if the subject has none.
    pub common_name: String,
    pub organisations: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DerError {
    /// A length that exceeds the enclosing field, or is not in its shortest form.
    Length,
    /// Another type than the standard prescribes.
    UnexpectedTag,
    /// A name in an encoding that can be read in more than one way.
    Text,
    /// Two common names: readers differ on which counts.
    SeveralCommonNames,
    Time,
}

impl fmt::Display for DerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DerError::Length => "certificate has a bad length",
            DerError::UnexpectedTag => "certificate has an unexpected field",
            DerError::Text => "certificate subject is not readable text",
            DerError::SeveralCommonNames => "certificate has several common names",
            DerError::Time => "certificate has a malformed time",
        })
    }
}

impl std::error::Error for DerError {}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

pub fn subject(certificate: &[u8]) -> Result<Subject, DerError> {
    let mut to_be_signed = to_validity(certificate)?;
    to_be_signed.expect(SEQUENCE)?; // validity
    let mut names = Reader(to_be_signed.expect(SEQUENCE)?);
    let mut subject = Subject::default();
    let mut has_common_name = false;
    while !names.0.is_empty() {
        let mut set = Reader(names.expect(SET)?);
        while !set.0.is_empty() {
            let mut attribute = Reader(set.expect(SEQUENCE)?);
            let kind = attribute.expect(OBJECT_IDENTIFIER)?;
            let (tag, value) = attribute.next()?;
            if kind == COMMON_NAME {
                if has_common_name {
                    return Err(DerError::SeveralCommonNames);
                }
                has_common_name = true;
                subject.common_name = text(tag, value)?;
            } else if kind == ORGANISATION {
                subject.organisations.push(text(tag, value)?);
            }
        }
    }
    Ok(subject)
}

/// Returns the first and the last second of the certificate's validity, in Unix time.
pub fn validity(certificate: &[u8]) -> Result<(i64, i64), DerError> {
    let mut validity = Reader(to_validity(certificate)?.expect(SEQUENCE)?);
    let mut time = || validity.next().and_then(|(tag, value)| unix_seconds(tag, value));
    Ok((time()?, time()?))
}

/// Returns a reader that stands before the validity in the certificate's signed part.
fn to_validity(certificate: &[u8]) -> Result<Reader<'_>, DerError> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
    let mut to_be_signed = Reader(outer.expect(SEQUENCE)?);
    if to_be_signed.0.first() == Some(&VERSION) {
        to_be_signed.next()?;
    }
    to_be_signed.expect(INTEGER)?; // serial number
    to_be_signed.expect(SEQUENCE)?; // signature algorithm
    to_be_signed.expect(SEQUENCE)?; // issuer
    Ok(to_be_signed)
}

struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    /// The next field's tag and content.
    fn next(&mut self) -> Result<(u8, &'d [u8]), DerError> {
        let (&tag, rest) = self.0.split_first().ok_or(DerError::Length)?;
        // None of the fields on the way has a tag of several bytes.
        if tag & 0x1f == 0x1f {
            return Err(DerError::UnexpectedTag);
        }
        let (&first, mut rest) = rest.split_first().ok_or(DerError::Length)?;
        let length = match first {
            0..=0x7f => usize::from(first),
            // Up to 16 MB, more than a handshake can carry.
            0x81..=0x83 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(DerError::Length)?;
                rest = after;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                if bytes[0] == 0 || length < 0x80 {
                    return Err(DerError::Length);
                }
                length
            }
            _ => return Err(DerError::Length),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(DerError::Length)?;
        self.0 = rest;
        Ok((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Result<&'d [u8], DerError> {
        match self.next()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(DerError::UnexpectedTag),
        }
    }
}

fn text(tag: u8, value: &[u8]) -> Result<String, DerError> {
    let text = match tag {
        // UTF8String
        0x0c => String::from_utf8(value.to_vec()).map_err(|_| DerError::Text)?,
        // NumericString, PrintableString, IA5String: all within ASCII
        0x12 | 0x13 | 0x16 if value.is_ascii() => value.iter().copied().map(char::from).collect(),
        // BMPString: UTF-16 in network order
        0x1e if value.len().is_multiple_of(2) => {
            let units: Vec<u16> = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).map_err(|_| DerError::Text)?
        }
        _ => return Err(DerError::Text),
    };
    // C programs once read "a\0b" as "a"; no legitimate name has a NUL.
    if text.contains('\0') { Err(DerError::Text) } else { Ok(text) }
}

fn unix_seconds(tag: u8, value: &[u8]) -> Result<i64, DerError> {
    let (century_digits, body) = match (tag, value.len()) {
        (UTC_TIME, 13) => (0, value),
        (GENERALIZED_TIME, 15) => (2, value),
        _ => return Err(DerError::Time),
    };
    let digits = body.strip_suffix(b"Z").filter(|d| d.iter().all(u8::is_ascii_digit)).ok_or(DerError::Time)?;
    let pair =
        |from: usize| digits[from..from + 2].iter().fold(0, |n: i8, digit| n * 10 + (digit - b'0').cast_signed());
    let year = match (century_digits, i16::from(pair(0))) {
        (0, short @ 0..50) => 2000 + short,
        (0, short) => 1900 + short,
        (_, century) => century * 100 + i16::from(pair(2)),
    };
    let field = |index: usize| pair(century_digits + 2 * index);
    let date = DateTime::new(year, field(1), field(2), field(3), field(4), field(5), 0).map_err(|_| DerError::Time)?;
    // Not with jiff's Timestamp: the last day of the year 9999, which means "never" (RFC 5280, 4.1.2.5), is beyond its
    // maximum.
    Ok(date.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn certificate(names: Vec<(DnType, DnValue)>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind, value);
        }
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn subjects() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        let der = certificate(vec![
            (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
            (DnType::OrganizationName, utf8("system:masters")),
            (DnType::CommonName, utf8("jürgen")),
        ]);
        let expected = Subject { common_name: "jürgen".into(), organisations: vec!["system:masters".into()] };
        assert_eq!(subject(&der), Ok(expected));
        for value in [
            DnValue::PrintableString("front".try_into().unwrap()),
            DnValue::Ia5String("front".try_into().unwrap()),
            DnValue::BmpString("front".try_into().unwrap()),
        ] {
            assert_eq!(subject(&certificate(vec![(DnType::CommonName, value)])).unwrap().common_name, "front");
        }
        assert_eq!(subject(&certificate(vec![])), Ok(Subject::default()));
        assert_eq!(subject(&certificate(vec![(DnType::CommonName, utf8("a\0b"))])), Err(DerError::Text));
        let teletex = DnValue::TeletexString("front".try_into().unwrap());
        assert_eq!(subject(&certificate(vec![(DnType::CommonName, teletex)])), Err(DerError::Text));
    }

    #[test]
    fn two_common_names_are_refused() {
        // Turns the organisation of a real certificate into a second common name; the signature is not checked here.
        let mut der = certificate(vec![
            (DnType::OrganizationName, DnValue::Utf8String("b".into())),
            (DnType::CommonName, DnValue::Utf8String("a".into())),
        ]);
        // The issuer, which comes first, is the same name in a self-signed certificate.
        let positions: Vec<usize> =
            der.windows(3).enumerate().filter(|(_, w)| *w == ORGANISATION).map(|(i, _)| i).collect();
        for at in positions {
            der[at + 2] = COMMON_NAME[2];
        }
        assert_eq!(subject(&der), Err(DerError::SeveralCommonNames));
    }

    #[test]
    fn expiry() {
        assert_eq!(validity(&certificate(vec![])).map(|(_, end)| end), Ok(1_927_843_200));
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Ok(0)),
            (UTC_TIME, "491231235959Z", Ok(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Ok(-631_152_000)),
            (GENERALIZED_TIME, "20000229120000Z", Ok(951_825_600)),
            (GENERALIZED_TIME, "99991231235959Z", Ok(253_402_300_799)),
            (GENERALIZED_TIME, "20001329120000Z", Err(DerError::Time)),
            (GENERALIZED_TIME, "2000022912000Z", Err(DerError::Time)),
            (UTC_TIME, "7001010000-0Z", Err(DerError::Time)),
            (UTC_TIME, "7001010000000", Err(DerError::Time)),
        ] {
            assert_eq!(unix_seconds(tag, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_survived() {
        let der = certificate(vec![(DnType::CommonName, DnValue::Utf8String("front".into()))]);
        for end in 0..der.len() {
            assert!(subject(&der[..end]).is_err(), "cut at {end}");
        }
        for at in 0..der.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = der.clone();
                damaged[at] ^= flip;
                let _ = (subject(&damaged), validity(&damaged));
            }
        }
    }
}
