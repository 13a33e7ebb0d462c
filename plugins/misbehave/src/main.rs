//! The sins as a native command.

fn main() -> std::process::ExitCode {
    misbehave::command_main()
}
