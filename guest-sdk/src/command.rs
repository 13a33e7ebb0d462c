//! The plugin as a native command: the same services behind the command contract that any language can speak.
//!
//! argv = namespace, service, method; standard input = the request's bytes; standard output = the reply's bytes;
//! standard error = log lines; exit code 0, or 64 + n for gRPC code n with standard error's last line as the message.
//! Left out, because the contract has no place for them: streaming methods (UNIMPLEMENTED), request metadata, and the
//! details of a fault.

use crate::logging::{self, one_line};
use crate::plugin::{Route, dispatch};
use crate::{Context, Fault};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code of gRPC code n is this plus n.
const EXIT_BASE: u8 = 64;

/// What the contract gives a command besides its standard streams.
struct Invocation {
    namespace: String,
    service: String,
    method: String,
    deadline: Option<Duration>,
}

/// Serves one call as a command, by what this process was started with.
#[must_use]
pub fn main(routes: &[Route]) -> ExitCode {
    logging::install();
    let answer = Invocation::read(std::env::args().skip(1), |name| std::env::var(name).ok())
        .and_then(|invocation| serve(routes, invocation, &mut std::io::stdin().lock(), &mut std::io::stdout().lock()));
    ExitCode::from(report(answer, &mut std::io::stderr().lock()))
}

impl Invocation {
    /// * `args`: without the program's own name. What is missing there is looked for in the environment.
    fn read(mut args: impl Iterator<Item = String>, env: impl Fn(&str) -> Option<String>) -> Result<Self, Fault> {
        let mut next = |name| args.next().or_else(|| env(name)).ok_or_else(usage);
        Ok(Self {
            namespace: next("COLLECTOR_NAMESPACE")?,
            service: next("COLLECTOR_SERVICE")?,
            method: next("COLLECTOR_METHOD")?,
            deadline: env("COLLECTOR_DEADLINE_MS").and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
        })
    }
}

fn usage() -> Fault {
    Fault::invalid_argument("usage: NAMESPACE SERVICE METHOD, with the request on standard input")
}

fn serve(routes: &[Route], call: Invocation, stdin: &mut impl Read, stdout: &mut impl Write) -> Result<(), Fault> {
    let mut context = Context::new(call.namespace, call.service, call.method);
    if let Some(deadline) = call.deadline {
        context = context.with_remaining(deadline);
    }
    let mut input = Vec::new();
    stdin.read_to_end(&mut input).map_err(|error| Fault::internal(format!("cannot read the request: {error}")))?;
    let reply = dispatch(routes, &context, &input)?;
    stdout
        .write_all(&reply)
        .and_then(|()| stdout.flush())
        .map_err(|error| Fault::internal(format!("cannot write the reply: {error}")))
}

/// Tells the outcome the way the contract wants it; returns the exit code.
fn report(answer: Result<(), Fault>, stderr: &mut impl Write) -> u8 {
    let Err(fault) = answer else { return 0 };
    let message = if fault.message().is_empty() { fault.code().name() } else { fault.message() };
    let _ = writeln!(stderr, "{}", one_line(message));
    EXIT_BASE + fault.code().number()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::tests::ROUTES;

    struct Ran {
        exit: u8,
        stdout: Vec<u8>,
        stderr: String,
    }

    fn run(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Ran {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let look_up = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        let answer = Invocation::read(args.iter().map(|arg| arg.to_string()), look_up)
            .and_then(|call| serve(ROUTES, call, &mut &*input, &mut stdout));
        let exit = report(answer, &mut stderr);
        Ran { exit, stdout, stderr: String::from_utf8(stderr).unwrap() }
    }

    #[test]
    fn a_reply_is_all_there_is_on_standard_output() {
        let ran = run(&["acme", "say.v1.A", "M"], &[], b"\0x");
        assert_eq!((ran.exit, ran.stdout.as_slice(), ran.stderr.as_str()), (0, b"say.v1.A/M \0x".as_slice(), ""));
    }

    #[test]
    fn a_fault_is_an_exit_code_and_one_last_line() {
        let ran = run(&["acme", "say.v1.A", "Fail"], &[], b"");
        assert_eq!((ran.exit, ran.stdout.len(), ran.stderr.as_str()), (64 + 9, 0, "told\\nto fail\n"));
    }

    #[test]
    fn a_fault_without_a_message_still_has_a_last_line() {
        let mut stderr = Vec::new();
        assert_eq!(report(Err(Fault::unauthenticated("")), &mut stderr), 80);
        assert_eq!(stderr, b"UNAUTHENTICATED\n");
    }

    #[test]
    fn arguments_may_come_from_the_environment() {
        let env = [("COLLECTOR_NAMESPACE", "acme"), ("COLLECTOR_SERVICE", "B"), ("COLLECTOR_METHOD", "M")];
        assert_eq!(run(&[], &env, b"x").stdout, b"say.v1.B/M x");
        assert_eq!(run(&["acme", "A"], &env, b"x").stdout, b"say.v1.A/M x", "an argument goes first");
    }

    #[test]
    fn a_start_without_a_call_tells_how() {
        let ran = run(&["acme"], &[], b"");
        assert_eq!(ran.exit, 64 + 3);
        assert!(ran.stderr.starts_with("usage: "), "{}", ran.stderr);
    }

    #[test]
    fn the_deadline_is_milliseconds_from_the_start() {
        let args = || ["acme", "A", "M"].iter().map(|arg| arg.to_string());
        let with = |ms: &'static str| {
            Invocation::read(args(), move |name| (name == "COLLECTOR_DEADLINE_MS").then(|| ms.into()))
        };
        assert_eq!(with("1500").unwrap().deadline, Some(Duration::from_millis(1500)));
        assert_eq!(with("soon").unwrap().deadline, None);
    }

    #[test]
    fn a_reply_that_cannot_be_written_is_a_fault() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let call = Invocation { namespace: "acme".into(), service: "A".into(), method: "M".into(), deadline: None };
        let fault = serve(ROUTES, call, &mut b"".as_slice(), &mut Full).unwrap_err();
        assert_eq!(fault.code(), crate::Code::Internal);
    }
}
