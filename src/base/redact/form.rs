//! A text in another form, such as without its escapes or with its base64 decoded; gives its bytes, and for each where it stood in the
//! text.

/// Where a byte stood in the text, from and to.
pub(super) type Place = (u32, u32);

/// Bytes, and for each where it stood in the text.
#[derive(Default)]
pub(super) struct Form {
    pub(super) bytes: Vec<u8>,
    pub(super) at: Vec<Place>,
}

impl Form {
    pub(super) fn of(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), at: (0..u32::MAX).zip(1..).take(text.len()).collect() }
    }

    fn push(&mut self, byte: u8, at: Place) {
        self.bytes.push(byte);
        self.at.push(at);
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (u8, Place)> + '_ {
        self.bytes.iter().copied().zip(self.at.iter().copied())
    }

    /// Without what stands between pieces.
    pub(super) fn joined(&self) -> Self {
        let mut out = Self::default();
        self.each().filter(|(byte, _)| !between(*byte)).for_each(|(byte, at)| out.push(byte, at));
        out
    }

    /// The last word of each line, one after the other: what stands before it is a log's own.
    pub(super) fn last_words(&self) -> Self {
        let mut out = Self::default();
        if !self.bytes.contains(&b'\n') && !self.bytes.contains(&b'\r') {
            return out;
        }
        let mut start = 0;
        for line in self.bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let kept = line.iter().rposition(|b| !(between(*b) || b";)]}.".contains(b))).map_or(0, |last| last + 1);
            let delimits = |b: &u8| between(*b) || b":[({".contains(b);
            let word = line.get(..kept).and_then(|l| l.iter().rposition(delimits)).map_or(0, |last| last + 1);
            for at in start + word..start + kept {
                if let (Some(byte), Some(place)) = (self.bytes.get(at), self.at.get(at)) {
                    out.push(*byte, *place);
                }
            }
            start += line.len() + 1;
        }
        out
    }

    /// What base64 may stand for, at each of the four places where a group may begin; the alphabets of RFC 4648 §4 and §5.
    pub(super) fn base64(&self) -> impl Iterator<Item = Self> + '_ {
        let value = |byte: u8| match byte {
            b'A'..=b'Z' => Some(byte - b'A'),
            b'a'..=b'z' => Some(byte - b'a' + 26),
            b'0'..=b'9' => Some(byte - b'0' + 52),
            b'+' | b'-' => Some(62),
            b'/' | b'_' => Some(63),
            _ => None,
        };
        (0..4).map(move |skip| self.decoded(skip, 6, value))
    }

    /// What hexadecimal digits may stand for, with or without colons and spaces between them.
    pub(super) fn hex(&self) -> impl Iterator<Item = Self> + '_ {
        let value = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            b'A'..=b'F' => Some(byte - b'A' + 10),
            _ => None,
        };
        (0..2).map(move |skip| self.decoded(skip, 4, value))
    }

    /// What decimal numbers of bytes may stand for, as in `[45 45 66]` or `45, 45, 66`.
    pub(super) fn decimal(&self) -> Self {
        let mut out = Self::default();
        let mut held: Option<(u32, Place)> = None;
        for (byte, at) in self.each().chain([(b' ', (0, 0))]) {
            held = match (byte, held) {
                (b'0'..=b'9', None) => Some((u32::from(byte - b'0'), at)),
                (b'0'..=b'9', Some((number, from))) => {
                    Some(((number * 10 + u32::from(byte - b'0')).min(1000), (from.0, at.1)))
                }
                (_, Some((number, place))) => {
                    // What is no byte ends a run.
                    out.push(u8::try_from(number).unwrap_or_default(), place);
                    None
                }
                (_, None) => None,
            };
        }
        out
    }

    /// Digits of `width` bits each as bytes, in runs; of each run `skip` digits are passed over first.
    fn decoded(&self, skip: usize, width: u32, value: impl Fn(u8) -> Option<u8>) -> Self {
        let mut out = Self::default();
        let (mut count, mut bits, mut held, mut from) = (0, 0_u32, 0_u32, 0);
        for (byte, at) in self.each() {
            let Some(digit) = value(byte) else {
                // Between hexadecimal digits only; base64 is looked for where such are gone already.
                if !(width == 4 && (byte == b':' || byte.is_ascii_whitespace())) && count > 0 {
                    (count, bits, held) = (0, 0, 0);
                    out.push(0, at);
                }
                continue;
            };
            count += 1;
            if count <= skip {
                continue;
            }
            if bits == 0 {
                from = at.0;
            }
            held = (held << width | u32::from(digit)) & 0xffff;
            bits += width;
            if bits >= 8 {
                bits -= 8;
                out.push(u8::try_from(held >> bits & 0xff).unwrap_or_default(), (from, at.1));
                from = at.0;
            }
        }
        out
    }

    /// With escapes undone once.
    pub(super) fn unescaped(&self) -> Self {
        let mut out = Self::default();
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (length, bytes) = escape(rest).unwrap_or_else(|| (1, rest.iter().take(1).copied().collect()));
            let from = self.at.get(at).map_or(0, |place| place.0);
            let to = self.at.get(at + length - 1).map_or(from, |place| place.1);
            for byte in bytes {
                out.push(byte, (from, to));
            }
            at += length;
        }
        out
    }
}

/// The escape at the beginning of `rest`: how long it is, and what it stands for.
fn escape(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let number = |from: usize, digits: usize, radix: u32| {
        let text = std::str::from_utf8(rest.get(from..from + digits)?).ok()?;
        let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(text, radix).ok().filter(|_| plain)
    };
    let byte = |length: usize, number: u32| Some((length, vec![u8::try_from(number).ok()?]));
    let character = |length: usize, number: u32| Some((length, char::from_u32(number)?.to_string().into_bytes()));
    match rest {
        [b'\\', b'u', ..] => character(6, number(2, 4, 16)?),
        [b'\\', b'x', ..] => byte(4, number(2, 2, 16)?),
        [b'\\', b'0'..=b'3', ..] => byte(4, number(1, 3, 8)?),
        [b'\\', b'n' | b'r' | b't' | b'b' | b'f' | b'v', ..] => Some((2, vec![b'\n'])),
        [b'\\', other, ..] if other.is_ascii_punctuation() => Some((2, vec![*other])),
        // Quoted-printable (RFC 2045 section 6.7): a soft line break; a byte is as in a URL.
        [b'=', b'\n', ..] => Some((2, Vec::new())),
        [b'=', b'\r', b'\n', ..] => Some((3, Vec::new())),
        [b'%' | b'=', ..] => byte(3, number(1, 2, 16)?),
        // What a terminal takes as a command (ECMA-48): colours, most of all.
        [0x1b, b'[', ..] => {
            let end = rest.iter().take(24).skip(2).position(|byte| (0x40..=0x7e).contains(byte))?;
            Some((end + 3, Vec::new()))
        }
        // rsyslog's control characters.
        [b'#', b'0', ..] => byte(4, number(1, 3, 8).filter(|code| *code < 32)?),
        [b'&', ..] => {
            let end = rest.iter().take(9).position(|byte| *byte == b';')?;
            let name = std::str::from_utf8(rest.get(1..end)?).ok()?;
            let code = match name {
                "amp" => u32::from(b'&'),
                "lt" => u32::from(b'<'),
                "gt" => u32::from(b'>'),
                "quot" => u32::from(b'"'),
                "apos" => u32::from(b'\''),
                _ => match name.strip_prefix("#x").or_else(|| name.strip_prefix("#X")) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => name.strip_prefix('#')?.parse().ok()?,
                },
            };
            character(end + 1, code)
        }
        _ => None,
    }
}

/// What may stand between the pieces of a broken secret, and is left out of it too when it is learnt.
pub(super) fn between(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control() || b"\"'`\\,>|".contains(&byte)
}
