//! What a machine's console said when it first booted: takes the text that a cloud keeps of it, gives the fingerprints of the host keys
//! that cloud-init printed between its marks. Everything else in the text is the machine's own, and counts for nothing.

use std::collections::BTreeSet;

use super::host_key::HostKey;

/// The two blocks of cloud-init (`write-ssh-key-fingerprints`): lines of `ssh-keygen -l`, and whole public keys.
const BLOCKS: [(&str, &str); 2] = [
    ("-----BEGIN SSH HOST KEY FINGERPRINTS-----", "-----END SSH HOST KEY FINGERPRINTS-----"),
    ("-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"),
];

/// The fingerprints, each with `SHA256:`. A block that does not end, because the console was cut off, counts as far as it goes.
pub fn fingerprints(text: &str) -> BTreeSet<String> {
    let (mut found, mut end) = (BTreeSet::new(), None);
    for line in text.lines() {
        if let Some((_, closes)) = BLOCKS.iter().find(|(opens, _)| line.contains(opens)) {
            end = Some(*closes);
        } else if end.is_some_and(|closes| line.contains(closes)) {
            end = None;
        } else if end.is_some() {
            found.extend(of_line(line));
        }
    }
    found
}

/// The fingerprint of a line; a console may have put its own words before it.
fn of_line(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let base64 =
        |hash: &str| hash.len() == 43 && hash.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'));
    if let Some(hash) =
        words.iter().find_map(|word| word.strip_prefix("SHA256:")).map(|hash| hash.trim_end_matches('='))
    {
        return base64(hash).then(|| format!("SHA256:{hash}"));
    }
    let pairs = words.iter().zip(words.iter().skip(1));
    pairs
        .filter_map(|(kind, key)| HostKey::parse(key).filter(|key| key.kind() == *kind))
        .map(|key| key.fingerprint())
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_counts() {
        let kind = "ssh-ed25519";
        let mut blob = u32::try_from(kind.len()).unwrap().to_be_bytes().to_vec();
        blob.extend_from_slice(kind.as_bytes());
        blob.push(7);
        let key = HostKey::new(blob);
        let hash = |c: char| format!("SHA256:{}", c.to_string().repeat(43));
        let text = format!(
            "ci-info: | ssh-ed25519 | {} |\r\n<14>Nov 27 00:00:01 ec2: #####\r\n<14>Nov 27 00:00:01 ec2: -----BEGIN SSH HOST KEY FINGERPRINTS-----\r\n\
             <14>Nov 27 00:00:01 ec2: 256 {} root@web1 (ECDSA)\r\n3072 {} root@web1 (RSA)\r\n256 SHA256:short root@web1\r\n\
             <14>ec2: -----END SSH HOST KEY FINGERPRINTS-----\r\n{}\r\n-----BEGIN SSH HOST KEY KEYS-----\r\n{key} root@web1\r\n\
             ssh-rsa AAAA broken\r\n-----END SSH HOST KEY KEYS-----\r\nlogin: {}\r\n",
            hash('a'),
            hash('b'),
            hash('c'),
            hash('d'),
            hash('e')
        );
        assert_eq!(fingerprints(&text), [hash('b'), hash('c'), key.fingerprint()].into());
        assert!(fingerprints("").is_empty());
    }
}
