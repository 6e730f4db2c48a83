//! A host that stays as it is while others close what it used: takes one that was seen at the new end, gives a hold on it, or why it
//! does not count as moved.

use crate::base::net::HostName;
use crate::fleet::moved::is_moved;
use crate::fleet::survey::{self, Connector};
use crate::host::drain;
use crate::host::transport::{Hold, Transport, TransportError};
use crate::inventory::site::Site;
use crate::plan::state::DesiredHost;
use crate::service::Services;

/// A host that is held as it is while others close what it used.
pub(super) struct Still {
    // It goes before the connection that it lives by.
    _lock: Box<dyn Hold>,
    _transport: Box<dyn Transport>,
}

/// Takes the lock of a host that was seen at the new end, and looks again under it.
///
/// # Errors
/// Why it does not count as moved.
pub(super) fn hold(
    (site, services): (&Site, Services),
    (host, wanted): (&HostName, &DesiredHost),
    session: Option<Box<dyn Transport>>,
    connector: &dyn Connector,
    by: (&str, &str),
) -> Result<Still, String> {
    let away = |error: TransportError| format!("it does not answer any more: {error}");
    let connect = || site.hosts.get(host).map(|host| connector.connect(host));
    let ask = |mut transport: Box<dyn Transport>| {
        let held = survey::hold(services, transport.as_mut(), wanted, by)?;
        Ok((held, transport))
    };
    // A connection may have been cut since the plan was made.
    let held = match session.map(ask) {
        Some(Ok(held)) => Ok(held),
        _ => connect().ok_or("it is not in the inventory")?.and_then(ask),
    };
    let (held, mut transport) = held.map_err(away)?;
    let (lock, seen) = held.map_err(|holder| format!("another run works on it: {holder}"))?;
    if !is_moved(wanted, &seen) {
        return Err("it has changed since the plan was made".to_owned());
    }
    let former = drain::ask(transport.as_mut(), &wanted.drains).map_err(away)?;
    if !former.is_empty() {
        return Err(former.join("; "));
    }
    Ok(Still { _lock: lock, _transport: transport })
}
