//! Templates: takes a name and a model, gives text. Embedded in the binary; a `templates/` folder beside the inventory
//! shadows by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tera::{ErrorKind, Kwargs, State, Tera};

use crate::base::diagnostic::{Diagnostic, Source, Span, did_you_mean};
use crate::base::secret::sentinel;

/// What is embedded, by name. A new template is one line here.
const EMBEDDED: &[(&str, &str)] = &[
    ("app/app.conf", include_str!("../../templates/app/app.conf")),
    ("haproxy/crt.list", include_str!("../../templates/haproxy/crt.list")),
    ("haproxy/haproxy.cfg", include_str!("../../templates/haproxy/haproxy.cfg")),
    ("nginx/nginx.conf", include_str!("../../templates/nginx/nginx.conf")),
    ("web/web.conf", include_str!("../../templates/web/web.conf")),
];

/// No template is bigger; what is bigger was put there by mistake.
const MAX_BYTES: u64 = 1 << 20;

/// Folders in folders are followed this deep.
const MAX_DEPTH: usize = 8;

/// All templates, parsed.
pub struct Templates {
    tera: Tera,
    sources: BTreeMap<String, Arc<Source>>,
    /// What is odd but stops nothing: a shadowing file whose name is no template's.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources.values().map(|s| &s.path)).finish()
    }
}

impl Templates {
    /// The embedded templates, shadowed by those in `folder/templates/`.
    ///
    /// # Errors
    /// Every template that cannot be read or does not parse, with its place.
    pub fn load(folder: Option<&Path>) -> Result<Self, Vec<Diagnostic>> {
        let mut sources = BTreeMap::new();
        for (name, text) in EMBEDDED {
            let path = PathBuf::from(format!("built-in templates/{name}"));
            sources.insert((*name).to_owned(), Arc::new(Source { path, text: (*text).to_owned() }));
        }
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        if let Some(folder) = folder.map(|f| f.join("templates")).filter(|f| f.is_dir()) {
            let mut found = Vec::new();
            files(&folder, &mut String::new(), 0, &mut found, &mut errors);
            for (name, path) in found {
                if !sources.contains_key(&name) {
                    warnings.push(stray(&name, &path));
                    continue;
                }
                match read(&path) {
                    Ok(text) => drop(sources.insert(name, Arc::new(Source { path, text }))),
                    Err(error) => errors.push(error),
                }
            }
        }
        let mut templates = Self { tera: engine(), sources, warnings };
        // One by one first: added together, the first mistake would hide the others.
        for (name, source) in &templates.sources {
            if let Err(error) = engine().add_raw_template(name, &source.text)
                && matches!(error.kind(), ErrorKind::SyntaxError(_))
            {
                errors.push(templates.diagnose(name, &error));
            }
        }
        if errors.is_empty() {
            let all: Vec<_> = templates.sources.iter().map(|(n, s)| (n.as_str(), s.text.as_str())).collect();
            if let Err(error) = templates.tera.add_raw_templates(all) {
                errors.push(templates.diagnose("", &error));
            }
        }
        if errors.is_empty() { Ok(templates) } else { Err(errors) }
    }

    /// Renders `name` (`haproxy/haproxy.cfg`).
    ///
    /// # Errors
    /// An unknown template or variable, with its place.
    pub fn render(&self, name: &str, model: &impl serde::Serialize) -> Result<String, Diagnostic> {
        let context = tera::Context::from_serialize(model).map_err(|e| self.diagnose(name, &e))?;
        self.tera.render(name, &context).map_err(|e| self.diagnose(name, &e))
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
        match EMBEDDED.iter().find(|(n, text)| *n == file && *text != source.text) {
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
        Ok(sentinel(kwargs.must_get::<&str>("name")?))
    });
    tera
}

fn stray(name: &str, path: &Path) -> Diagnostic {
    let mut warning = Diagnostic::warning(format!("{}: there is no template `{name}` to shadow", path.display()));
    warning.help.extend(did_you_mean(name, EMBEDDED.iter().map(|(n, _)| *n)));
    warning.help("the name below `templates/` must be that of a built-in template; any other file is ignored")
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    let error = |why: String| Diagnostic::error(format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| error(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(error(format!("is {size} bytes big; a template has at most {MAX_BYTES}")));
    }
    let text = String::from_utf8(std::fs::read(path).map_err(|e| error(e.to_string()))?)
        .map_err(|e| error(format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
    Ok(text)
}

/// All regular files below `folder` with their names relative to the first one; what editors leave behind is passed over.
fn files(
    folder: &Path,
    prefix: &mut String,
    depth: usize,
    found: &mut Vec<(String, PathBuf)>,
    errors: &mut Vec<Diagnostic>,
) {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return errors.push(Diagnostic::error(error.to_string())),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let full = format!("{prefix}{name}");
        if path.is_dir() && depth < MAX_DEPTH {
            files(&path, &mut format!("{full}/"), depth + 1, found, errors);
        } else if path.is_file() {
            found.push((full, path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let templates = Templates::load(Some(dir.path())).unwrap();
        let text = templates.render("haproxy/crt.list", &serde_json::json!({ "name": "<x>" })).unwrap();
        assert_eq!(text, format!("mine <x> {} <&>\n", sentinel("a/b.key")));
    }

    #[test]
    fn an_unknown_variable_is_underlined() {
        let dir = folder(&[("haproxy/crt.list", "one\ntwo {{ nmae }}\n")]);
        let templates = Templates::load(Some(dir.path())).unwrap();
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
        let errors = Templates::load(Some(dir.path())).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors.iter().all(|e| e.span.is_some()), "{errors:?}");
    }

    #[test]
    fn a_misspelt_shadow_is_named() {
        let dir = folder(&[("haproxy/haproxi.cfg", "")]);
        let templates = Templates::load(Some(dir.path())).unwrap();
        assert_eq!(templates.warnings.len(), 1);
        assert_eq!(templates.warnings[0].help[0], "did you mean `haproxy/haproxy.cfg`?");
        let error = templates.render("haproxy/haproxi.cfg", &serde_json::json!({})).unwrap_err();
        assert_eq!(error.help, ["did you mean `haproxy/haproxy.cfg`?"]);
    }

    #[test]
    fn a_shadow_that_is_no_text_is_an_error() {
        let dir = folder(&[("haproxy/crt.list", "")]);
        fs_err::write(dir.path().join("templates/haproxy/crt.list"), [b'a', 0xff]).unwrap();
        let errors = Templates::load(Some(dir.path())).unwrap_err();
        assert!(errors[0].message.ends_with("is not UTF-8 at byte 1"), "{errors:?}");
    }
}
