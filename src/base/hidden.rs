//! The secrets that are never told, whoever says them: learnt once, shared by all who tell; takes text, gives it without them.

use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::redact::Redactor;
use crate::base::secret::Secret;

/// A handle: its clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Hidden(Arc<RwLock<Redactor>>);

impl Hidden {
    /// From now on these are hidden too, but for what stands in `public` text as well.
    pub fn add<'a>(&self, secrets: impl IntoIterator<Item = &'a Secret>, public: impl IntoIterator<Item = &'a str>) {
        let mut redactor = self.0.write().unwrap_or_else(PoisonError::into_inner);
        redactor.add(secrets.into_iter().map(|secret| (secret.name(), secret.reveal())), public);
    }

    fn look<T>(&self, with: impl FnOnce(&Redactor) -> T) -> T {
        with(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The text with `‹name›` in place of every stretch of a secret. See [`Redactor::redact`].
    pub fn text(&self, text: &str) -> String {
        self.look(|redactor| redactor.redact(text).into_owned())
    }

    /// As [`Hidden::text`] for all texts of a value, so that it stays JSON. See [`Redactor::redact_value`].
    pub fn value(&self, value: &mut Value) {
        self.look(|redactor| redactor.redact_value(value));
    }

    /// As [`Hidden::value`] for anything that is told or kept as JSON.
    ///
    /// # Errors
    /// Where it does not survive JSON; it is then not fit to be told.
    pub fn redacted<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, serde_json::Error> {
        self.look(|redactor| redactor.redacted(value))
    }
}
