//! What the load balancers show: takes the site and connections, makes a handshake on each load balancer for each name, gives
//! the leaf that was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::net::HostName;
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::transport::Script;
use crate::inventory::site::{Host, Role, Site, WebSite};

/// A leaf that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// Of its DER, lower-case hex.
    pub sha256: String,
    /// As openssl(1) writes it.
    pub not_after: String,
}

/// By name; `None` where no handshake came about.
pub type Shown = BTreeMap<String, Option<Leaf>>;

/// Asks every load balancer of `hosts` on itself, so that neither NAT nor a name server stands between.
pub fn look(
    site: &Site,
    hosts: &BTreeSet<HostName>,
    connector: &dyn Connector,
    parallel: usize,
) -> BTreeMap<HostName, Result<Shown, String>> {
    let lbs: Vec<&Host> = site.with_role(Role::Lb).filter(|h| hosts.contains(&h.name)).collect();
    let names: Vec<String> = site
        .sites
        .values()
        .flat_map(WebSite::names)
        // A wildcard's certificate stands for any name below it.
        .map(|name| name.as_str().replace('*', "infra-probe"))
        .collect();
    let asked = run::each(lbs, parallel, |host| (host.name.clone(), ask(host, &names, connector)));
    asked.into_iter().collect()
}

fn ask(host: &Host, names: &[String], connector: &dyn Connector) -> Result<Shown, String> {
    let mut transport = connector.connect(host).map_err(|e| e.to_string())?;
    let ipv4 = host.addresses.iter().chain(&host.public).any(std::net::IpAddr::is_ipv4);
    let script = Script::new("look at the certificates", script(names, if ipv4 { "127.0.0.1" } else { "[::1]" }));
    let output = transport.run(&script, b"").map_err(|e| e.to_string())?;
    Ok(parse(names, &String::from_utf8_lossy(&output.stdout)))
}

fn script(names: &[String], loopback: &str) -> String {
    let mut text = String::new();
    for name in names {
        text.push_str(&format!(
            "echo '@ {name}'\ntimeout 5 openssl s_client -connect '{loopback}:443' -servername '{name}' </dev/null 2>/dev/null \
             | openssl x509 -noout -fingerprint -sha256 -enddate 2>/dev/null\n"
        ));
    }
    text
}

fn parse(names: &[String], text: &str) -> Shown {
    let mut shown: Shown = names.iter().map(|name| (name.clone(), None)).collect();
    for part in text.split("@ ").skip(1) {
        let mut lines = part.lines();
        let Some(slot) = lines.next().and_then(|name| shown.get_mut(name)) else { continue };
        let field = |start: &str| {
            let line = part.lines().find(|l| l.to_ascii_lowercase().starts_with(start))?;
            line.split_once('=').map(|(_, value)| value.to_owned())
        };
        if let (Some(print), Some(not_after)) = (field("sha256 fingerprint="), field("notafter=")) {
            *slot = Some(Leaf { sha256: print.replace(':', "").to_ascii_lowercase(), not_after });
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_name() {
        let names = ["a.example.com".to_owned(), "b.example.com".to_owned()];
        let text = "@ a.example.com\nsha256 Fingerprint=AB:01\nnotAfter=Feb 21 12:00:00 2027 GMT\n@ b.example.com\n";
        let shown = parse(&names, text);
        let leaf = Leaf { sha256: "ab01".into(), not_after: "Feb 21 12:00:00 2027 GMT".into() };
        assert_eq!(shown, BTreeMap::from([(names[0].clone(), Some(leaf)), (names[1].clone(), None)]));
    }
}
