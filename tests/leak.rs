//! No secret leaves its place, as far as that can be seen without hosts: marked values behind every kind of reference and
//! the keys of the store, looked for in whatever the commands say and write. `tests/lab/leak.rs` has the rest.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use infra::base::diagnostic::Diagnostic;
use infra::base::material::SecretId;
use infra::base::materials::Owner;
use infra::base::net::HostName;
use infra::base::secret::sentinel;
use infra::fleet::survey;
use infra::host::dir::DirTransport;
use infra::host::execute::Executor;
use infra::host::transport::Transport;
use infra::inventory::load;
use infra::inventory::site::Site;
use infra::material::{self, passwords};
use infra::pki;
use infra::plan::decision::Memory;
use infra::plan::plan;
use infra::plan::state::{Access, File, Phase};
use infra::report::{self, json};
use infra::service::claims::Claims;
use infra::service::render::Templates;
use infra::service::{Context, SecretWanted, Service, Services, desire};
use time::OffsetDateTime;

const MARKS: [&str; 3] = ["mark-of-an-environment-9f2c", "mark-of-a-file-51d7", "mark-of-a-command-c03e"];

/// Each kind of reference once; nothing listens on port 1.
const INVENTORY: &str = r#"
name: leak
ssh: { user: root, port: 1 }
hosts:
  one:
    address: 192.0.2.10
    ssh: { address: 127.0.0.1 }
    roles: [lb, web, app]
    allow_mixed_roles: "a test"
  db1: { address: 192.0.2.11, ssh: { address: 127.0.0.1 }, roles: [db] }
firewall: { manage_from: [198.51.100.0/24] }
sites:
  leak.example.com: { app: { port: 8080, health: /healthz } }
certificates:
  issuer: ISSUER
database:
  engine: mariadb
  primary: db1
  schemas: [shop]
  users:
    shop: { schema: shop, from: app, password: { command: [cat, secrets/command] } }
monitoring:
  service: sumologic
  agent: telegraf
  source: { file: secrets/file }
"#;

const ACME: &str =
    "https://acme.example.com/directory\n  contact: ops@example.com\n  eab: { kid: kid-1, key: { env: LEAK_MARK } }";

struct Case {
    folder: tempfile::TempDir,
    needles: Vec<String>,
}

/// What tells a private key in PEM: the first 18 bytes of its second line, which are the key's own.
fn key_marks(store: &Path) -> Vec<String> {
    let mut marks = Vec::new();
    for file in ["authorities.json", "leaves.json"] {
        let text = fs_err::read_to_string(store.join(file)).unwrap();
        for key in text.split("-----BEGIN PRIVATE KEY-----\\n").skip(1) {
            let second = key.split("\\n").nth(1).unwrap();
            marks.push(second.get(..24).unwrap().to_owned());
        }
    }
    assert!(marks.len() >= 4, "{}", marks.len());
    marks
}

fn case(issuer: &str) -> Case {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("secrets")).unwrap();
    fs_err::write(folder.path().join("secrets/file"), MARKS[1]).unwrap();
    fs_err::write(folder.path().join("secrets/command"), MARKS[2]).unwrap();
    let inventory = folder.path().join("inventory.yml");
    fs_err::write(&inventory, INVENTORY.replace("ISSUER", issuer)).unwrap();
    let site = load::load(&inventory).unwrap_or_else(|e| panic!("{e:?}")).0;
    pki::ensure(&site, &site.state, OffsetDateTime::now_utc()).unwrap();
    let mut needles = key_marks(&site.state.join("pki"));
    needles.extend(MARKS.map(ToOwned::to_owned));
    let id = SecretId::new("trial", "cache").unwrap();
    let made = passwords::make(&site.state, &site.name, [id.clone()]).unwrap();
    needles.push(made[&id].reveal().to_owned());
    needles.push("PRIVATE KEY".to_owned());
    Case { folder, needles }
}

impl Case {
    /// Runs `infra` and looks at all it says.
    fn says_nothing(&self, words: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infra"));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("LEAK_MARK", MARKS[0]).env_remove("INFRA_INVENTORY");
        let out = command.output().unwrap();
        let code = out.status.code().unwrap();
        assert!(code <= 4, "{words:?}: {code}");
        let said = [out.stdout, out.stderr].concat();
        self.clean(&format!("{words:?}"), &said);
    }

    fn clean(&self, place: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for needle in &self.needles {
            assert!(!text.contains(needle.as_str()), "{place} shows `{needle}`:\n{text}");
        }
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(below(&path));
        }
        all.push(path);
    }
    all
}

#[test]
fn no_command_shows_a_secret() {
    for issuer in ["internal", ACME] {
        let case = case(issuer);
        for words in [
            &["check"][..],
            &["check", "-v"],
            &["check", "--json"],
            &["render", "--to", "out"],
            &["render", "--to", "out", "-v", "--json"],
            &["diff"],
            &["diff", "-v"],
            &["diff", "--json"],
            &["diff", "--out", "plan"],
            &["apply", "--yes"],
            &["apply", "--yes", "--json", "-v", "--skip-unreachable"],
            &["firewall", "matrix", "-v"],
            &["firewall", "matrix", "--json"],
            &["firewall", "explain", "lb", "web", "8443", "--json"],
            &["firewall", "verify", "--json"],
            &["trust", "one"],
        ] {
            case.says_nothing(words);
        }
        let rendered = case.folder.path().join("out");
        let files: Vec<PathBuf> = below(&rendered).into_iter().filter(|p| p.is_file()).collect();
        assert!(files.len() > 10, "{files:?}");
        for file in &files {
            case.clean(&file.display().to_string(), &fs_err::read(file).unwrap());
        }
        let key = fs_err::read_to_string(rendered.join("one/etc/nginx/tls/server.key")).unwrap();
        assert_eq!(key.trim(), "‹pki/one/server.key›");
    }
}

#[test]
fn the_state_folder_is_its_owners_alone() {
    let case = case("internal");
    case.says_nothing(&["diff"]);
    case.says_nothing(&["apply", "--yes", "--skip-unreachable"]);
    let state = case.folder.path().join("state");
    let mut all = below(&state);
    all.push(state);
    for path in all {
        let mode = fs_err::metadata(&path).unwrap().permissions().mode() & 0o777;
        let fine = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, fine, "{} is {mode:o}", path.display());
    }
    // A folder that somebody made before us, for all to see, is not used as it is.
    let open = tempfile::tempdir().unwrap();
    fs_err::create_dir(open.path().join("state")).unwrap();
    fs_err::set_permissions(open.path().join("state"), std::fs::Permissions::from_mode(0o755)).unwrap();
    fs_err::copy(case.folder.path().join("inventory.yml"), open.path().join("inventory.yml")).unwrap();
    let site = load::load(&open.path().join("inventory.yml")).unwrap().0;
    pki::ensure(&site, &site.state, OffsetDateTime::now_utc()).unwrap();
    let mode = fs_err::metadata(open.path().join("state/pki")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

/// A service of another program, whose password infra makes.
struct Trial;

impl Service for Trial {
    fn name(&self) -> &'static str {
        "trial"
    }

    fn secrets(&self, _: &Site) -> Vec<SecretWanted> {
        vec![SecretWanted { name: "cache".into(), owner: Owner::host(&"db1".parse().unwrap()), given: None }]
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if context.host.name.as_str() != "db1" {
            return Ok(());
        }
        let body = context.body(format!("first\npassword {}\n", sentinel("trial/cache")))?;
        let (phase, access) = (Phase::App, Access::root(0o644));
        let file = File { service: self.name(), phase, access, body, then: BTreeMap::new(), about: None };
        out.file("/etc/trial.conf", file)
    }
}

#[test]
fn a_made_password_is_in_no_plan_and_no_words() {
    const SERVICES: Services = Services(&[&Trial]);
    let case = case("internal");
    let site = load::load(&case.folder.path().join("inventory.yml")).unwrap().0;
    let templates = Templates::load(SERVICES, None).unwrap();
    let all = site.hosts.keys().cloned().collect();
    let materials =
        material::gather(&site, SERVICES, &all, &mut BTreeMap::new(), OffsetDateTime::now_utc()).unwrap().materials;
    let desired = desire(&site, (&BTreeMap::new(), &Memory::default()), &materials, &templates).unwrap();
    let db: HostName = "db1".parse().unwrap();
    let file = &desired[&db].files["/etc/trial.conf"];
    assert_eq!(file.access.mode, 0o640);
    let sent = materials.share(&db).materialize(&file.body.text).unwrap();
    let value = sent.trim_end().rsplit_once(' ').unwrap().1;
    assert!(case.needles.iter().any(|needle| needle == value), "it is the one that was made");
    let machine = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(machine.path().join("etc")).unwrap();
    fs_err::write(machine.path().join("etc/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    let transport = || Box::new(DirTransport::new(machine.path())) as Box<dyn Transport>;
    let planned = || {
        let observed = survey::observe(SERVICES, transport().as_mut(), &desired[&db]).unwrap();
        (plan::plan(&desired, &BTreeMap::from([(db.clone(), observed.clone())])), observed.manifest)
    };
    let (plan, manifest) = planned();
    let view =
        report::plan::View { width: 120, verbose: true, paint: report::text::Paint::default(), services: SERVICES };
    for said in [
        report::plan::draw(&site, &plan, view),
        serde_json::to_string(&json::plan(&site.name, &plan)).unwrap(),
        serde_json::to_string(&desired).unwrap(),
        materials.redact(&format!("access denied ({value})")),
        format!("{materials:?}{plan:?}"),
    ] {
        assert!(said.contains("trial/cache"), "{said}");
        case.clean("what is said", said.as_bytes());
    }
    let mut executor = Executor {
        host: db.clone(),
        run: "20261123T000000".into(),
        who: "tester@here".into(),
        materials: &materials,
        transport: transport(),
        reconnect: Box::new(|| Ok(transport())),
        tell: Box::new(|_| ()),
        owner: None,
        manifest,
        here: Vec::new(),
        swaps: &desired[&db].swaps,
        records: BTreeMap::new(),
    };
    executor.stage(&plan.hosts[&db], &desired[&db]).unwrap();
    executor.commit(Phase::App, &plan.hosts[&db].phases[&Phase::App], &[]).unwrap();
    for path in below(machine.path()).into_iter().filter(|path| path.is_file()) {
        let bytes = fs_err::read(&path).unwrap();
        if path.ends_with("etc/trial.conf") {
            let mode = fs_err::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!((String::from_utf8(bytes).unwrap(), mode), (sent.clone(), 0o640));
        } else {
            case.clean(&path.display().to_string(), &bytes);
        }
    }
    assert!(planned().0.hosts[&db].is_empty(), "twice is nothing");
}
