//! Where certificates stand on a host: takes a context and a daemon, adds its files. The internal ones of each daemon, and
//! the public ones of the edge.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::DnsName;
use crate::base::secret::{names, sentinel};
use crate::inventory::site::Role;
use crate::plan::state::{Access, DesiredHost, File, Folder, Follow, Phase, Version};
use crate::service::{Context, Service};

/// The public certificates of the load balancers.
pub struct Certificates;

const NAME: &str = "certificates";

/// The ciphers of TLS 1.2 (Mozilla's guideline 6.0, intermediate).
pub const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
                           ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
/// Those of TLS 1.3.
pub const CIPHERSUITES: &str = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/// The curves; the post-quantum one first where the library has it (OpenSSL 3.5).
pub fn curves(context: &Context<'_>) -> &'static str {
    if (context.facts.openssl.0, context.facts.openssl.1) >= (3, 5) {
        "X25519MLKEM768:X25519:prime256v1:secp384r1"
    } else {
        "X25519:prime256v1:secp384r1"
    }
}

/// The material that holds the thumbprint of the ACME account's key.
pub const THUMBPRINT: &str = "acme/thumbprint";

/// The material that is there while a site shows what the roots of a host need not vouch for: a placeholder, or a certificate
/// of another directory than Let's Encrypt's, whatever the inventory asks for by now.
pub fn unrooted_mark(name: &DnsName) -> String {
    format!("site/{name}.unrooted")
}

/// The material that lists the names and addresses of the certificate that a site shows, one a line; without it, all are there.
pub fn shown_names(name: &DnsName) -> String {
    format!("site/{name}.names")
}

/// The folder of [`site_pem`].
pub const SITES_FOLDER: &str = "/etc/haproxy/sites";

/// Where the edge keeps a site's certificate with its key.
pub fn site_pem(name: &DnsName) -> String {
    format!("{SITES_FOLDER}/{}.pem", name.as_str().replace('*', "_"))
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
    pub(crate) fn folder(self, out: &mut DesiredHost, path: &str) {
        let folder = Folder { phase: self.phase, access: Access::root(0o700) };
        out.folders.entry(path.into()).or_insert(folder);
    }

    /// Adds a file made of these materials, one after the other; readable by root only if one of them is secret.
    pub(crate) fn file(
        self,
        context: &Context<'_>,
        out: &mut DesiredHost,
        path: &str,
        materials: &[String],
    ) -> Result<(), Diagnostic> {
        let text: String = materials.iter().map(|m| sentinel(m)).collect();
        let secret = names(&text).iter().any(|n| context.materials.is_secret(n) || n.strip_suffix(".key").is_some());
        let file = File {
            service: self.service,
            phase: self.phase,
            access: Access::root(if secret { 0o600 } else { 0o644 }),
            body: context.body(text)?,
            then: BTreeMap::from([(self.unit.to_owned(), self.follow)]),
            about: materials.first().and_then(|m| context.materials.about(m)).map(ToOwned::to_owned),
        };
        out.files.entry(path.into()).or_insert(file);
        Ok(())
    }
}

/// How `HAProxy` takes a new certificate of a site. Below 3.1 every client of its admin socket shares one transaction
/// (`HAProxy`'s commit 984d2cfb6): there the host's lock keeps our own runs apart, and what another has open is looked for first.
fn follow(context: &Context<'_>) -> Follow {
    let measured = context.facts.haproxy >= Version(2, 6, 0);
    if context.site.certificates.hot_swap && measured { Follow::Swap } else { Follow::Reload }
}

impl Service for Certificates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn want(&self, context: &Context<'_>, out: &mut DesiredHost) -> Result<(), Diagnostic> {
        if !context.host.has(Role::Lb) {
            return Ok(());
        }
        let holder = Holder { service: NAME, phase: Phase::Edge, unit: "haproxy.service", follow: follow(context) };
        holder.folder(out, SITES_FOLDER);
        for site in context.site.sites.values() {
            let materials = [format!("site/{}.crt", site.name), format!("site/{}.key", site.name)];
            holder.file(context, out, &site_pem(&site.name), &materials)?;
        }
        Ok(())
    }
}
