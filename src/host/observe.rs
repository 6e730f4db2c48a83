//! The question what a host is: makes the observing script from what services ask, and its request from what is wanted.
//!
//! Missing tools and files are facts, not failures.

use std::collections::BTreeSet;

use crate::base::secret;
use crate::base::sh::quote;
use crate::host::transport::Script;
use crate::host::wire::WIRE;
use crate::plan::state::DesiredHost;
use crate::service::{Services, WAYS};

/// The observing script for what [`request()`] asks.
pub fn script(services: Services, request: &str) -> Script {
    Script::new("observe", format!("{}exit 0\n", text(services, request)))
}

/// The same with the gauges of the services, and what passes of the host itself; `twice` is whether counters are read twice, a second
/// apart.
pub fn script_with_gauges(services: Services, request: &str, twice: bool) -> Script {
    let mut gauges = format!("twice={}\n{GAUGES}", if twice { "yes" } else { "no" });
    for (service, gauge) in services.gauges() {
        gauges.push_str(&part("gauge of", service, "true", &(gauge.script)()));
    }
    Script::new("observe", format!("{}{gauges}exit 0\n", text(services, request)))
}

/// The clock; then the blocks that anyone may use, and their size. No plan depends on either.
const GAUGES: &str = "emit clock \"$(date +%s)\"
set -- $(stat -f -c '%a %S' \"$ROOT/var/lib\")
emit free \"$((${1:-0} * ${2:-0} / 1024))\"
";

/// Folders of ours, and of others in which we have something: those on the way to them are looked at on each host.
const FOLDERS: [&str; 7] = [
    "/var/lib/infra/runs",
    "/var/lib/infra/owed",
    "/var/lib/infra/made",
    "/run/infra/held",
    "/run/infra/untold",
    "/etc/infra",
    "/etc/systemd/system",
];

/// What a service asks, in a subshell of its own.
fn part(of: &str, service: &str, when: &str, lines: &str) -> String {
    format!(
        "if [ -z \"$odd\" ] && {{ {when}; }}; then emit '{of} {service}' \"$(\n{lines}\n)\"; else emit '{of} {service}' ''; fi\n"
    )
}

fn text(services: Services, request: &str) -> String {
    let (mut units, mut records, mut digests) = (Vec::<&str>::new(), Vec::new(), Vec::new());
    let mut parts = String::new();
    let (looks, rules) = services.looks();
    for (service, inquiry) in services.inquiries() {
        units.extend(inquiry.units);
        records.extend(inquiry.records.iter().map(|path| format!("./{path}")));
        digests.extend(inquiry.digests.iter().map(|path| format!(".{path}")));
        let lines = (inquiry.script)();
        if !lines.is_empty() {
            parts.push_str(&part("of", service, inquiry.when, &lines));
        }
    }
    let script = include_str!("scripts/observe.sh")
        .replace("UNITS", &units.join(" "))
        .replace("RECORDS", &records.join(" "))
        .replace("DIGESTS", &digests.join(" "))
        .replace("LOOKS", &looks)
        .replace("AWK", &quote(&format!("{}{rules}", include_str!("scripts/observe.awk"))));
    request.to_owned() + &bare(&format!("{WAYS}\n{WIRE}\n{script}\n{parts}"))
}

/// Without the lines that are for people: every host is sent all of it each time, and parses it.
fn bare(script: &str) -> String {
    let lines = script.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.fold(String::with_capacity(script.len()), |text, line| text + line + "\n")
}

/// What the observing script is asked, as lines of it: the paths, units and packages that matter for `desired`, and to `services`.
pub fn request(services: Services, desired: &DesiredHost) -> String {
    // A host's copy of a file with a secret may hold a secret that we do not know: its text never comes here.
    let (open, secret): (Vec<_>, Vec<_>) =
        desired.files.iter().partition(|(_, file)| secret::names(&file.body.text).is_empty());
    let digests: Vec<String> = open.iter().map(|(path, file)| format!("{}  .{path}", file.body.digest)).collect();
    let paths = desired.files.keys().chain(desired.folders.keys()).map(String::as_str);
    let mut on_ways: BTreeSet<&str> = FOLDERS.into_iter().collect();
    for path in paths.chain(FOLDERS) {
        let parents = path.match_indices('/').filter(|(at, _)| *at > 0).map(|(at, _)| path.get(..at).unwrap_or(path));
        on_ways.extend(parents);
    }
    let products: BTreeSet<&str> = services.products().flat_map(|product| product.packages).copied().collect();
    let asked = services.inquiries().flat_map(|(_, inquiry)| inquiry.packages).copied();
    let packages: BTreeSet<&str> =
        desired.packages.iter().map(String::as_str).chain(products.iter().copied()).chain(asked).collect();
    // Where it is not there yet, the version that comes decides what its configuration may say.
    let coming = desired.packages.iter().map(String::as_str).filter(|package| products.contains(package));
    let below = |paths: &mut dyn Iterator<Item = &str>| words(&mut paths.map(|path| format!(".{path}")));
    let plain = |names: &mut dyn Iterator<Item = &str>| words(&mut names.map(str::to_owned));
    format!(
        "asked={}\ndigests={}\nsecret={}\nwanted={}\non_ways={}\nunits={}\npackages={}\ncoming={}\n",
        below(&mut open.iter().map(|(path, _)| path.as_str())),
        quote(&digests.join("\n")),
        below(&mut secret.iter().map(|(path, _)| path.as_str())),
        below(&mut desired.folders.keys().map(String::as_str)),
        below(&mut on_ways.into_iter()),
        plain(&mut desired.units.keys().map(String::as_str)),
        plain(&mut packages.into_iter()),
        plain(&mut coming.into_iter()),
    )
}

/// Words of a list of sh.
fn words(words: &mut dyn Iterator<Item = String>) -> String {
    quote(&words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diagnostic::Diagnostic;
    use crate::plan::state::Version;
    use crate::service::claims::Claims;
    use crate::service::inquiry::Inquiry;
    use crate::service::product::Product;
    use crate::service::{ALL, Context, Service};

    /// A service that asks for more than a shipped one does.
    struct Cache;

    const CACHED: Product = Product {
        name: "cached",
        packages: &["cached-full", "cached"],
        shipped: [
            Version(1, 6, 0),
            Version(1, 6, 0),
            Version(1, 6, 1),
            Version(1, 6, 2),
            Version(1, 6, 3),
            Version(1, 6, 4),
        ],
    };

    impl Service for Cache {
        fn name(&self) -> &'static str {
            "cache"
        }

        fn products(&self) -> &'static [Product] {
            &[CACHED]
        }

        fn inquiry(&self) -> Option<Inquiry> {
            Some(Inquiry {
                records: &["var/lib/infra/cache"],
                units: &["cached-rival.service"],
                packages: &["cached-tools"],
                script: || "echo items 7".to_owned(),
                ..Inquiry::NOTHING
            })
        }

        fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
            Ok(())
        }
    }

    const ONE: Services = Services(&[&Cache]);

    #[test]
    fn what_comes_is_asked_for_products_alone() {
        let packages = ["curl".to_owned(), "cached".to_owned()].into();
        let desired = DesiredHost { packages, ..DesiredHost::default() };
        let request = request(ONE, &desired);
        assert!(request.ends_with("packages='cached cached-full cached-tools curl'\ncoming='cached'\n"), "{request}");
    }

    #[test]
    fn a_services_lines_stand_in_the_script_and_disturb_nobody() {
        let text = script(ONE, "").text;
        assert!(
            text.contains(" ./var/lib/infra/cache; do") && text.contains("for unit in cached-rival.service; do"),
            "{text}"
        );
        let ours = text.find("emit 'of cache' \"$(").unwrap();
        assert!(text[ours..].contains("items 7\n)\"; else"), "it runs in a subshell: {text}");
        let all = script(ALL, "").text;
        assert!(!all.lines().any(|line| line.trim_start().starts_with('#')), "{all}");
        assert!(
            !["UNITS", "RECORDS", "DIGESTS", "LOOKS", " AWK ", "LIVE_"].iter().any(|word| all.contains(word)),
            "{all}"
        );
    }
}
