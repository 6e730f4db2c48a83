//! Where a value comes from: the line of the inventory that it stands in, or what a secret is read from.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A line of the inventory, for «from which line does this come».
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Default)]
pub struct Place {
    /// The file as the person named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A reference to a secret; the value is read when it is needed, never kept here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SecretRef {
    /// An environment variable of the controller.
    Env(String),
    /// A file of the controller, relative to the inventory's folder.
    File(PathBuf),
    /// What a command prints on stdout (sops, pass, vault, op).
    Command(Vec<String>),
}
