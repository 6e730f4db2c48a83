//! What belongs into the user's zone, as a zone file and as JSON: takes the records of each site. What should not be published
//! as it stands is a comment.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::text::clean;
use crate::pki::records::Records;

/// What holds for all TLSA records.
const ABOUT_TLSA: &str = "\
; TLSA holds only in a zone that is signed (DNSSEC, RFC 6698). `2 1 1` is the key of the certificate that signed the one in
; use: a CA may sign the next one by another, so look here again after a renewal, and keep both in the zone for a while.
; `3 1 1` is the server's own key, which each renewal changes: it is published by who can change the zone with each.
";

/// The whole file: names are absolute and every record has its TTL, so that it may stand anywhere in a zone.
pub fn draw(all: &[Records]) -> String {
    let mut out = String::new();
    // Two sites may have the same owner: `*.example.com` and `example.com` do.
    let mut written = BTreeSet::new();
    let mut add = |out: &mut String, line: String, publish: bool| {
        if written.insert(line.clone()) {
            let _ = writeln!(out, "{}{line}", if publish { "" } else { "; " });
        }
    };
    if all.iter().any(|records| !records.tlsa_of_leaf.is_empty()) {
        out.push_str(ABOUT_TLSA);
    }
    for records in all {
        let _ = writeln!(out, "; {}", records.site);
        for note in &records.notes {
            let _ = writeln!(out, ";   {}", clean(note));
        }
        for caa in &records.caa {
            add(&mut out, caa.to_string(), records.caa_complete);
        }
        for tlsa in &records.tlsa {
            add(&mut out, tlsa.to_string(), true);
        }
        for tlsa in &records.tlsa_of_leaf {
            add(&mut out, tlsa.to_string(), false);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use domain::zonefile::inplace::{Entry, Zonefile};

    use super::*;
    use crate::pki::records::{Caa, Tlsa};

    fn records(site: &str, complete: bool) -> Records {
        let owner = format!("_443._tcp.{site}");
        let tlsa = |usage: u8| Tlsa { owner: owner.clone(), usage, digest: "ab".repeat(32) };
        Records {
            site: site.to_owned(),
            caa: vec![
                Caa {
                    owner: site.to_owned(),
                    tag: "issue",
                    value: "ca.example; accounturi=https://ca.example/\"1\\".into(),
                },
                Caa { owner: "example.com".to_owned(), tag: "issuewild", value: "ca.example".into() },
            ],
            caa_complete: complete,
            tlsa: vec![tlsa(2)],
            tlsa_of_leaf: vec![tlsa(3)],
            notes: vec!["a note\nwith $INCLUDE /etc/passwd".into()],
        }
    }

    /// The records that a reader of zone files sees: owner and type.
    fn read(text: &str) -> Vec<(String, String)> {
        let mut zone = Zonefile::from(text);
        let mut found = Vec::new();
        while let Some(entry) = zone.next_entry().unwrap() {
            let Entry::Record(record) = entry else { panic!("{entry:?}") };
            found.push((record.owner().to_string(), record.rtype().to_string()));
        }
        found
    }

    #[test]
    fn what_may_be_published_reads_as_a_zone_file() {
        let text = draw(&[records("a.example.com", true), records("b.example.com", true)]);
        let owned = |owner: &str, kind: &str| (owner.to_owned(), kind.to_owned());
        assert_eq!(
            read(&text),
            [
                owned("a.example.com", "CAA"),
                owned("example.com", "CAA"),
                owned("_443._tcp.a.example.com", "TLSA"),
                owned("b.example.com", "CAA"),
                owned("_443._tcp.b.example.com", "TLSA"),
            ],
            "{text}"
        );
        let text = draw(&[records("a.example.com", false)]);
        assert_eq!(read(&text), [owned("_443._tcp.a.example.com", "TLSA")], "{text}");
    }
}
