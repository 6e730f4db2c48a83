//! Templates: takes a name and a model, gives text. Embedded in the binary; a `templates/` folder beside the inventory
//! shadows by name.

use std::path::Path;

use crate::base::diagnostic::Diagnostic;

/// All templates, parsed.
#[derive(Debug)]
pub struct Templates {}

impl Templates {
    /// The embedded templates, shadowed by those in `folder/templates/`.
    ///
    /// # Errors
    /// Every template that does not parse, with its place.
    pub fn load(_folder: Option<&Path>) -> Result<Self, Vec<Diagnostic>> {
        Ok(Self {})
    }

    /// Renders `name` (`haproxy/haproxy.cfg`).
    ///
    /// # Errors
    /// An unknown template or variable, with its place.
    pub fn render(&self, name: &str, _model: &impl serde::Serialize) -> Result<String, Diagnostic> {
        Err(Diagnostic::error(format!("no template `{name}`")))
    }
}
