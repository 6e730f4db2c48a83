//! Whose a material is: takes the site and the material, gives the hosts that may have it.

use crate::base::material::{CertificateId, Material};
use crate::base::materials::Owner;
use crate::inventory::site::{Role, Site};

/// What a host shows to others is its own, and so is it with who watches from outside; what belongs to a site is the load balancers', whom to trust is everyone's to know.
/// Whose a secret of a service is, the service declares: here it is nobody's.
pub fn owner(site: &Site, material: &Material) -> Owner {
    let edge = || Owner::Hosts(site.with_role(Role::Lb).map(|h| h.name.clone()).collect());
    match material {
        Material::HopAuthorities | Material::SiteAuthorities => Owner::All,
        Material::Certificate(CertificateId::Hop { host, .. }) | Material::Key(CertificateId::Hop { host, .. }) => {
            if site.hosts.contains_key(host) || site.outside_watcher().as_ref() == Some(host) {
                Owner::host(host)
            } else {
                Owner::Nobody
            }
        }
        Material::Certificate(CertificateId::Site(_))
        | Material::Key(CertificateId::Site(_))
        | Material::SiteNames(_)
        | Material::SiteUnrooted(_)
        | Material::AccountThumbprint => edge(),
        Material::Secret(_) | Material::PreviousSecret(_) => Owner::Nobody,
    }
}
