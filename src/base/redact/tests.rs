use super::*;

/// The body of a key as PEM has it: 184 characters in lines of 64.
fn body() -> String {
    let bytes: Vec<u8> = (0..5_u8).flat_map(|n| Sha256::digest([n])).take(138).collect();
    broken(&data_encoding::BASE64.encode(&bytes), 64, "", "")
}

fn key() -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", body())
}

fn flat() -> String {
    body().replace('\n', "")
}

const PASSWORD: &str = "pass, phrase \"of\" some/length+1 & more";

fn redactor() -> Redactor {
    let mut redactor = Redactor::default();
    redactor.add([("key", key().as_str()), ("password", PASSWORD), ("pin", "hunt-22")], []);
    redactor
}

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

fn broken(text: &str, width: usize, before: &str, after: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    chars
        .chunks(width)
        .map(|line| format!("{before}{}{after}\n", line.iter().collect::<String>()))
        .collect::<Vec<_>>()
        .concat()
}

fn url(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Every way of saying the same key or password, and that nothing of sixteen characters is left of it.
#[test]
fn a_secret_is_found_however_it_is_said() {
    let (key, flat) = (key(), flat());
    let der = data_encoding::BASE64.decode(flat.as_bytes()).unwrap();
    let hex: Vec<String> = der.iter().map(|byte| format!("{byte:02x}")).collect();
    let json = |text: &str| serde_json::to_string(text).unwrap();
    let cases: Vec<(&str, String)> = vec![
        ("as it is", key.clone()),
        ("crlf", key.replace('\n', "\r\n")),
        ("indented", key.lines().map(|l| format!("\t    {l}\n")).collect::<Vec<_>>().concat()),
        ("quoted lines", key.lines().map(|l| format!("> {l}\n")).collect::<Vec<_>>().concat()),
        (
            "a journal's lines",
            key.lines().map(|l| format!("Nov 26 00:20:53 web1 nginx[12]: {l}\n")).collect::<Vec<_>>().concat(),
        ),
        ("one line", flat.clone()),
        ("colours", broken(&flat, 5, "\u{1b}[31m", "\u{1b}[0m").replace('\n', "")),
        ("decimal bytes", format!("{:?}", key.as_bytes())),
        ("decimal bytes as Go prints them", format!("{:?}", key.as_bytes()).replace(',', "")),
        ("quoted-printable", broken(&key.replace('=', "=3D"), 22, "", "=")),
        ("lines of 76", broken(&flat, 76, "", "")),
        ("lines of 10", broken(&flat, 10, "", "")),
        ("lines of 7, indented", broken(&flat, 7, "      ", "\r")),
        ("lines of 8 with prefix", broken(&flat, 8, "nginx: ", "")),
        ("a list", broken(&flat, 12, "  \"", "\",")),
        ("shell continuation", broken(&flat, 12, "", "\\")),
        ("json", json(&key)),
        ("json in json", json(&json(&key))),
        ("json with escaped slashes", json(&key).replace('/', "\\/")),
        ("json by number", json(&key).replace('/', "\\u002f").replace('+', "\\u002B")),
        ("url", url(&key)),
        ("url in json", json(&url(&key))),
        ("rsyslog", key.replace('\n', "#012")),
        ("octal", key.replace('\n', "\\012")),
        ("base64 of all", base64(&key)),
        ("base64, one further", base64(&format!("x{key}"))),
        ("base64, two further", base64(&format!("xy{key}"))),
        ("base64 in lines", broken(&base64(&key), 76, "  ", "\r")),
        ("base64 in json", json(&broken(&base64(&key), 64, "", ""))),
        ("hex of the der", hex.concat()),
        ("hex with colons", broken(&hex.join(":"), 45, "    ", "")),
        ("hex of the text", key.bytes().map(|b| format!("{b:02X}")).collect::<Vec<_>>().concat()),
        ("c escapes", key.bytes().map(|b| format!("\\x{b:02x}")).collect::<Vec<_>>().concat()),
        ("a part", flat[30..70].to_owned()),
        ("a part of sixteen", flat[60..76].to_owned()),
        ("amid words", format!("cannot use key={}: bad end of line", &flat[48..100])),
        ("password", format!("login as {PASSWORD} failed")),
        ("password in json", json(PASSWORD)),
        ("password in a url", url(PASSWORD)),
        ("password in html", PASSWORD.replace('&', "&amp;").replace('"', "&quot;").replace('+', "&#43;")),
        ("password for a shell", format!("'{}'", PASSWORD.replace('\'', "'\\''"))),
        ("password in base64", base64(PASSWORD)),
        ("password over lines", broken(PASSWORD, 11, "", "")),
    ];
    let redactor = redactor();
    let plain: Vec<String> = {
        let joined: Vec<char> = flat.chars().collect();
        joined.windows(16).map(|w| w.iter().collect()).collect()
    };
    for (what, said) in cases {
        let text = format!("before {said} after");
        let clean = redactor.redact(&text);
        assert!(clean.contains("‹key›") || clean.contains("‹password›"), "{what}: {clean}");
        assert!(clean.starts_with("before ") && clean.ends_with(" after"), "{what}: {clean}");
        let left: String = clean.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(!plain.iter().any(|w| left.contains(w.as_str())), "{what}: {clean}");
        // All that is left of what was said is shorter than a stretch.
        let longest = clean.split('‹').map(|part| part.split('›').next_back().unwrap().trim()).map(str::len).max();
        if !what.contains("journal") && !what.contains("prefix") && !what.contains("amid") {
            // Encoded lines of BEGIN and END may stay; they are no secret.
            let encoded = ["url", "hex of the text", "c escapes", "decimal"].iter().any(|word| what.starts_with(word));
            assert!(longest.unwrap() < if encoded { 130 } else { 60 }, "{what}: {clean}");
        }
    }
}

#[test]
fn what_is_no_secret_stays() {
    let redactor = redactor();
    for text in [
        "",
        "hun",
        "nginx: [emerg] cannot load certificate key \"/etc/nginx/tls/server.key\": PEM_read_bio_PrivateKey() failed",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nMIIBkTCCATegAwIBAgIUQq8\n-----END CERTIFICATE-----",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "\\u12 \\x %zz &; &#xfffffff; # \\ü ‹key› \u{1f600}",
        "hunt\n-22",
    ] {
        assert!(matches!(redactor.redact(text), Cow::Borrowed(_)), "{text}: {}", redactor.redact(text));
    }
    assert!(matches!(Redactor::default().redact(&key()), Cow::Borrowed(_)));
}

#[test]
fn short_secrets_go_as_a_whole_and_in_these_encodings() {
    let redactor = redactor();
    for text in ["hunt-22", "hunt\\u002d22", "hunt%2D22", &base64("hunt-22"), &base64("x:hunt-22"), "68756e742d3232"] {
        let clean = redactor.redact(text);
        assert!(clean.contains("‹pin›"), "{text}: {clean}");
    }
    assert_eq!(redactor.redact("denied for hunt-22, hunt-2"), "denied for ‹pin›, hunt-2");
}

#[test]
fn public_text_is_shown_even_where_a_key_holds_it() {
    let flat = flat();
    let (start, end) = flat.split_at(48);
    let own = &end[..76];
    let certificate =
        format!("-----BEGIN CERTIFICATE-----\nMIIB{start}AAAA{}\n-----END CERTIFICATE-----\n", &end[76..]);
    let mut redactor = Redactor::default();
    redactor.add([("key", key().as_str())], [certificate.as_str()]);
    assert_eq!(redactor.redact(&certificate), certificate);
    assert_eq!(redactor.redact(&format!("x {own} y")), "x ‹key› y");
}

#[test]
fn keys_that_begin_alike_are_told_apart_by_the_rest() {
    let mut redactor = Redactor::default();
    let start = &flat()[..48];
    let (a, b) = ("Qa7Zk1".repeat(12), "Wd8Xm2".repeat(12));
    let pem = |rest: &str| format!("-----BEGIN PRIVATE KEY-----\n{start}\n{rest}\n-----END PRIVATE KEY-----\n");
    redactor.add([("one", pem(&a).as_str()), ("two", pem(&b).as_str())], []);
    assert_eq!(redactor.redact(&pem(&b)), "‹two›\n");
    assert_eq!(redactor.redact(&pem(&a)), "‹one›\n");
    assert_eq!(redactor.redact(&format!("{}{}", pem(&a), pem(&b))), "‹one›\n‹two›\n");
    assert_eq!(redactor.redact(start), "‹a secret›");
}

#[test]
fn lines_stay_lines_and_values_stay_values() {
    let redactor = redactor();
    let lines: Vec<String> = broken(&flat(), 10, "", "").lines().map(ToOwned::to_owned).collect();
    let mut value = serde_json::json!({ "event": "x", "words": lines, "n": [1, { "text": key() }], "z": null });
    redactor.redact_value(&mut value);
    let words = value["words"].as_array().unwrap();
    assert_eq!(words.len(), lines.len());
    assert!(words.iter().all(|word| word == "‹key›"), "{words:?}");
    assert_eq!(value["n"][1]["text"], "‹key›\n");
    assert_eq!(value["event"], "x");
}

/// Not a measurement: it ends within the patience of a test only where the time is linear.
#[test]
fn much_text_and_many_secrets() {
    let mut redactor = Redactor::default();
    let keys: Vec<(String, String)> = (0..3000_u32)
        .map(|n| {
            let bytes: Vec<u8> =
                (0..138_u32).map(|at| (n.wrapping_mul(2_654_435_761).rotate_left(at) >> 7).to_be_bytes()[3]).collect();
            let body = data_encoding::BASE64.encode(&bytes);
            (format!("key {n}"), format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
        })
        .collect();
    redactor.add(keys.iter().map(|(name, value)| (name.as_str(), value.as_str())), []);
    let noise = "the quick brown fox jumps over the lazy dog 0123456789abcdef \\n \"x\"\n".repeat(8_000);
    let text = format!("{noise}{}{noise}", keys[2999].1);
    let clean = redactor.redact(&text);
    assert_eq!(clean.matches('‹').count(), 1);
    assert_eq!(clean.len(), 2 * noise.len() + "‹key 2999›\n".len());
}

proptest::proptest! {
    #[test]
    fn any_text_is_taken(text in "\\PC{0,80}", secret in "\\PC{4,40}", cut in 0_usize..40) {
        let mut redactor = Redactor::default();
        redactor.add([("s", secret.as_str())], []);
        let part: String = secret.chars().skip(cut).collect();
        let clean = redactor.redact(&format!("{text}{part}{text}")).into_owned();
        if secret.trim().len() >= SHORTEST {
            let whole = redactor.redact(&format!("{text} {} {text}", secret.trim())).into_owned();
            proptest::prop_assert!(whole.contains("‹s›") || secret.trim().as_bytes().windows(2).all(|w| w[0] == w[1]));
        }
        drop(clean);
    }
}
