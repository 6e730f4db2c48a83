//! The TLS front of the user's programs: takes a context, adds nginx on the app hosts, which lets web hosts in and passes
//! their requests to loopback.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::sh::quote;
use crate::inventory::site::{Host, Listening, Role, WebSite};
use crate::plan::state::{Look, Phase};
use crate::service::claims::Claims;
use crate::service::nginx::{self, Front};
use crate::service::product::Product;
use crate::service::render::{Template, template};
use crate::service::{Context, Service, web};

/// See the module.
pub struct App;

const NAME: &str = "app";
const TEMPLATES: &[Template] = &[nginx::TEMPLATE, nginx::TYPES, nginx::CLIENTS, template!("app/app.conf")];

#[derive(Serialize)]
struct Model<'a> {
    #[serde(flatten)]
    front: Front<'a>,
    /// Their ports.
    programs: BTreeSet<u16>,
    sites: Vec<SiteModel>,
}

#[derive(Serialize)]
struct SiteModel {
    names: Vec<String>,
    programs: Vec<Program>,
    /// Those of its programs, each once, with the path that tells whether it is well.
    ports: Vec<(u16, String)>,
    /// Whether a program has the paths that are nobody else's.
    has_root: bool,
    /// Seconds that a program may think, and that a stream of its may be silent.
    response: u64,
    idle: u64,
}

#[derive(Serialize)]
struct Program {
    ways: Vec<String>,
    port: u16,
}

impl Service for App {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn products(&self) -> &'static [Product] {
        &[nginx::NGINX]
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let (site, host) = (context.site, context.host);
        if !host.has(Role::App) {
            return Ok(());
        }
        nginx::want(context, NAME, out)?;
        let port = site.ports.app;
        for one in site.programs_on(host).values() {
            out.look(Look { command: program_look(one), binding: false });
        }
        let model = Model {
            front: Front::new(context, Role::App, port),
            sites: site.sites.values().filter_map(|s| led(s, host)).collect(),
            programs: site.programs_on(host).keys().map(|port| port.get()).collect(),
        };
        nginx::clients(context, (NAME, Phase::App), (Role::App, Role::Web), port, out)?;
        let body = context.render("app/app.conf", &model)?;
        nginx::config(NAME, Phase::App, &format!("/etc/nginx/conf.d/{}-app-{port}.conf", site.name), body, out)?;
        nginx::listener_probes(context, Phase::App, port, out);
        Ok(())
    }
}

/// What of a site is led to programs on `host`, if anything is.
fn led(site: &WebSite, host: &Host) -> Option<SiteModel> {
    let here = || site.programs.iter().filter(|program| host.runs(program));
    let programs: Vec<Program> =
        here().map(|one| Program { ways: web::locations(&one.path), port: one.port.get() }).collect();
    (!programs.is_empty()).then(|| SiteModel {
        names: site.hosts().collect(),
        programs,
        ports: here().map(|one| (one.port.get(), one.health.clone())).collect::<BTreeMap<_, _>>().into_iter().collect(),
        has_root: here().any(|one| one.path == "/"),
        response: site.manner.timeouts.response.as_secs(),
        idle: site.manner.timeouts.idle.as_secs(),
    })
}

/// Asks a program as its front will, by what every Debian has, and says what it answers: port, path, and status or error.
const ASK: &str = r#"command -v perl >/dev/null 2>&1 || exit 0
perl -MIO::Socket::INET -e '
my ($port, $path, $host) = @ARGV;
my $at = "127.0.0.1:$port";
$SIG{ALRM} = sub { print "does not answer on $at within 5 s at $path\n"; exit 1 };
alarm 5;
my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $port, Proto => "tcp");
if (!$socket) {
	my $why = $!;
	# it may listen on loopback of IPv6 alone
	if (eval { require IO::Socket::IP }) {
		$socket = IO::Socket::IP->new(PeerHost => "::1", PeerPort => $port, Proto => "tcp");
		$at = "[::1]:$port" if $socket;
	}
	if (!$socket) { print "does not answer on $at: $why\n"; exit 1 }
}
local $SIG{PIPE} = "IGNORE";
print $socket "GET $path HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n";
my $line = <$socket> // "";
exit 0 if $line =~ m{^HTTP/\S+ 200\b};
if ($line =~ m{^HTTP/\S+ (\d{3})}) { print "answers $1 on $at at $path, where 200 says that it is well\n" }
else { print "does not speak HTTP on $at\n" }
exit 1' -- "#;

/// The user's program answers; it may be started after us.
fn program_look(one: &Listening<'_>) -> String {
    let names: Vec<&str> = one.sites.iter().map(|site| site.name.as_str()).collect();
    let asked = names.first().copied().unwrap_or_default().trim_start_matches("*.");
    let (path, host) = (quote(&one.program.health), quote(asked));
    let whose = quote(&format!("the program of {}", names.join(", ")));
    format!("said=$({ASK}{} {path} {host}) || {{ printf '%s %s\\n' {whose} \"$said\"; exit 1; }}", one.program.port)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;
    use crate::inventory::site::{AppProgram, Place};

    fn said(port: u16) -> (bool, String) {
        let program = AppProgram {
            path: "/".into(),
            port: u64::from(port).try_into().unwrap(),
            health: "/healthz".into(),
            hosts: BTreeSet::new(),
            compress: false,
            place: Place::default(),
        };
        let site = WebSite {
            name: "shop.example.com".parse().unwrap(),
            aliases: Vec::new(),
            addresses: Vec::new(),
            files: Vec::new(),
            programs: Vec::new(),
            auth: Vec::new(),
            sticky: false,
            manner: crate::inventory::site::Manner::default(),
            certificate: None,
            place: Place::default(),
        };
        let look = program_look(&Listening { program: &program, sites: vec![&site] });
        let output = Command::new("sh").args(["-c", &look]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn a_program_that_is_not_well_is_named_with_its_port_and_what_it_answers() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", ""),
            (
                "HTTP/1.1 503 Busy\r\n\r\n",
                "answers 503 on 127.0.0.1:PORT at /healthz, where 200 says that it is well\n",
            ),
            ("220 mail\r\n", "does not speak HTTP on 127.0.0.1:PORT\n"),
            ("", "does not speak HTTP on 127.0.0.1:PORT\n"),
        ] {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = server.local_addr().unwrap().port();
            let asked = std::thread::spawn(move || {
                let (mut stream, _) = server.accept().unwrap();
                let mut request = [0; 512];
                let length = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            let (well, words) = said(port);
            let request = asked.join().unwrap();
            assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: shop.example.com\r\n"), "{request}");
            let expected = expected.replace("PORT", &port.to_string());
            let whole =
                if expected.is_empty() { String::new() } else { format!("the program of shop.example.com {expected}") };
            assert_eq!((well, words), (whole.is_empty(), whole), "{answer}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused =
            format!("the program of shop.example.com does not answer on 127.0.0.1:{free}: Connection refused\n");
        assert_eq!(said(free), (false, refused));
    }
}
