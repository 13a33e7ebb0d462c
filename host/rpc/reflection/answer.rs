//! What is asked of a snapshot, and what it answers: the same in all versions of the protocol.

use crate::domain::{one_line, some_of};
use crate::registry::{File, Snapshot};
use tonic::Code;

/// Largest answer, without the echo of its request. Clients take 4 MiB unless told otherwise.
pub(super) const ANSWER_MAX: usize = (4 << 20) - (16 << 10);
/// Bytes that each element of a list may cost besides its content: a tag and a length, twice.
const FRAMING: usize = 10;
/// How much of a name is worth a line.
const NAME_MAX: usize = 256;

/// A question. Names are as the client sent them; those of types and symbols may start with a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// The file with this name.
    File(String),
    /// The file that defines this full name.
    Symbol(String),
    /// The file that extends the message with this number.
    Extension { of: String, number: i32 },
    /// The numbers that the message is extended with.
    Extensions { of: String },
    /// All services.
    Services,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Encoded files: the one that was asked for, then all that it imports, each once.
    Files(Vec<Vec<u8>>),
    /// Ascending.
    Extensions { of: String, numbers: Vec<i32> },
    /// Full names, in order.
    Services(Vec<String>),
}

/// No answer. The stream goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Refusal {
    fn not_found(what: &str, name: &str) -> Self {
        let message = format!("there is no {what} {} here", one_line(name, NAME_MAX));
        Self { code: Code::NotFound, message }
    }

    fn too_large(what: &str, size: usize, names: &[String]) -> Self {
        let message = format!(
            "{what} have {size} bytes, and an answer has room for {ANSWER_MAX}: {}",
            one_line(&some_of(names), 4 * NAME_MAX)
        );
        Self { code: Code::ResourceExhausted, message }
    }
}

/// Answers from one revision of one namespace.
///
/// * errors: NOT_FOUND; RESOURCE_EXHAUSTED for an answer above [`ANSWER_MAX`], which is not cut: half a list looks whole.
pub(super) fn answer(snapshot: &Snapshot, ask: &Ask) -> Result<Answer, Refusal> {
    match ask {
        Ask::File(name) => {
            let file = snapshot.file(name);
            files(snapshot, file.ok_or_else(|| Refusal::not_found("file", name))?)
        }
        Ask::Symbol(name) => {
            let file = snapshot.file_of(undotted(name));
            files(snapshot, file.ok_or_else(|| Refusal::not_found("symbol", name))?)
        }
        Ask::Extension { of, number } => {
            let file = snapshot.file_of_extension(undotted(of), *number);
            files(snapshot, file.ok_or_else(|| Refusal::not_found(&format!("extension {number} of"), of))?)
        }
        Ask::Extensions { of } => extensions(snapshot, undotted(of)),
        Ask::Services => services(snapshot),
    }
}

/// Descriptors write full names with a leading dot, clients often without.
fn undotted(name: &str) -> &str {
    name.strip_prefix('.').unwrap_or(name)
}

fn files(snapshot: &Snapshot, file: &File) -> Result<Answer, Refusal> {
    let mut closure = snapshot.closure([file]);
    closure.reverse(); // imports first is how files are linked; clients look at the first for what they asked
    let size: usize = closure.iter().map(|file| file.source.raw.len() + FRAMING).sum();
    if size > ANSWER_MAX {
        let names: Vec<String> = closure.iter().map(|file| file.source.name.to_string()).collect();
        return Err(Refusal::too_large("the file and all that it imports", size, &names));
    }
    Ok(Answer::Files(closure.into_iter().map(|file| file.source.raw.to_vec()).collect()))
}

fn extensions(snapshot: &Snapshot, of: &str) -> Result<Answer, Refusal> {
    if !snapshot.has_message(of) {
        return Err(Refusal::not_found("message", of));
    }
    let numbers = snapshot.extensions_of(of);
    let size = numbers.len() * FRAMING;
    if size > ANSWER_MAX {
        return Err(Refusal::too_large("the extensions", size, &[of.to_owned()]));
    }
    Ok(Answer::Extensions { of: of.to_owned(), numbers })
}

fn services(snapshot: &Snapshot) -> Result<Answer, Refusal> {
    let names: Vec<String> = snapshot.services().into_iter().map(|service| service.name.to_string()).collect();
    let size: usize = names.iter().map(|name| name.len() + FRAMING).sum();
    if size > ANSWER_MAX {
        return Err(Refusal::too_large("the names of the services", size, &names));
    }
    Ok(Answer::Services(names))
}
