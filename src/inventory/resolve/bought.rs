//! `certificate:` of a site: takes the section and the site's names, reads the files, gives the certificate, or all that keeps it
//! from being shown for the site. The key is a secret, and is looked at by those who may read it.

use std::path::Path;

use time::OffsetDateTime;

use crate::base::chain::Chain;
use crate::base::diagnostic::Diagnostic;
use crate::base::fsx;
use crate::base::warning::Warning;
use crate::base::words::count;
use crate::inventory::bought::Bought;
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Problems, expand};

/// More than any chain takes, bytes.
const LARGEST: u64 = 256 * 1024;

/// Reads the section of `site`, whose names and addresses are `wanted`.
pub(super) fn bought(
    entry: &Entry,
    (site, wanted): (&str, &[String]),
    folder: &Path,
    problems: &mut Problems,
) -> Option<Bought> {
    let what = format!("`certificate` of site `{site}`");
    let fields = problems.fields(entry, &what, &["cert", "key", "ca"])?;
    let help =
        "write `cert: shop.pem`, the file with the site's certificate and its intermediates, beside the inventory";
    let cert = problems.require(fields, &what, "cert", help);
    let help = "write where the private key is kept: `key: { file: shop.key }`, `{ env: VARIABLE }` or `{ command: [program, argument] }`";
    let key_entry = problems.require(fields, &what, "key", help);
    let key = key_entry.and_then(|entry| problems.secret(&entry.value, "key"));
    let ca = fields.value("ca").map(|node| chain(node, "ca", folder, problems));
    let node = &cert?.value;
    let chain = chain(node, "cert", folder, problems)?;
    let ca = match ca {
        Some(None) => return None,
        Some(Some(ca)) => Some(ca),
        None => None,
    };
    let now = OffsetDateTime::now_utc();
    let faults = chain.faults(wanted, ca.as_ref(), now);
    let whole = faults.is_empty();
    for (what, help) in faults {
        problems.push(Diagnostic::error(format!("the certificate of `{site}` {what}")).at(&node.span()).help(help));
    }
    if !whole {
        return None;
    }
    let seconds = now.unix_timestamp();
    if seconds >= chain.due() {
        let left = count((chain.not_after - seconds) / 86_400, "day");
        problems.push(
            Diagnostic::warning(Warning::CertificateEnds, format!("the certificate of `{site}` ends in {left}"))
                .at(&node.span())
                .label("it was bought, so nobody renews it but you")
                .help("get its successor, put that into the file, and run `infra apply`"),
        );
    }
    if chain.must_staple {
        problems.push(
            Diagnostic::warning(
                Warning::MustStaple,
                format!("the certificate of `{site}` asks for a stapled answer of OCSP"),
            )
            .at(&node.span())
            .label("the load balancers staple none, and some browsers refuse it then")
            .help("have it issued without `must-staple` (RFC 7633)"),
        );
    }
    let is_by_ca = ca.is_some();
    let trust = ca.map_or_else(|| chain.top(), |ca| ca.pem);
    let key_span = key_entry?.value.span();
    Some(Bought { file: expand(node.text()?), chain, key: key?, key_span, trust, is_by_ca, span: node.span() })
}

/// Reads a file of certificates that the inventory names.
fn chain(node: &Node, key: &str, folder: &Path, problems: &mut Problems) -> Option<Chain> {
    let path = folder.join(expand(problems.text(node, key)?));
    let mut refuse = |why: String, help: String| {
        problems.push(Diagnostic::error(format!("`{}` {why}", path.display())).at(&node.span()).help(help));
        None
    };
    let beside = "put the file there; its path is relative to the inventory".to_owned();
    let bytes = match fsx::read_named(&path, LARGEST) {
        Ok(bytes) => bytes,
        Err(e) => return refuse(format!("cannot be read: {e}"), beside),
    };
    // What is no text is no PEM either.
    match Chain::read(&String::from_utf8_lossy(&bytes)) {
        Ok(chain) => Some(chain),
        Err((why, help)) => refuse(why, help),
    }
}
