//! The thumbnail plugin as a native command.

fn main() -> std::process::ExitCode {
    thumbnail::command_main()
}
