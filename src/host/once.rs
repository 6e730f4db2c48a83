//! What many connections want to know and one finds out: takes a key and how its value is made, gives the value, made once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A value for each key, made once, also where many ask for it at the same time.
#[derive(Debug)]
pub(crate) struct Once<K, V>(Mutex<BTreeMap<K, Arc<OnceLock<V>>>>);

impl<K, V> Default for Once<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, V: Clone> Once<K, V> {
    /// The value of `key`; who comes while it is made waits for it.
    pub(crate) fn get(&self, key: K, make: impl FnOnce() -> V) -> V {
        let place = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        place.get_or_init(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_value_is_made_once_for_each_key() {
        let (once, made) = (Once::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (once, made) = (&once, &made);
                scope.spawn(move || {
                    let value = || {
                        made.fetch_add(1, Ordering::SeqCst);
                        n % 2
                    };
                    assert_eq!(once.get(n % 2, value), n % 2);
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }
}
