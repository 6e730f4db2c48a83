//! Dying on purpose: takes the name of a place, gives a dead process where a test asked for it. Release builds hold nothing of it.

/// Ends this process by SIGKILL, where `INFRA_CRASH_AT` names this place.
pub fn crash_at(place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("INFRA_CRASH_AT").is_some_and(|at| at == place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}
