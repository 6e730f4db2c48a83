//! The binary: all of it is in the library.

fn main() -> std::process::ExitCode {
    infra::cli::main()
}
