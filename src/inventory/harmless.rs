//! What of an inventory may be shown beside a mistake: takes the keys that lead to a value or a key, says whether it is known to be no
//! secret. Where a section can hold secrets, what is not known is hidden: people put them under the wrong key, and in the wrong shape.

use crate::base::diagnostic::did_you_mean;
use crate::inventory::site::KeyKind;

/// The sections in which no secret has a place.
const OPEN: [&str; 11] =
    ["name", "include", "state", "ssh", "hosts", "ports", "drain", "edge", "firewall", "sites", "silence"];
/// The sections in which some have.
const CLOSED: [&str; 3] = ["database", "monitoring", "certificates"];
/// Keys whose value is a secret.
const SECRET_KEYS: [&str; 4] = ["password", "token", "source", "key"];
/// The places of a secret.
const REFERENCE: [&str; 3] = ["env", "file", "command"];
/// What services and engines are called: such a word is no secret, but where one is asked for.
const NAMES: [&str; 5] = ["mariadb", "mysql", "prometheus", "sumologic", "telegraf"];
/// The keys of what a site asks a password for; `users` are a secret, as is what is misspelled there.
const AUTH: [&str; 3] = ["path", "users", "realm"];
/// All keys whose values are no secrets, wherever they stand.
const KEYS: [&str; 72] = [
    "address",
    "after",
    "agent",
    "alerts",
    "aliases",
    "allow",
    "allow_mixed_roles",
    "app",
    "backend",
    "become",
    "block",
    "body",
    "category",
    "challenge",
    "check_dns",
    "config",
    "contact",
    "eab",
    "engine",
    "fallback",
    "fingerprint",
    "from",
    "grants",
    "group",
    "health",
    "hook",
    "hot_swap",
    "hsts",
    "identity",
    "idle",
    "include_subdomains",
    "issuer",
    "jump",
    "kid",
    "logs",
    "manage_from",
    "maintenance",
    "max_age",
    "max_lag",
    "multiline",
    "on",
    "page",
    "path",
    "port",
    "prefix",
    "preload",
    "primary",
    "profile",
    "proto",
    "public",
    "redirect",
    "reload",
    "remove",
    "repository",
    "resolvers",
    "response",
    "retry_after",
    "roles",
    "root",
    "schema",
    "schemas",
    "semi_sync",
    "service",
    "settings",
    "signed_by",
    "ssh",
    "static",
    "sticky",
    "to",
    "url",
    "user",
    "why",
];

/// Whether no secret has a place in a section, as far as its name says.
pub(super) fn is_open(section: &str) -> bool {
    OPEN.contains(&section)
}

/// Whether a value of this key is no secret, wherever it stands.
pub(super) fn is_known(key: &str) -> bool {
    KEYS.contains(&key)
}

/// Whether a word is one of the inventory's own: a key, a section, or what a service is called.
pub(super) fn is_ours(word: &str) -> bool {
    is_known(word) || is_open(word) || CLOSED.contains(&word) || NAMES.contains(&word)
}

/// Whether a text is what a site's `key` says, which is no key.
fn is_kind_of_key(text: &str) -> bool {
    [KeyKind::EcdsaP256, KeyKind::Rsa2048].iter().any(|kind| kind.as_str() == text)
}

/// Whether a value may be shown. `listed`: it is an item of a list.
pub(super) fn value(path: &[&str], text: &str, listed: bool) -> bool {
    if matches!(path, ["sites", _, "key"]) && is_kind_of_key(text) {
        return true;
    }
    // Names and hashes where the map should be.
    if let ["sites", _, "auth"] = path {
        return false;
    }
    if let Some(at) = secret(path) {
        return match (path.get(at + 1..).unwrap_or_default(), listed) {
            (["env"], false) => is_variable(text),
            (["file"], false) => !text.contains("://"),
            (["command"], true) => true,
            _ => false,
        };
    }
    let Some((last, [section, ..])) = path.last().zip(Some(path)) else { return false };
    // A key may have come into the place of its file's name.
    if let ["sites", _, "certificate", within @ ..] = path {
        let known = |key: &str| did_you_mean(key, ["cert", "ca"]).is_some() || matches!(key, "cert" | "ca");
        return matches!(within, [key] if known(key)) && !text.contains("-----") && !text.contains("://");
    }
    if is_open(section) || NAMES.contains(&text) {
        return true;
    }
    // The address of a source of Sumo Logic is a secret, and that of anything else may hold one.
    if text.contains("://") && (text.contains(['@', '?']) || !matches!(*last, "issuer" | "url")) {
        return false;
    }
    match path {
        ["database", "engine" | "primary" | "schemas" | "max_lag" | "semi_sync"]
        | ["database", "settings", _]
        | ["database", "users", _, "schema" | "from" | "grants" | "group" | "reload" | "remove"]
        | ["monitoring", "service" | "agent" | "from"]
        | ["monitoring", "logs", "path" | "on" | "category" | "multiline"]
        | ["monitoring", "alerts", _]
        | ["monitoring", "alerts", _, _]
        | ["monitoring", "repository", "url" | "signed_by" | "fingerprint"]
        | ["certificates", "issuer" | "contact" | "challenge" | "hook" | "profile" | "hot_swap" | "check_dns"]
        | ["certificates", "eab", "kid"]
        | ["certificates", "fallback", "issuer" | "after"]
        | ["certificates", "fallback", "eab", "kid"] => true,
        [section, ..] if CLOSED.contains(section) => false,
        // A person's own section, or a misspelled one.
        _ => is_known(last),
    }
}

/// Whether a key of the map to which `path` leads may be shown.
pub(super) fn key(path: &[&str], text: &str) -> bool {
    let near = |known: &[&str]| known.contains(&text) || did_you_mean(text, known.iter().copied()).is_some();
    let word = text.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-'));
    if secret(path).is_some() {
        return near(&REFERENCE);
    }
    if let ["sites", _, "auth"] = path {
        return near(&AUTH);
    }
    match path {
        // `name:shop` is a mistake that is only seen when it is shown.
        [] => {
            word || text.starts_with("x-")
                || near(&OPEN)
                || near(&CLOSED)
                || text.split(':').next().is_some_and(is_open)
        }
        ["database", "users" | "settings"] | ["monitoring", "alerts"] | ["monitoring", "alerts", _] => {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        }
        [section, ..] if is_open(section) => true,
        [section, ..] => {
            near(&KEYS)
                || near(&OPEN)
                || near(&CLOSED)
                || (word && (is_sensitive(text, None) || !CLOSED.contains(section)))
                || text == "users"
        }
    }
}

/// Where on the way a key stands whose value is a secret.
fn secret(path: &[&str]) -> Option<usize> {
    (0..path.len()).find(|at| {
        let parent = at.checked_sub(1).and_then(|above| path.get(above)).copied();
        let of_site = path.first() == Some(&"sites") && *at > 2;
        let is_user = |key: &str| of_site && (key == "users" || (parent == Some("auth") && !AUTH.contains(&key)));
        path.get(*at).is_some_and(|key| is_user(key) || is_sensitive(key, parent))
    })
}

/// Whether what stands under `key` may be a secret, misspelled keys included. Under `hosts`, `sites` and `users` keys are names.
pub(super) fn is_sensitive(key: &str, parent: Option<&str>) -> bool {
    if matches!(parent, Some("hosts" | "sites" | "users")) {
        return false;
    }
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.contains(&key.as_str())
        || ["pass", "secret", "token", "apikey", "api_key", "credential"].iter().any(|part| key.contains(part))
        || (key.len() > 3 && SECRET_KEYS.iter().any(|known| strsim::jaro_winkler(&key, known) > 0.85))
}

/// Whether `text` can be the name of an environment variable (POSIX.1-2024 base definitions 8.1).
pub(super) fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_shown_and_all_else_is_not() {
        for (path, text) in [
            (&["hosts", "web1", "address"][..], "10.0.0.1"),
            (&["database", "users", "shop", "schema"], "shop"),
            (&["database", "users", "shop", "password", "env"], "DB_PASSWORD"),
            (&["certificates", "issuer"], "https://acme.example.com/directory"),
            (&["x-admin", "user"], "ops"),
            (&["sites", "shop.example.com", "key"], "rsa-2048"),
            (&["database", "service"], "mariadb"),
            (&["monitoring", "kind"], "prometheus"),
        ] {
            assert!(value(path, text, false), "{path:?}");
        }
        for (path, text) in [
            (&["sites", "shop.example.com", "auth", "path"][..], "/admin/"),
            (&["sites", "shop.example.com", "auth", "users", "file"], "users.htpasswd"),
        ] {
            assert!(value(path, text, false), "{path:?}");
        }
        for (path, text) in [
            (&["sites", "shop.example.com", "auth"][..], "hunter2"),
            (&["sites", "shop.example.com", "auth", "users"], "hunter2"),
            (&["sites", "shop.example.com", "auth", "user"], "hunter2"),
            (&["sites", "shop.example.com", "auht", "users"], "hunter2"),
            (&["sites", "shop.example.com", "auth", "users", "command"], "hunter2"),
            (&["database"], "hunter2"),
            (&["database", "users"], "hunter2"),
            (&["database", "users", "shop"], "hunter2"),
            (&["database", "users", "shop", "pw"], "hunter2"),
            (&["database", "users", "shop", "password"], "hunter2"),
            (&["database", "users", "shop", "password", "env"], "hunter-2"),
            (&["database", "users", "shop", "password", "command"], "hunter2"),
            (&["monitoring", "service"], "https://collectors.example.com/hunter2"),
            (&["monitoring", "url"], "https://collectors.example.com/hunter2"),
            (&["certificates", "issuer"], "https://ops:hunter2@acme.example.com/"),
            (&["monitorig", "sorce"], "https://collectors.example.com/hunter2"),
            (&["x-any", "thing"], "hunter2"),
            (&["sites", "shop.example.com", "key"], "hunter2"),
            (&["certificates", "key"], "rsa-2048"),
            (&["database", "users", "shop", "password"], "mariadb"),
            (&[], "hunter2"),
        ] {
            assert!(!value(path, text, false), "{path:?}");
        }
        assert!(key(&["database", "users", "shop"], "passwrod") && key(&["monitoring"], "servcie"));
        assert!(key(&["database"], "databases") && key(&["monitoring"], "host") && !key(&["database"], "shop"));
        assert!(!key(&["database", "users", "shop", "password"], "hunter2") && !key(&["monitoring"], "hunter2"));
        assert!(!key(&["sites", "shop.example.com", "auth"], "hunter2"));
        assert!(!key(&[], "https://hunter2") && !key(&["monitoring"], "correcthorse"));
    }
}
