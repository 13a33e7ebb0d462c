//! The greeter as a native command.

fn main() -> std::process::ExitCode {
    greeter::command_main()
}
