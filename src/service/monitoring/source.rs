//! The URL of the HTTP source: takes what stands behind the inventory's reference, says what is wrong with it, and never what it is.

/// Refuses what is not `https://HOST/PATH` on the usual port.
///
/// # Errors
/// What is wrong, after the secret's name.
pub(super) fn admit(url: &str) -> Result<(), String> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("is not an https URL: copy the address of the HTTP source, which begins with `https://`".into());
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains(['@', ':', '[']) {
        return Err("has a port or a login in its host: the firewall lets the agents out to port 443 alone".into());
    }
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if host.is_empty() || !host.chars().all(named) || !host.contains('.') {
        return Err("does not name a host: copy the whole address of the HTTP source".into());
    }
    if path.is_empty() {
        return Err("has no path: the code of the source comes behind the host's name, copy the whole address".into());
    }
    // It stands in configurations that have quotes and variables of their own.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~=%+&?".contains(c);
    if !path.chars().all(plain) {
        return Err("has a character that no such address has: copy the whole address, and nothing else".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::admit;

    #[test]
    fn only_the_address_of_a_source_is_taken() {
        let good = "https://endpoint1.collection.eu.sumologic.com/receiver/v1/http/ZaVnC4dhaV2x-_8=";
        admit(good).unwrap();
        for (url, why) in [
            ("http://endpoint1.collection.sumologic.com/receiver/v1/http/Za", "not an https URL"),
            ("ZaVnC4dhaV2x", "not an https URL"),
            ("https://endpoint1.collection.sumologic.com", "no path"),
            ("https://endpoint1.collection.sumologic.com/", "no path"),
            ("https://sumo.example.com:8443/receiver/v1/http/Za", "a port"),
            ("https://me@sumo.example.com/receiver/v1/http/Za", "a login"),
            ("https:///receiver", "does not name a host"),
            ("https://sumo/receiver", "does not name a host"),
            ("https://sumo.example.com/receiver/v1/http/Z a", "a character"),
            ("https://sumo.example.com/receiver/v1/http/Z`a", "a character"),
        ] {
            let said = admit(url).unwrap_err();
            assert!(said.contains(why), "{url}: {said}");
            assert!(!said.contains("Za"), "{said}");
        }
    }
}
