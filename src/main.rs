//! The binary: all of it is in the library.

/// Of releases alone: musl's own gives memory slowly (docs/figures.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    infra::cli::main()
}
