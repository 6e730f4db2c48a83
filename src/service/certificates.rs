//! How daemons hold certificates on a host: takes a context and a daemon, adds its files; gives the names of what stands for a
//! site, and the ciphers and curves that all daemons share.

use std::collections::BTreeMap;

use time::{Date, Month, OffsetDateTime, Time};

use crate::base::diagnostic::Diagnostic;
use crate::base::material::Material;
use crate::base::net::DnsName;
use crate::base::secret::sentinel;
use crate::plan::state::{Access, File, Folder, Follow, Phase, Version};
use crate::service::Context;
use crate::service::claims::Claims;
use crate::service::product::Product;

pub mod order;
pub mod schedule;
pub mod wanted;

pub use order::Remembered;

/// The name of their service, also that of what is remembered for it.
pub const NAME: &str = "certificates";

/// The ciphers of TLS 1.2 (Mozilla's guideline 6.0, intermediate).
pub const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
                           ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
/// Those of TLS 1.3.
pub const CIPHERSUITES: &str = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/// The OpenSSL library that the daemons use; its tool is of the same source, and is what is asked for where neither is there.
pub(crate) const OPENSSL: Product = Product {
    name: "openssl",
    packages: &["libssl3t64", "libssl3", "openssl"],
    shipped: [
        Version(3, 0, 19),
        Version(3, 0, 2),
        Version(3, 0, 13),
        Version(3, 5, 1),
        Version(3, 5, 5),
        Version(3, 6, 5),
    ],
};

/// The curves; the post-quantum one first where the library has it (OpenSSL 3.5).
pub fn curves(context: &Context<'_>) -> &'static str {
    if OPENSSL.of(context.facts).minor() >= (3, 5) {
        "X25519MLKEM768:X25519:prime256v1:secp384r1"
    } else {
        "X25519:prime256v1:secp384r1"
    }
}

/// How the titles of the probes of http-01 begin.
pub const CHALLENGE_PROBE: &str = "http-01 is answered for";

/// Who answers to http-01 on a load balancer.
pub const CHALLENGE_UNIT: &str = "haproxy";

/// The folder of [`site_pem`].
pub const SITES_FOLDER: &str = "/etc/haproxy/sites";

/// Where the edge keeps a site's certificate with its key.
pub fn site_pem(name: &DnsName) -> String {
    format!("{SITES_FOLDER}/{}.pem", name.to_word())
}

/// Where the edge keeps whom to trust for the certificate of a site that was bought.
pub fn site_trust(name: &DnsName) -> String {
    format!("{SITES_FOLDER}/{}.ca", name.to_word())
}

/// When a certificate ends, as OpenSSL writes it (`Nov 28 10:15:50 2026 GMT`), seconds since 1970.
pub fn clock(text: &str) -> Option<i64> {
    let mut words = text.split_whitespace();
    let (month, day, clock, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = u8::try_from(months.iter().position(|name| *name == month)? + 1).ok()?;
    let mut clock = clock.split(':').map(|part| part.parse::<u8>().ok());
    let time = Time::from_hms(clock.next()??, clock.next()??, clock.next()??).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, Month::try_from(month).ok()?, day.parse().ok()?).ok()?;
    Some(OffsetDateTime::new_utc(date, time).unix_timestamp())
}

/// A daemon that holds certificates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    /// The service that wants the files.
    pub(crate) service: &'static str,
    /// When they are put in place.
    pub(crate) phase: Phase,
    /// The unit that reads them.
    pub(crate) unit: &'static str,
    /// How it takes a new one.
    pub(crate) follow: Follow,
}

impl Holder {
    /// Adds a private folder.
    pub(crate) fn folder(self, out: &mut Claims, path: &str) -> Result<(), Diagnostic> {
        out.folder(path, Folder { phase: self.phase, access: Access::root(0o700) })
    }

    /// Adds a file made of these materials, one after the other; readable by root only if one of them is secret.
    pub(crate) fn file(
        self,
        context: &Context<'_>,
        out: &mut Claims,
        path: &str,
        materials: &[Material],
    ) -> Result<(), Diagnostic> {
        let text: String = materials.iter().map(sentinel).collect();
        let secret = context.materials.is_secret(&text);
        let file = File {
            service: self.service,
            phase: self.phase,
            access: Access::root(if secret { 0o600 } else { 0o644 }),
            body: context.body(text)?,
            then: BTreeMap::from([(self.unit.to_owned(), self.follow)]),
            about: materials.first().and_then(|m| context.materials.about(m)).map(ToOwned::to_owned),
        };
        out.file(path, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_end_when_they_say() {
        assert_eq!(clock("Nov 28 10:15:50 2026 GMT"), Some(1_795_860_950));
        assert_eq!(clock("Feb  9 00:00:00 2027 GMT"), Some(1_802_131_200));
        for text in ["", "Nov 28", "Foo 28 10:15:50 2026 GMT", "Nov 31 10:15:50 2026 GMT", "Nov 28 10:15 2026 GMT"] {
            assert_eq!(clock(text), None, "{text}");
        }
    }
}
