//! Ctrl-C: takes SIGINT, SIGTERM and SIGHUP, gives a flag that ends the run after the step; the second signal ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether a person wants the run to end. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// What the reporter says when the flag is set.
    pub const WORDS: &str = "stopping after the step that is under way; Ctrl-C once more stops at once";

    /// Begins to watch: from now on the first signal sets the flag and the second ends the process with `code`. Before that
    /// (while a question is on the screen, say) a signal ends the process as ever.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn watch(&self, code: i32) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: at the first signal the flag is not set yet, so only the second registration acts.
            signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&self.0))?;
            signal_hook::flag::register(signal, Arc::clone(&self.0))?;
        }
        Ok(())
    }

    /// Whether the run is to end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for those who may not know the reporter.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Ends the run as Ctrl-C does.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
