//! Templates: takes those of the services, a name and a model, gives text. Embedded in the binary; a `templates/` folder beside the inventory
//! shadows by name. What stands there may be a stranger's: it is bounded in size, depth, time, memory and output, and does not
//! leave the inventory's folder.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tera::{ErrorKind, Kwargs, State, Tera};

use crate::base::diagnostic::{Diagnostic, Source, Span, did_you_mean};
use crate::base::fsx;
use crate::base::materials::Share;
use crate::base::secret::{CLOSE, Form, OPEN, names, sentinel, sentinel_as};
use crate::base::warning::Warning;
use crate::service::Services;
use crate::service::trace::Trace;

/// A template that is embedded in the program.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    /// `haproxy/haproxy.cfg`: its path below a folder `templates/`, where a file shadows it.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The embedded [`Template`] of that name.
macro_rules! template {
    ($name:literal) => {
        $crate::service::render::Template {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $name)),
        }
    };
}
pub(crate) use template;

/// No template is bigger; what is bigger was put there by mistake.
const MAX_BYTES: u64 = 1 << 20;

/// Folders in folders are followed this deep.
const MAX_DEPTH: usize = 8;

/// Most files and folders that are looked at.
const MAX_FILES: usize = 1000;

/// Most `elif` of a template: the engine nests each in the one before.
const MAX_ELIF: usize = 1000;

/// No file that a template makes is bigger, bytes.
const MAX_OUTPUT: usize = 8 << 20;

/// The longest that one file may take to be made, and all of a run together. A usual one takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_IN_ALL: Duration = Duration::from_secs(60);

/// By so much our memory may grow while one file is made, KiB.
const MEMORY: u64 = 256 << 10;

/// The stack of the thread that parses and renders what may be a stranger's: enough for [`MAX_ELIF`].
const STACK: usize = 64 << 20;

/// All templates of a program's services, parsed.
pub struct Templates {
    services: Services,
    tera: Arc<Tera>,
    sources: BTreeMap<String, Arc<Source>>,
    /// Whether a file shadows any of them: then none is rendered without bounds, for they may include each other.
    shadowed: bool,
    /// What was spent on rendering them so far.
    spent: Mutex<Duration>,
    /// Whether one of them was given up: its thread cannot be stopped, so no other one is begun.
    given_up: AtomicBool,
    /// What is odd but stops nothing: a shadowing file whose name is no template's.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources.values().map(|s| &s.path)).finish()
    }
}

impl Templates {
    /// The templates of `services`, shadowed by those in `folder/templates/`.
    ///
    /// # Errors
    /// Every template that cannot be read or does not parse, with its place.
    pub fn load(services: Services, folder: Option<&Path>) -> Result<Self, Vec<Diagnostic>> {
        let mut sources = BTreeMap::new();
        for Template { name, text } in services.templates() {
            let path = PathBuf::from(format!("built-in templates/{name}"));
            sources.insert(name.to_owned(), Arc::new(Source { path, text: text.to_owned() }));
        }
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let mut shadowed = false;
        if let Some(inventory) = folder {
            let mut search = Search::of(inventory);
            search.folder(&inventory.join("templates"), "", 0);
            errors.append(&mut search.errors);
            for (name, path) in search.found {
                if !sources.contains_key(&name) {
                    warnings.push(stray(&name, &path, services));
                    continue;
                }
                shadowed = true;
                match read(&path) {
                    Ok(text) => drop(sources.insert(name, Arc::new(Source { path, text }))),
                    Err(error) => errors.push(error),
                }
            }
        }
        let (spent, given_up) = (Mutex::default(), AtomicBool::new(false));
        let mut templates = Self { services, tera: Arc::default(), sources, shadowed, spent, given_up, warnings };
        errors.extend(templates.sources.values().filter_map(too_many_branches));
        if !errors.is_empty() {
            return Err(errors);
        }
        let (tera, failures) = bounded(templates.sources.clone(), shadowed).map_err(|error| vec![error])?;
        errors.extend(failures.iter().map(|(name, error)| templates.diagnose(name, error)));
        templates.tera = Arc::new(tera);
        if errors.is_empty() { Ok(templates) } else { Err(errors) }
    }

    /// The same templates with marks, and what reads the marks in a text that they have made.
    ///
    /// # Errors
    /// Templates that do not parse with marks in them, which those that were loaded do.
    pub fn traced(&self) -> Result<(Self, Trace), Diagnostic> {
        let (trace, marked) =
            Trace::onto(self.sources.iter().map(|(name, source)| (name.as_str(), source.text.as_str())));
        let marked = self.sources.iter().map(|(name, source)| {
            let text = marked.get(name).unwrap_or(&source.text).clone();
            (name.clone(), Arc::new(Source { path: source.path.clone(), text }))
        });
        let (tera, failures) = bounded(marked.collect(), self.shadowed)?;
        if let Some((name, error)) = failures.first() {
            return Err(self.diagnose(name, error));
        }
        let traced = Self {
            services: self.services,
            tera: Arc::new(tera),
            sources: self.sources.clone(),
            shadowed: self.shadowed,
            spent: Mutex::default(),
            given_up: AtomicBool::new(false),
            warnings: Vec::new(),
        };
        Ok((traced, trace))
    }

    /// These templates with another text of one of them.
    ///
    /// # Errors
    /// A text that does not parse, with its place.
    pub fn with(&self, name: &str, text: &str) -> Result<Self, Diagnostic> {
        let mut sources = self.sources.clone();
        let path = PathBuf::from(format!("templates/{name}"));
        sources.insert(name.to_owned(), Arc::new(Source { path, text: text.to_owned() }));
        let (tera, failures) = bounded(sources.clone(), true)?;
        let (spent, given_up) = (Mutex::default(), AtomicBool::new(false));
        let (services, warnings) = (self.services, Vec::new());
        let changed = Self { services, tera: Arc::new(tera), sources, shadowed: true, spent, given_up, warnings };
        match failures.first() {
            Some((name, error)) => Err(changed.diagnose(name, error)),
            None => Ok(changed),
        }
    }

    /// The text of a template.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.sources.get(name).map(|source| source.text.as_str())
    }

    /// A line of a template, without its end; from 1.
    pub fn line(&self, name: &str, number: usize) -> Option<&str> {
        self.sources.get(name)?.text.lines().nth(number.checked_sub(1)?)
    }

    /// The services whose templates they are.
    pub fn services(&self) -> Services {
        self.services
    }

    /// Renders `name` (`haproxy/haproxy.cfg`).
    ///
    /// # Errors
    /// An unknown template or variable, with its place.
    pub fn render(&self, name: &str, model: &impl serde::Serialize) -> Result<String, Diagnostic> {
        self.asked(name, model, None).0
    }

    /// The text, and which materials the template asked for; `denied` is one that it must not ask for, and why.
    fn asked(
        &self,
        name: &str,
        model: &impl serde::Serialize,
        denied: Option<(String, String)>,
    ) -> (Result<String, Diagnostic>, BTreeSet<String>) {
        let context = match tera::Context::from_serialize(model) {
            Ok(context) => context,
            Err(error) => return (Err(self.diagnose(name, &error)), BTreeSet::new()),
        };
        if !self.shadowed {
            let (text, asked) = asking(denied, || self.tera.render(name, &context));
            return (text.map_err(|e| self.diagnose(name, &e)), asked);
        }
        let began = Instant::now();
        let left = PATIENCE_IN_ALL.saturating_sub(*self.spent.lock().unwrap_or_else(PoisonError::into_inner));
        if left.is_zero() || self.given_up.load(Ordering::Relaxed) {
            return (Err(self.endless(name, "the templates before it took too long")), BTreeSet::new());
        }
        let (tera, wanted) = (Arc::clone(&self.tera), name.to_owned());
        let rendered = guarded(PATIENCE.min(left), move || {
            let mut out = Bounded::default();
            let (ended, asked) = asking(denied, || tera.render_to(&wanted, &context, &mut out));
            (ended, out, asked)
        });
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner) += began.elapsed();
        let (ended, out, asked) = match rendered {
            Ok(rendered) => rendered,
            Err(why) => {
                self.given_up.store(true, Ordering::Relaxed);
                return (Err(self.endless(name, &why)), BTreeSet::new());
            }
        };
        let text = if out.full {
            Err(self.endless(name, &format!("the text that it makes is larger than {}", fsx::size(MAX_OUTPUT as u64))))
        } else {
            ended.map_err(|error| self.diagnose(name, &error)).and_then(|()| {
                String::from_utf8(out.bytes)
                    .map_err(|_| Diagnostic::error(format!("template `{name}` makes bytes that are not UTF-8 text")))
            })
        };
        (text, asked)
    }

    /// A template whose work has no end that we wait for.
    fn endless(&self, name: &str, why: &str) -> Diagnostic {
        let path = self.path(name).unwrap_or(Path::new(name));
        Diagnostic::error(format!("template `{name}` cannot be rendered: {why}"))
            .help(format!("look for loops inside of loops, and for text that grows in a loop, in `{}`", path.display()))
    }

    /// As [`Templates::render`], for a host: what the template asks for by `material()` must be the host's, and must stand in
    /// the text as it was asked for, as a filter sees the name of a material and never its value.
    ///
    /// # Errors
    /// As for [`Templates::render`], with the place of the `material()`.
    pub fn render_for(
        &self,
        name: &str,
        model: &impl serde::Serialize,
        share: Share<'_>,
    ) -> Result<String, Diagnostic> {
        let (text, asked) = self.asked(name, model, None);
        let text = text?;
        // Rendered once more, so that tera itself says where the call stands.
        let refuse = |material: &str, why: String, help: &str| {
            let denied = Some((material.to_owned(), why.clone()));
            let error = self.asked(name, model, denied).0.err();
            error.unwrap_or_else(|| Diagnostic::error(format!("template `{name}`: {why}"))).help(help)
        };
        for material in &asked {
            if let Err(denied) = share.may(material) {
                let help = "a template may ask for the materials of its own host: take this out, or ask by the name of the host that it is rendered for";
                return Err(refuse(material, denied.to_string(), help));
            }
        }
        let written: BTreeSet<&str> = names(&text).into_iter().collect();
        if let Some(lost) = asked.iter().find(|material| !written.contains(material.as_str())) {
            let why = format!("`{lost}` does not stand in the text as it was asked for");
            return Err(refuse(
                lost,
                why,
                "write the `material()` alone, where its value shall stand: filters see its name, never the value",
            ));
        }
        if let Some(stray) = written.iter().find(|material| !asked.contains(**material)) {
            return Err(Diagnostic::error(format!(
                "template `{name}`: the text holds the mark of a material, ‹{stray}›, that no `material()` has asked for"
            ))
            .help("take the characters U+E000 and U+E001 out of the template and the inventory, and filters off `material()`"));
        }
        if text.matches([OPEN, CLOSE]).count() != 2 * names(&text).len() {
            return Err(Diagnostic::error(format!("template `{name}`: the mark of a material is broken"))
                .help("take filters off `material()`, and the characters U+E000 and U+E001 out of the template and the inventory"));
        }
        Ok(text)
    }

    /// Where the text of a template stands: `built-in templates/NAME`, or the file that shadows it.
    pub fn path(&self, name: &str) -> Option<&Path> {
        self.sources.get(name).map(|source| source.path.as_path())
    }

    /// The names that a `templates/` folder may shadow.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// tera's error with our place.
    fn diagnose(&self, name: &str, error: &tera::Error) -> Diagnostic {
        let (what, report) = match error.kind() {
            ErrorKind::SyntaxError(report) => ("does not parse", report),
            ErrorKind::RenderingError(report) => ("cannot be rendered", report),
            ErrorKind::TemplateNotFound(missing) => {
                let mut diagnostic = Diagnostic::error(format!("there is no template `{missing}`"));
                diagnostic.help.extend(did_you_mean(missing, self.names()));
                return diagnostic;
            }
            other => return Diagnostic::error(format!("template `{name}`: {other}")),
        };
        let file = if report.filename().is_empty() { name } else { report.filename() };
        let message = report.message().trim_end_matches('.');
        let diagnostic = Diagnostic::error(format!("template `{file}` {what}: {message}"));
        let Some(source) = self.sources.get(file) else { return diagnostic };
        let end = source.text.len();
        let range = report.span().range.start.min(end)..report.span().range.end.min(end);
        let diagnostic = diagnostic.at(&Span { source: Arc::clone(source), range });
        match self.services.templates().find(|built_in| built_in.name == file && built_in.text != source.text) {
            Some(_) => diagnostic.help("mend this file, or remove it to take the built-in one again"),
            None => diagnostic,
        }
    }
}

/// tera as we use it: configuration files are not HTML, and secrets come in by name.
fn engine() -> Tera {
    let mut tera = Tera::new();
    tera.autoescape_on(Vec::<&str>::new());
    tera.register_function("material", |kwargs: Kwargs, _: &State| -> tera::TeraResult<String> {
        let name = kwargs.must_get::<&str>("name")?;
        ASKING.with_borrow_mut(|asking| match &asking.denied {
            Some((denied, why)) if denied == name => Err(tera::Error::message(why.clone())),
            _ => {
                asking.asked.insert(name.to_owned());
                let Some(form) = kwargs.get::<&str>("form")? else { return Ok(sentinel(name)) };
                let form = Form::named(form).ok_or_else(|| {
                    tera::Error::message(format!(
                        "`{form}` is no form of a material: there are `hex`, `option` and `shell`"
                    ))
                })?;
                Ok(sentinel_as(name, form))
            }
        })
    });
    tera
}

/// What `material()` knows while a template is rendered: tera calls it on the thread that renders.
#[derive(Default)]
struct Asking {
    asked: BTreeSet<String>,
    /// A material that must not be asked for, and why.
    denied: Option<(String, String)>,
}

thread_local! {
    static ASKING: RefCell<Asking> = RefCell::default();
}

/// Does `render`, and gives also which materials were asked for meanwhile.
fn asking<T>(denied: Option<(String, String)>, render: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
    let before = ASKING.replace(Asking { asked: BTreeSet::new(), denied });
    let done = render();
    (done, ASKING.replace(before).asked)
}

/// As [`parse`], within bounds where some of `sources` may be a stranger's: what nests deep takes a deep stack.
fn bounded(
    sources: BTreeMap<String, Arc<Source>>,
    shadowed: bool,
) -> Result<(Tera, Vec<(String, tera::Error)>), Diagnostic> {
    if !shadowed {
        return Ok(parse(&sources));
    }
    let parsed = guarded(PATIENCE, move || parse(&sources));
    parsed.map_err(|why| Diagnostic::error(format!("the templates cannot be parsed: {why}")))
}

/// Parses all of `sources`; gives the engine, and each template that does not parse with the engine's error.
fn parse(sources: &BTreeMap<String, Arc<Source>>) -> (Tera, Vec<(String, tera::Error)>) {
    let mut failures = Vec::new();
    // One by one first: added together, the first mistake would hide the others.
    for (name, source) in sources {
        if let Err(error) = engine().add_raw_template(name, &source.text)
            && matches!(error.kind(), ErrorKind::SyntaxError(_))
        {
            failures.push((name.clone(), error));
        }
    }
    let mut tera = engine();
    if failures.is_empty() {
        let all: Vec<_> = sources.iter().map(|(n, s)| (n.as_str(), s.text.as_str())).collect();
        if let Err(error) = tera.add_raw_templates(all) {
            failures.push((String::new(), error));
        }
    }
    (tera, failures)
}

/// The engine bounds how deep all else nests, but not this.
fn too_many_branches(source: &Arc<Source>) -> Option<Diagnostic> {
    let (at, word) = source.text.match_indices("elif").nth(MAX_ELIF)?;
    let span = Span { source: Arc::clone(source), range: at..at + word.len() };
    let error = Diagnostic::error(format!("a template has at most {MAX_ELIF} `elif`")).at(&span);
    Some(error.help("compare in a loop over a list instead"))
}

/// Does work of which nobody knows how long it takes and how much memory, on a thread with a deep stack. When it takes more than
/// `patience`, or our memory grows by more than [`MEMORY`], it is left alone: a thread cannot be stopped, but the program ends soon.
fn guarded<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || drop(sender.send(work()));
    let thread = std::thread::Builder::new().name("templates".into()).stack_size(STACK).spawn(work);
    thread.map_err(|e| format!("no thread can be started: {e}"))?;
    let began = Instant::now();
    let mut before = None;
    loop {
        match receiver.recv_timeout(Duration::from_millis(5)) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Disconnected) => return Err("the template engine broke down".to_owned()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = memory();
        let before = *before.get_or_insert(now);
        if now.saturating_sub(before) > MEMORY {
            return Err(format!("it takes more than {} of memory", fsx::size(MEMORY << 10)));
        }
        if began.elapsed() > patience {
            return Err(format!("it takes longer than {:.0} s", patience.as_secs_f64()));
        }
    }
}

/// Our resident memory in KiB; 0 where the system does not say (`proc_pid_status(5)`).
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a template makes, up to [`MAX_OUTPUT`].
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_OUTPUT {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stray(name: &str, path: &Path, services: Services) -> Diagnostic {
    let mut warning = Diagnostic::warning(
        Warning::StrayTemplate,
        format!("{}: there is no template `{name}` to shadow", path.display()),
    );
    warning.help.extend(did_you_mean(name, services.templates().map(|template| template.name)));
    warning.help("the name below `templates/` must be that of a built-in template; any other file is ignored")
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    let bytes =
        fsx::read_bounded(path, MAX_BYTES).map_err(|e| Diagnostic::error(format!("a template cannot be read: {e}")))?;
    String::from_utf8(bytes).map_err(|e| {
        Diagnostic::error(format!("{}: is not UTF-8 at byte {}", path.display(), e.utf8_error().valid_up_to()))
    })
}

/// Looks for files below the `templates/` beside an inventory.
struct Search {
    /// The inventory's folder: nothing outside of it is read.
    fence: PathBuf,
    /// Folders that were looked into, so that links in a circle have an end.
    seen: BTreeSet<PathBuf>,
    looked: usize,
    /// Names relative to `templates/`, and paths.
    found: Vec<(String, PathBuf)>,
    errors: Vec<Diagnostic>,
}

impl Search {
    fn of(inventory: &Path) -> Self {
        let here = if inventory.as_os_str().is_empty() { Path::new(".") } else { inventory };
        let fence = std::fs::canonicalize(here).unwrap_or_else(|_| here.to_owned());
        Self { fence, seen: BTreeSet::new(), looked: 0, found: Vec::new(), errors: Vec::new() }
    }

    /// Takes all files below `folder`; what editors leave behind is passed over.
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) {
        if !folder.is_dir() || !self.inside(folder) || depth > MAX_DEPTH {
            return;
        }
        if let Ok(real) = std::fs::canonicalize(folder)
            && !self.seen.insert(real)
        {
            return;
        }
        let entries = match fs_err::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.errors.push(Diagnostic::error(error.to_string())),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).take(MAX_FILES).map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            if name.starts_with('.') || name.ends_with('~') {
                continue;
            }
            self.looked += 1;
            if self.looked > MAX_FILES {
                if self.looked == MAX_FILES + 1 {
                    let why = format!("below `templates/` are more than {MAX_FILES} files and folders");
                    self.errors.push(Diagnostic::error(why).help("keep only files there that shadow a template"));
                }
                return;
            }
            let full = format!("{prefix}{name}");
            if path.is_dir() {
                self.folder(&path, &format!("{full}/"), depth + 1);
            } else if self.inside(&path) {
                self.found.push((full, path));
            }
        }
    }

    /// Whether a path stays in the inventory's folder, wherever it is linked to.
    fn inside(&mut self, path: &Path) -> bool {
        match std::fs::canonicalize(path) {
            Ok(real) if real.starts_with(&self.fence) => true,
            Ok(real) => {
                let (path, real) = (path.display(), real.display());
                self.errors.push(
                    Diagnostic::error(format!("`{path}` leads out of the inventory's folder, to `{real}`"))
                        .help("templates are read from the inventory's folder only: put a copy there"),
                );
                false
            }
            // Reading it says why it cannot be read.
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::material::Material;
    use crate::base::materials::{Materials, Owner};
    use crate::service::ALL;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join("templates").join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_file_beside_the_inventory_shadows_the_built_in_one() {
        let dir = folder(&[("haproxy/crt.list", "mine {{ name }} {{ material(name=\"a/b.key\") }} <&>\n")]);
        let templates = Templates::load(ALL, Some(dir.path())).unwrap();
        let text = templates.render("haproxy/crt.list", &serde_json::json!({ "name": "<x>" })).unwrap();
        assert_eq!(text, format!("mine <x> {} <&>\n", sentinel("a/b.key")));
    }

    #[test]
    fn an_unknown_variable_is_underlined() {
        let dir = folder(&[("haproxy/crt.list", "one\ntwo {{ nmae }}\n")]);
        let templates = Templates::load(ALL, Some(dir.path())).unwrap();
        let error = templates.render("haproxy/crt.list", &serde_json::json!({ "name": 1 })).unwrap_err();
        let span = error.span.clone().unwrap();
        assert_eq!((span.line(), span.column()), (2, 8), "{error:?}");
        assert_eq!(&span.source.text[span.range.clone()], "nmae");
        assert!(error.message.contains("nmae"), "{}", error.message);
        assert!(!error.help.is_empty());
    }

    #[test]
    fn all_broken_templates_are_told_at_once() {
        let dir = folder(&[("haproxy/crt.list", "{% if %}"), ("web/web.conf", "a\n{{ b"), ("web/.web.conf.swp", "{{")]);
        let errors = Templates::load(ALL, Some(dir.path())).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors.iter().all(|e| e.span.is_some()), "{errors:?}");
    }

    #[test]
    fn a_misspelt_shadow_is_named() {
        let dir = folder(&[("haproxy/haproxi.cfg", "")]);
        let templates = Templates::load(ALL, Some(dir.path())).unwrap();
        assert_eq!(templates.warnings.len(), 1);
        assert_eq!(templates.warnings[0].help[0], "did you mean `haproxy/haproxy.cfg`?");
        let error = templates.render("haproxy/haproxi.cfg", &serde_json::json!({})).unwrap_err();
        assert_eq!(error.help, ["did you mean `haproxy/haproxy.cfg`?"]);
    }

    #[test]
    fn a_shadow_that_is_no_text_is_an_error() {
        let dir = folder(&[("haproxy/crt.list", "")]);
        fs_err::write(dir.path().join("templates/haproxy/crt.list"), [b'a', 0xff]).unwrap();
        let errors = Templates::load(ALL, Some(dir.path())).unwrap_err();
        assert!(errors[0].message.ends_with("is not UTF-8 at byte 1"), "{errors:?}");
    }

    fn materials() -> Materials {
        let mut materials = Materials::default();
        let host = |name: &str| Owner::host(&name.parse().unwrap());
        for name in ["lb1", "web1"] {
            materials.add_secret(format!("pki/{name}/client.key").parse().unwrap(), "KEY", host(name));
        }
        materials.add_secret("db/password".parse().unwrap(), "secret", Owner::Nobody);
        materials.add_public(Material::HopAuthorities, "CA", Owner::All);
        materials
    }

    /// What a template for web1 may not do, and what is told.
    #[test]
    fn a_template_gets_its_own_hosts_materials_and_cannot_change_them() {
        let materials = materials();
        let host = "web1".parse().unwrap();
        for (text, message) in [
            (
                r#"{{ material(name="pki/lb1/client.key") }}"#,
                "`pki/lb1/client.key` is for lb1 alone, and web1 may not have it",
            ),
            (r#"{{ material(name="pki/" ~ other ~ "/client.key") }}"#, "`pki/lb1/client.key` is for lb1 alone"),
            (r#"{% if material(name="pki/lb1/client.key") %}x{% endif %}"#, "is for lb1 alone"),
            (r#"{{ material(name="db/password") }}"#, "`db/password` is for no host, and web1 may not have it"),
            (r#"{{ material(name="no/such") }}"#, "no value is known for `no/such`"),
            (r#"{{ material(name="pki/web1/client.key", form="yaml") }}"#, "`yaml` is no form of a material"),
            (
                r#"{{ material(name="pki/web1/client.key") | upper }}"#,
                "`pki/web1/client.key` does not stand in the text",
            ),
            (
                r#"{{ material(name="pki/web1/client.key") | replace(from="web1", to="lb1") }}"#,
                "does not stand in the text",
            ),
            (r#"{{ material(name="pki/web1/client.key") | reverse }}"#, "does not stand in the text"),
            (r#"{{ material(name="pki/web1/client.key") | length }}"#, "does not stand in the text"),
            (r#"{% set k = material(name="pki/web1/client.key") %}"#, "does not stand in the text"),
            ("\u{E000}pki/web1/client.key\u{E001}", "‹pki/web1/client.key›, that no `material()` has asked for"),
            ("{{ hand }}", "‹pki/lb1/client.key›, that no `material()` has asked for"),
            ("\u{E000}pki/web1", "the mark of a material is broken"),
            ("\u{E001}", "the mark of a material is broken"),
        ] {
            let dir = folder(&[("nginx/nginx.conf", text)]);
            let templates = Templates::load(ALL, Some(dir.path())).unwrap();
            let model = serde_json::json!({ "other": "lb1", "hand": "\u{E000}pki/lb1/client.key\u{E001}" });
            let error = templates.render_for("nginx/nginx.conf", &model, materials.share(&host)).unwrap_err();
            assert!(
                error.message.contains("`nginx/nginx.conf`") && error.message.contains(message),
                "{text}: {error:?}"
            );
            assert!(!error.help.is_empty(), "{text}");
            assert_eq!(error.span.is_some(), text.contains("material("), "{text}: {error:?}");
            assert!(!error.message.contains("KEY"));
        }
    }

    /// What is wrong with templates, at loading or at rendering `haproxy/crt.list`.
    fn wrong(dir: &tempfile::TempDir) -> String {
        let model = serde_json::json!({ "name": "x", "list": [1, 2, 3] });
        let errors = match Templates::load(ALL, Some(dir.path())) {
            Ok(templates) => match templates.render("haproxy/crt.list", &model) {
                Ok(text) => return format!("{} bytes", text.len()),
                Err(error) => vec![error],
            },
            Err(errors) => errors,
        };
        errors.iter().map(|e| format!("{}\n{}\n", e.message, e.help.join("\n"))).collect::<Vec<_>>().concat()
    }

    /// What goes on when it was given up (loops that print nothing, text that doubles) is tried in tests/cli.rs, whose processes end.
    #[test]
    fn no_template_of_a_stranger_has_no_end() {
        let printing =
            "{% for a in range(end=100000) %}{% for b in range(end=100000) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}";
        for (what, text, words) in [
            ("a loop that prints", printing.to_owned(), "larger than 8 MiB"),
            (
                "50,000 branches",
                format!("{{% if n %}}{}{{% endif %}}", "{%elif n%}".repeat(50_000)),
                "at most 1000 `elif`",
            ),
            ("1,000 branches", format!("{{% if n %}}{}{{% endif %}}", "{%elif n%}".repeat(1000)), "0 bytes"),
            ("brackets", format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000)), "does not parse"),
            ("lists", format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000)), "does not parse"),
            ("signs", format!("{{{{ {}1 }}}}", "not ".repeat(50_000)), "does not parse"),
            ("filters", format!("{{{{ name{} }}}}", "|trim".repeat(50_000)), "does not parse"),
            ("a sum", format!("{{{{ 1{} }}}}", "+1".repeat(50_000)), "does not parse"),
            ("blocks", format!("{}{}", "{% if name %}".repeat(40_000), "{% endif %}".repeat(40_000)), "does not parse"),
            ("itself", "{% include \"haproxy/crt.list\" %}".into(), "ncl"),
        ] {
            let began = Instant::now();
            let said = wrong(&folder(&[("haproxy/crt.list", &text)]));
            assert!(said.contains(words), "{what}: {}", said.chars().take(400).collect::<String>());
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {:?}", began.elapsed());
        }
    }

    #[test]
    fn what_a_template_may_have_comes_as_it_is() {
        let materials = materials();
        let host = "web1".parse().unwrap();
        let text = r#"{% set k = material(name="pki/web1/client.key") %}{{ k }}{{ k }} {{ material(name="pki/ca.crt") | trim }} {{ material(name="pki/ca.crt", form="hex") }}"#;
        let dir = folder(&[("nginx/nginx.conf", text)]);
        let templates = Templates::load(ALL, Some(dir.path())).unwrap();
        let share = materials.share(&host);
        let text = templates.render_for("nginx/nginx.conf", &serde_json::json!({}), share).unwrap();
        assert_eq!(share.materialize(&text).unwrap(), "KEYKEY CA 4341");
    }

    #[test]
    fn after_one_that_was_given_up_no_other_is_begun() {
        let templates = Templates::load(ALL, Some(folder(&[("haproxy/crt.list", "x")]).path())).unwrap();
        let render = || templates.render("haproxy/crt.list", &serde_json::json!({}));
        assert_eq!(render().unwrap(), "x");
        templates.given_up.store(true, Ordering::Relaxed);
        assert!(render().unwrap_err().message.contains("the templates before it took too long"));
        templates.given_up.store(false, Ordering::Relaxed);
        *templates.spent.lock().unwrap() = PATIENCE_IN_ALL;
        assert!(render().is_err());
        let (sender, receiver) = mpsc::channel::<()>();
        let why = guarded(Duration::from_millis(50), move || receiver.recv().is_ok()).unwrap_err();
        drop(sender);
        assert!(why.contains("longer than 0 s"), "{why}");
        assert_eq!(
            guarded(PATIENCE, || -> u8 { panic!("of the engine") }).unwrap_err(),
            "the template engine broke down"
        );
    }

    #[test]
    fn templates_stay_in_their_folder() {
        let outside = folder(&[("haproxy/crt.list", "secret\n")]);
        let link = |dir: &tempfile::TempDir, to: &Path, name: &str| {
            let at = dir.path().join(name);
            fs_err::create_dir_all(at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, at).unwrap();
        };
        let secret = outside.path().join("templates/haproxy/crt.list");
        for (to, name) in [
            (secret.as_path(), "templates/haproxy/crt.list"),
            (secret.parent().unwrap(), "templates/haproxy"),
            (secret.parent().unwrap().parent().unwrap(), "templates"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            link(&dir, to, name);
            let said = wrong(&dir);
            assert!(said.contains("leads out of the inventory's folder") && said.contains(name), "{said}");
        }
        // Inside of the folder a link is a file as any other; in a circle it is followed once.
        let dir = folder(&[("mine", "inside")]);
        link(&dir, &dir.path().join("templates/mine"), "templates/haproxy/crt.list");
        for n in 0..20 {
            link(&dir, &dir.path().join("templates"), &format!("templates/again{n}"));
        }
        assert_eq!(wrong(&dir), "6 bytes");
        for (path, words) in [("/dev/zero", "leads out"), ("nowhere", "cannot be read")] {
            let dir = tempfile::tempdir().unwrap();
            link(&dir, Path::new(path), "templates/haproxy/crt.list");
            assert!(wrong(&dir).contains(words), "{path}: {}", wrong(&dir));
        }
        let dir = folder(&[("haproxy/x", "")]);
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("templates/haproxy/crt.list"), rustix::fs::Mode::RUSR)
            .unwrap();
        assert!(wrong(&dir).contains("it is a pipe"), "{}", wrong(&dir));
        let big = folder(&[("haproxy/crt.list", &"x".repeat(2 << 20))]);
        assert!(wrong(&big).contains("larger than 1 MiB"));
    }
}
