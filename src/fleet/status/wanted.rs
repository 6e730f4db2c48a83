//! What a status is held against: takes what services want on a host, gives the part of it that is compared.

use super::Wanted;
use crate::base::material::Material;
use crate::base::secret::held;
use crate::plan::state::DesiredHost;

/// Nothing of it depends on secrets, so stand-ins may have been rendered in their place.
pub fn of(desired: DesiredHost) -> Wanted {
    let mut wanted = Wanted { units: desired.units.into_keys().collect(), ..Wanted::default() };
    for (path, file) in desired.files {
        for material in held(&file.body.text) {
            if let Material::Certificate(id) = material {
                wanted.certificates.insert(id);
            }
        }
        wanted.access.insert(path, file.access);
    }
    wanted
}
