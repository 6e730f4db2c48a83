//! The keys of certificates that were bought: takes the inventory's reference, reads the key where it is needed, and holds it against
//! its certificate. No error has anything of a key in it.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use super::{Error, Revealed};
use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material};
use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::base::secret::Secret;
use crate::base::warning::Warning;
use crate::inventory::owner::owner;
use crate::inventory::reveal::reveal;
use crate::inventory::site::{Bought, SecretRef, Site, WebSite};
use crate::pki::given;

fn of(site: &Site) -> impl Iterator<Item = (&WebSite, &Bought, Material)> {
    site.sites.values().filter_map(|web| {
        let material = Material::Key(CertificateId::Site(web.name.clone()));
        Some((web, web.certificate.as_ref()?, material))
    })
}

/// The key as it goes to a host, or why that is not the certificate's.
fn read(site: &Site, bought: &Bought, material: &Material) -> Result<Secret, String> {
    let name = material.to_string();
    let value = reveal(&name, &bought.key, &site.folder)?;
    let pem = given::of(value.reveal(), &bought.chain.public_key).map_err(|why| format!("`{name}` {why}"))?;
    Ok(Secret::new(name, pem))
}

/// Adds the keys that `hosts` may have; of the others, that they are there.
pub(super) fn add(
    site: &Site,
    hosts: &BTreeSet<HostName>,
    revealed: &mut Revealed,
    materials: &mut Materials,
) -> Result<(), Error> {
    for (web, bought, material) in of(site) {
        let owner = owner(site, &material);
        materials.describe(material.clone(), format!("key of {}, {}", web.name, bought.about()));
        if !hosts.iter().any(|host| owner.has(host)) {
            materials.add_unmade(material, owner);
            continue;
        }
        let value = match revealed.entry(material.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(read(site, bought, &material).map_err(Error::Unread)?),
        };
        materials.add_secret(material, value.reveal(), owner);
    }
    Ok(())
}

/// What is wrong with the keys, as far as it can be told without running a command: who checks an inventory need not have them.
pub fn look(site: &Site) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (web, bought, material) in of(site) {
        let there = match &bought.key {
            SecretRef::File(path) if !site.folder.join(path).exists() => {
                let what = format!(
                    "the key of the certificate of `{}` is in `{}`, which is not there",
                    web.name,
                    path.display()
                );
                let help = "put the file there before you run `diff` or `apply`; its path is relative to the inventory";
                found.push(Diagnostic::warning(Warning::AbsentSecret, what).at(&bought.key_span).help(help));
                continue;
            }
            SecretRef::File(_) => true,
            SecretRef::Env(variable) => std::env::var_os(variable).is_some(),
            SecretRef::Command(_) => false,
        };
        if there && let Err(why) = read(site, bought, &material) {
            let help = format!("name the key for which `{}` was issued", bought.file.display());
            found.push(Diagnostic::error(why).at(&bought.key_span).help(help));
        }
    }
    found
}
