//! Public keys of `OpenPGP` (RFC 9580): takes a key file, armoured or binary, gives the fingerprints of its keys and the file as one
//! armoured block. Pure and total. Nothing is verified here but which keys these are; signatures are verified by who reads the file.
//!
//! Own code, because the crates that read `OpenPGP` bring all of its ciphers with them for these few bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXUPPER};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde::Serialize;

use crate::base::net::Invalid;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// What tells a key from all others: 40 hexadecimal digits for a key of version 4, 64 for newer ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fingerprint(String);

impl FromStr for Fingerprint {
    type Err = Invalid;

    /// Takes it as people write it: with blanks, colons, small letters or `0x`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let digits: String = text.strip_prefix("0x").unwrap_or(text).replace([' ', ':'], "").to_ascii_uppercase();
        if matches!(digits.len(), 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self(digits));
        }
        Err(Invalid::new("is not the fingerprint of a key, which has 40 or 64 hexadecimal digits"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys {
    /// Of the primary keys, of which there is at least one.
    pub fingerprints: BTreeSet<Fingerprint>,
    /// All packets as one block of text: apt reads no further than the first.
    pub armoured: String,
}

/// Reads a key file.
///
/// # Errors
/// What is wrong with it, after «the key file».
pub fn read(file: &[u8]) -> Result<PublicKeys, Invalid> {
    let armour = std::str::from_utf8(file).ok().filter(|text| text.contains("-----BEGIN"));
    let packets = match armour {
        Some(text) => unarmoured(text)?,
        None => file.to_vec(),
    };
    let mut fingerprints = BTreeSet::new();
    let mut rest = packets.as_slice();
    while !rest.is_empty() {
        let (tag, body, after) = packet(rest)?;
        rest = after;
        match tag {
            6 => {
                fingerprints.insert(fingerprint(body)?);
            }
            5 | 7 => return Err(Invalid::new("holds a private key, which must be with its owner alone")),
            // Subkeys, signatures, names and pictures of the key before them; marks and padding.
            2 | 10 | 12 | 13 | 14 | 17 | 21 if !fingerprints.is_empty() || matches!(tag, 10 | 21) => {}
            _ => return Err(Invalid::new("holds something else than public keys")),
        }
    }
    if fingerprints.is_empty() {
        return Err(Invalid::new("holds no public key"));
    }
    Ok(PublicKeys { fingerprints, armoured: armoured(&packets) })
}

/// The packets of all blocks (RFC 9580, section 6.2); their checksums are optional, and of no use where fingerprints are compared.
fn unarmoured(text: &str) -> Result<Vec<u8>, Invalid> {
    let mut packets = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN") {
        let block = after
            .strip_prefix(&BEGIN["-----BEGIN".len()..])
            .ok_or_else(|| Invalid::new("has a block that is not a public key"))?;
        let (block, after) = block.split_once(END).ok_or_else(|| Invalid::new("has a block without an end"))?;
        rest = after;
        // Headers, such as `Version`, end at an empty line.
        let mut lines = block.lines().map(str::trim).skip(1).skip_while(|line| line.contains(": "));
        if lines.next() != Some("") {
            return Err(Invalid::new("has a block without an empty line before its data"));
        }
        let data: String = lines.take_while(|line| !line.starts_with('=')).collect();
        packets.extend(BASE64.decode(data.as_bytes()).map_err(|_| Invalid::new("has a block that is not base64"))?);
    }
    Ok(packets)
}

fn armoured(packets: &[u8]) -> String {
    let mut text = format!("{BEGIN}\n\n");
    for chunk in packets.chunks(48) {
        text.push_str(&BASE64.encode(chunk));
        text.push('\n');
    }
    let [_, checksum @ ..] = crc24(packets).to_be_bytes();
    text.push_str(&format!("={}\n{END}\n", BASE64.encode(&checksum)));
    text
}

/// RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    let mut crc = 0x00b7_04ce_u32;
    for byte in bytes {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0186_4cfb;
            }
        }
    }
    crc & 0x00ff_ffff
}

/// The first packet: its type, its body, and what follows (RFC 9580, section 4.2).
fn packet(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Invalid> {
    let cut = || Invalid::new("is cut off, or is not a file of OpenPGP");
    let at = |n: usize| bytes.get(n).copied().map(usize::from).ok_or_else(cut);
    let number = |from: usize, count: usize| (from..from + count).try_fold(0, |sum, n| Ok(sum << 8 | at(n)?));
    let head = bytes.first().copied().filter(|head| head & 0x80 != 0).ok_or_else(cut)?;
    let (tag, start, length) = if head & 0x40 != 0 {
        let (start, length) = match at(1)? {
            first @ 0..=191 => (2, first),
            first @ 192..=223 => (3, ((first - 192) << 8) + at(2)? + 192),
            255 => (6, number(2, 4)?),
            _ => return Err(cut()),
        };
        (head & 0x3f, start, length)
    } else {
        let count = match head & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return Err(cut()),
        };
        ((head >> 2) & 0x0f, 1 + count, number(1, count)?)
    };
    let end = start.checked_add(length).ok_or_else(cut)?;
    let body = bytes.get(start..end).ok_or_else(cut)?;
    Ok((tag, body, bytes.get(end..).unwrap_or_default()))
}

/// RFC 9580, section 5.5.4; version 5 is `GnuPG`'s.
fn fingerprint(body: &[u8]) -> Result<Fingerprint, Invalid> {
    let long = || Invalid::new("holds a key that is too long");
    let (mut context, mark) = match body.first() {
        Some(4) => (Context::new(&SHA1_FOR_LEGACY_USE_ONLY), 0x99),
        Some(5) => (Context::new(&SHA256), 0x9a),
        Some(6) => (Context::new(&SHA256), 0x9b),
        _ => return Err(Invalid::new("holds a key of a version other than 4, 5 and 6")),
    };
    context.update(&[mark]);
    if mark == 0x99 {
        context.update(&u16::try_from(body.len()).map_err(|_| long())?.to_be_bytes());
    } else {
        context.update(&u32::try_from(body.len()).map_err(|_| long())?.to_be_bytes());
    }
    context.update(body);
    Ok(Fingerprint(HEXUPPER.encode(context.finish().as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The certificate of RFC 9580, appendix A.3, with the fingerprint that it gives.
    const VERSION_6: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----

xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf
GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy
KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw
gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE
QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn
+eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh
BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8
j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDEM0g12vYxoWM8Y81W+bHBw805
I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==
-----END PGP PUBLIC KEY BLOCK-----
";

    /// A key that `GnuPG` 2.2 has made, and the fingerprint that it tells.
    const VERSION_4: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawfauhYJKwYBBAHaRw8BAQdAmcqJnt196k+pJ4U4C0Mt5pcqff2LJmyHtc4y
nFOheE+0FW1ha2VyIDxtQGV4YW1wbGUuY29tPoiQBBMWCAA4FiEEuTGz46aya3It
sOxOrQnJQfSQtkEFAmsH2roCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQ
rQnJQfSQtkGcggD/fEhHAbnXaB2iBLF7D+oZrbRh65W4xQiabIOuIoQmS9YBAN1k
XH2ZDv//dafBFSdZbZT8fI7KpvcUu8WAzl5Io+oD
=OaYt
-----END PGP PUBLIC KEY BLOCK-----
";

    #[test]
    fn a_key_of_gnupg_has_its_fingerprint() {
        let keys = read(VERSION_4.as_bytes()).unwrap();
        let known: Fingerprint = "B931 B3E3 A6B2 6B72 2DB0  EC4E AD09 C941 F490 B641".parse().unwrap();
        assert_eq!(keys.fingerprints, BTreeSet::from([known]));
        // The same text again, checksum and all, but for the length of its lines.
        let bare = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(bare(&keys.armoured), bare(VERSION_4));
    }

    #[test]
    fn a_key_of_the_standard_has_its_fingerprint() {
        let keys = read(VERSION_6.as_bytes()).unwrap();
        let known: Fingerprint =
            "CB186C4F 0609A697 E4D52DFA 6C722B0C 1F1E27C1 8A56708F 6525EC27 BAD9ACC9".parse().unwrap();
        assert_eq!(keys.fingerprints, BTreeSet::from([known]));
        assert_eq!(read(keys.armoured.as_bytes()).unwrap(), keys);
        assert_eq!(read(&unarmoured(VERSION_6).unwrap()).unwrap(), keys);
        // Two blocks are one, with headers or without.
        let twice = VERSION_6.replace("BLOCK-----\n\nxioG", "BLOCK-----\nComment: a\n\nxioG") + "between\n" + VERSION_6;
        let both = read(twice.as_bytes()).unwrap();
        assert_eq!((both.fingerprints, both.armoured.matches("BEGIN").count()), (keys.fingerprints, 1));
    }

    #[test]
    fn a_key_of_version_4_is_hashed_as_the_standard_says() {
        // 0x99, the length, then the body: SHA-1 of `99 0006 04 00000000 16`.
        let body = [4, 0, 0, 0, 0, 0x16];
        let old = [&[0x98, 6][..], &body].concat();
        let new = [&[0xc6, 6][..], &body].concat();
        let wide = [&[0xc6, 255, 0, 0, 0, 6][..], &body].concat();
        let known = ring::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, &[&[0x99, 0, 6][..], &body].concat());
        for file in [old, new, wide] {
            let keys = read(&file).unwrap();
            assert_eq!(keys.fingerprints.first().unwrap().to_string(), HEXUPPER.encode(known.as_ref()));
        }
    }

    #[test]
    fn what_is_no_public_key_says_why() {
        let key = [0xc6, 6, 4, 0, 0, 0, 0, 0x16];
        let private = [0xc5, 6, 4, 0, 0, 0, 0, 0x16];
        for (file, why) in [
            (&b""[..], "no public key"),
            (b"<html>", "not a file of OpenPGP"),
            (&key[..5], "is cut off"),
            (&private, "private key"),
            (&[&key[..], &private].concat(), "private key"),
            (&[0xcb, 1, 0], "something else"),
            (&[0xcd, 1, 0], "something else"),
            (&[0xc6, 1, 3], "version"),
            (b"-----BEGIN PGP MESSAGE-----\n\n", "not a public key"),
            (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxioG", "without an end"),
            (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!\n-----END PGP PUBLIC KEY BLOCK-----\n", "not base64"),
        ] {
            let error = read(file).unwrap_err().to_string();
            assert!(error.contains(why), "{error} has no {why}");
        }
        for text in ["", "0xab:", "12345678", "zz186C4F0609A697E4D52DFA6C722B0C1F1E27C1"] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in any::<Vec<u8>>(), head in 0x80u8..) {
            let _ = read(&bytes);
            let _ = read(&[&[head][..], &bytes].concat());
            let _ = read(format!("{BEGIN}\n\n{}\n{END}\n", BASE64.encode(&bytes)).as_bytes());
        }

        #[test]
        fn armour_reads_back(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(unarmoured(&armoured(&bytes)).unwrap(), bytes);
        }
    }
}
