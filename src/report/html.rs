//! A page for a browser: takes a template and what stands in it, gives HTML. The template engine escapes every text.

use serde::Serialize;
use tera::{Context, Tera};

/// What the templates extend.
const BASE: &str = include_str!("../../templates/page.html");

/// Fills a template that is part of this program.
///
/// # Errors
/// Where the template does not fit the model, which is a mistake of this program.
pub(super) fn fill(template: &str, model: &impl Serialize) -> Result<String, tera::Error> {
    let mut tera = Tera::new();
    tera.autoescape_on(vec![".html"]);
    tera.add_raw_templates([("page.html", BASE), ("this.html", template)])?;
    tera.render("this.html", &Context::from_serialize(model)?)
}
