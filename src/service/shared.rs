//! What is the same on many hosts of a fleet: takes what of a host it depends on, gives what was made for the first such host. A thousand
//! web hosts that each list a thousand app hosts have one list.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::secret::names;
use crate::inventory::site::{Host, Role, Site};
use crate::plan::state::Body;
use crate::service::Context;

/// What something depends on beside the infrastructure itself.
pub trait On: Hash + Eq + Clone + Send + 'static {}
impl<T: Hash + Eq + Clone + Send + 'static> On for T {}

/// What was made so far.
#[derive(Default)]
pub struct Shared(Mutex<HashMap<TypeId, Box<dyn Any + Send>>>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// What `make` makes, once for each `on`. It is the type that says which is which, so each maker has one of its own.
    fn once<K: On, T: Send + Sync + 'static>(&self, on: &K, make: impl FnOnce() -> T) -> Arc<T> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables.entry(TypeId::of::<(K, T)>()).or_insert_with(|| Box::new(HashMap::<K, Arc<T>>::new()));
        // Of another type it cannot be, by its key.
        let Some(table) = table.downcast_mut::<HashMap<K, Arc<T>>>() else { return Arc::new(make()) };
        if let Some(known) = table.get(on) {
            return Arc::clone(known);
        }
        let new = Arc::new(make());
        table.insert(on.clone(), Arc::clone(&new));
        new
    }
}

impl Context<'_> {
    /// What is made of the infrastructure and of `on`, and of nothing else that the host has.
    pub(crate) fn shared<K: On, T: Send + Sync + 'static>(&self, on: &K, make: fn(&Site, K) -> T) -> Arc<T> {
        self.shared.once(on, || make(self.site, on.clone()))
    }

    /// The hosts of a role, looked for once in a fleet.
    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = &'_ Host> {
        let names =
            self.shared(&role, |site, role| Names(site.with_role(role).map(|host| host.name.clone()).collect()));
        (0..names.0.len()).filter_map(move |at| self.site.hosts.get(names.0.get(at)?))
    }

    /// As [`Context::render`], of a text that is the same on all hosts that agree in `on`: it is rendered for the first of them.
    ///
    /// # Errors
    /// As for [`Context::render`].
    pub(crate) fn render_shared<K: On, M: Serialize>(
        &self,
        template: &'static str,
        on: &K,
        model: fn(&Site, K) -> M,
    ) -> Result<Body, Diagnostic> {
        let render = || self.render(template, &model(self.site, on.clone()));
        let made = self.shared.once(&(template, on.clone()), || Rendered(render()));
        match &made.0 {
            // What it asks for was the first host's: whether it is this one's too, only a rendering for this one tells with the place.
            Ok(body) if body.text.is_marked() && names(&body.text).iter().any(|n| self.materials.may(n).is_err()) => {
                render()
            }
            made => made.clone(),
        }
    }
}

/// Of the hosts of a role.
struct Names(Vec<HostName>);

struct Rendered(Result<Body, Diagnostic>);
