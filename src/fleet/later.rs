//! A value that another thread is still making: takes how it is made, gives it to whoever waits for it, or that it did not come about.

use std::sync::OnceLock;

/// A value that is not there yet.
pub(super) struct Later<T> {
    value: OnceLock<Option<T>>,
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self { value: OnceLock::new() }
    }
}

impl<T> Later<T> {
    /// One that is there.
    pub(super) fn there(value: T) -> Self {
        Self { value: OnceLock::from(Some(value)) }
    }

    /// Makes it, for all who wait.
    ///
    /// # Errors
    /// As `make`; those who wait are told then that there is none.
    pub(super) fn make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
        // Also where it is made by a panic: nobody waits for ever.
        let _none = Otherwise(self);
        make().map(|value| drop(self.value.set(Some(value))))
    }

    /// Waits for it; nothing where it did not come about.
    pub(super) fn wait(&self) -> Option<&T> {
        self.value.wait().as_ref()
    }

    /// Whether it is known that it did not come about.
    pub(super) fn is_void(&self) -> bool {
        self.value.get().is_some_and(Option::is_none)
    }

    /// The value.
    pub(super) fn into_value(self) -> Option<T> {
        self.value.into_inner().flatten()
    }
}

struct Otherwise<'l, T>(&'l Later<T>);

impl<T> Drop for Otherwise<'_, T> {
    fn drop(&mut self) {
        let _ = self.0.value.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_told_what_became_of_it() {
        for comes in [Some(Ok(1)), Some(Err("no")), None] {
            let later = Later::default();
            let make = || comes.unwrap_or_else(|| panic!("on purpose"));
            let waited = std::thread::scope(|scope| {
                let (reader, maker) = (scope.spawn(|| later.wait().copied()), scope.spawn(|| later.make(make)));
                let (waited, end) = (reader.join().unwrap(), maker.join());
                assert_eq!(end.ok(), comes.map(|comes| comes.map(drop)));
                waited
            });
            let value = comes.and_then(Result::ok);
            assert_eq!((waited, later.is_void(), later.into_value()), (value, value.is_none(), value));
        }
    }
}
