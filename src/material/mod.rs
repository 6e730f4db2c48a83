//! Materials from all their sources: takes the site, its services, the state folder and the clock, gives everything that stands
//! behind sentinels. The sources are the internal authorities, the public certificates, and the secrets that services declare:
//! the inventory refers to them, or infra makes and keeps them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use crate::base::material::{Material, SecretId};
use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::base::secret::Secret;
use crate::inventory::reveal::reveal;
use crate::inventory::site::Site;
use crate::pki::{self, Issued};
use crate::service::{SecretWanted, Service, Services};

pub mod bought;
mod error;
pub mod passwords;

pub use error::Error;

/// What the inventory refers to, as far as it was read in this run: a command is run once.
pub type Revealed = BTreeMap<Material, Secret>;

/// All materials that `hosts` may have, as far as they are made. Certificates of our own authorities that are missing or due are
/// made; what the inventory refers to is read, once a run; a password that was never needed is not made yet, and planned with a text
/// in its place, as is what none of these hosts may have.
///
/// # Errors
/// See [`Error`].
pub fn gather(
    site: &Site,
    services: Services,
    hosts: &BTreeSet<HostName>,
    revealed: &mut Revealed,
    now: OffsetDateTime,
) -> Result<Issued, Error> {
    let mut issued = pki::ensure(site, &site.state, now)?;
    bought::add(site, hosts, revealed, &mut issued.materials)?;
    let declared = declared(site, services)?;
    if declared.is_empty() {
        return Ok(issued);
    }
    let kept = passwords::read(&site.state, &site.name)?;
    for (service, id, wanted) in declared {
        let materials = &mut issued.materials;
        match (&wanted.given, kept.get(&id)) {
            (Some(_), _) if !hosts.iter().any(|host| wanted.owner.has(host)) => {
                materials.add_unmade(Material::Secret(id), wanted.owner);
            }
            (Some(reference), _) => {
                let value = match revealed.entry(Material::Secret(id.clone())) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        let value = reveal(&id.to_string(), reference, &site.folder).map_err(Error::Unread)?;
                        let admitted = service.admit_secret(&wanted.name, value.reveal());
                        admitted.map_err(|why| Error::Unread(format!("`{id}` {why}")))?;
                        place.insert(value)
                    }
                };
                materials.add_secret(Material::Secret(id), value.reveal(), wanted.owner);
            }
            (None, Some(password)) => keep(materials, id, password, &wanted),
            (None, None) => materials.add_unmade(Material::Secret(id), wanted.owner),
        }
    }
    Ok(issued)
}

/// Makes the passwords that hosts of a run may have and that are not made yet, and gives whether there was any.
///
/// # Errors
/// See [`Error`].
pub fn make(
    site: &Site,
    services: Services,
    hosts: &BTreeSet<HostName>,
    materials: &mut Materials,
) -> Result<bool, Error> {
    let mut declared = declared(site, services)?;
    declared.retain(|(_, id, wanted)| {
        wanted.given.is_none()
            && hosts.iter().any(|host| wanted.owner.has(host))
            && materials.is_unmade(&Material::Secret(id.clone()))
    });
    if declared.is_empty() {
        return Ok(false);
    }
    let made = passwords::make(&site.state, &site.name, declared.iter().map(|(_, id, _)| id.clone()))?;
    for (_, id, wanted) in declared {
        if let Some(password) = made.get(&id) {
            keep(materials, id, password, &wanted);
        }
    }
    Ok(true)
}

/// Stand-ins for every material, for `check` and `render`: no state is read or made, and no secret is looked up.
///
/// # Errors
/// [`Error::Name`].
pub fn placeholders(site: &Site, services: Services) -> Result<Materials, Error> {
    let mut materials = pki::placeholders(site);
    for (_, id, wanted) in declared(site, services)? {
        materials.add_unmade(Material::Secret(id), wanted.owner);
    }
    Ok(materials)
}

fn keep(materials: &mut Materials, id: SecretId, password: &passwords::Password, wanted: &SecretWanted) {
    if let Some(previous) = password.reveal_previous() {
        materials.add_secret(Material::PreviousSecret(id.clone()), previous, wanted.owner.clone());
    }
    materials.add_secret(Material::Secret(id), password.reveal(), wanted.owner.clone());
}

/// What all services declare. The name of a service is a part of its secrets' names, so that none can claim another's.
fn declared(site: &Site, services: Services) -> Result<Vec<(&'static dyn Service, SecretId, SecretWanted)>, Error> {
    let each = services.0.iter().flat_map(|service| {
        service.secrets(site).into_iter().map(|wanted| {
            let id = SecretId::new(service.name(), &wanted.name).map_err(|error| Error::Name {
                service: service.name(),
                name: wanted.name.clone(),
                why: error.reason,
            })?;
            Ok((*service, id, wanted))
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests;
