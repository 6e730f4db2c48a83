//! TLS of the database: takes a context, adds the certificates of a db host, which a running server takes without a restart, and the
//! probe that shows by a handshake in the server's own protocol that the right one is served.

use std::net::SocketAddr;
use std::time::Duration;

use super::engine::Flavor;
use super::{FOLDER, NAME};
use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::secret::sentinel;
use crate::plan::state::{Access, File, Folder, Follow, Phase, Probe};
use crate::service::Context;
use crate::service::claims::Claims;
use crate::service::firewall::flows::DATABASE;
use crate::service::nginx::by_name;

const PHASE: Phase = Phase::Primary;

/// The server reads them as the user `mysql`.
fn access(mode: u32) -> Access {
    Access { owner: "root".into(), group: "mysql".into(), mode }
}

/// Adds them. The setter of [`settings`](super::settings) tells the running server.
pub(super) fn want(context: &Context<'_>, flavor: Flavor, out: &mut Claims) -> Result<(), Diagnostic> {
    out.folder(FOLDER, Folder { phase: PHASE, access: access(0o750) })?;
    let mut pem = |name: &str, material: Material, told: bool| {
        let then = told.then(|| (flavor.unit().to_owned(), Follow::Set)).into_iter();
        let file = File {
            service: NAME,
            phase: PHASE,
            access: access(0o640),
            body: context.body(sentinel(&material))?,
            then: then.collect(),
            about: context.materials.about(&material).map(ToOwned::to_owned),
        };
        out.file(&format!("{FOLDER}/{name}"), file)
    };
    pem("ca.crt", Material::HopAuthorities, true)?;
    // Who connects with the client's certificate reads it anew each time.
    for (purpose, told) in [(Purpose::Server, true), (Purpose::Client, false)] {
        let id = CertificateId::Hop { host: context.host.name.clone(), purpose };
        pem(&format!("{purpose}.crt"), Material::Certificate(id.clone()), told)?;
        pem(&format!("{purpose}.key"), Material::Key(id), told)?;
    }
    if let Some(address) = context.host.addresses.first() {
        let socket = SocketAddr::new(*address, DATABASE);
        out.probe(Probe {
            phase: PHASE,
            title: format!("the database shows the right certificate on {socket}"),
            command: (waits(flavor) + &shows(socket, &context.site.internal_name(&context.host.name))).into(),
            within: Duration::from_secs(20),
            advisory: false,
        });
    }
    Ok(())
}

/// sh text: all is well with a server that was there before infra, and that has another certificate until a person lets it restart.
fn waits(flavor: Flavor) -> String {
    let (dialect, unit) = (flavor.dialect(), flavor.unit());
    format!(
        "{dialect}\n[ ! -e /run/infra/held/{unit} ] || [ \"$(sql 'SELECT @@ssl_cert')\" = {FOLDER}/server.crt ] || exit 0\n"
    )
}

/// sh text: a handshake in the server's protocol shows the leaf that was deployed, and it verifies. The server greets only an address that
/// has an account, as each db host's own has (`infra_repl`). The connection ends without a login, so the exit code says nothing.
fn shows(socket: SocketAddr, name: &str) -> String {
    format!(
        "want=$(openssl x509 -in {FOLDER}/server.crt -noout -fingerprint -sha256) || exit 1\n\
         seen=$(timeout 5 openssl s_client -connect '{socket}' -starttls mysql {} -CAfile {FOLDER}/ca.crt </dev/null 2>&1)\n\
         got=$(printf '%s\\n' \"$seen\" | openssl x509 -noout -fingerprint -sha256 2>/dev/null) ||\n\
         {{ printf '%s\\n' \"$seen\" | grep -i -e error -e errno | head -n 3; echo 'no certificate is shown'; exit 1; }}\n\
         [ \"$want\" = \"$got\" ] || {{ echo 'another certificate is served than the one deployed'; exit 1; }}\n\
         case $seen in *'Verify return code: 0 (ok)'*) exit 0 ;; esac\n\
         printf '%s\\n' \"$seen\" | grep -e 'Verify return code'\n\
         exit 1",
        by_name(name)
    )
}
