//! How a call fails: a canonical code, a message for people, details for programs.

use crate::rpc::{BadRequest, FieldViolation};
use prost::{Message, Name};
use prost_types::Any;
use std::fmt;

/// Bytes of details that the node takes. Source: `collector.wit`.
#[cfg(any(target_family = "wasm", test))]
const DETAILS_MAX: usize = 4096;

macro_rules! codes {
    ($($(#[$doc:meta])+ $variant:ident $constructor:ident $number:literal $name:literal;)+) => {
        /// The canonical gRPC status codes, without OK.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code {$(
            $(#[$doc])+
            $variant = $number,
        )+}

        impl Code {
            /// Its number on the wire, 1 to 16.
            #[must_use]
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// Its name on the wire, `INVALID_ARGUMENT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The code with this number; `None` for 0 (OK) and for what gRPC does not know.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Fault {$(
            #[doc = concat!("A fault with code ", $name, ".")]
            ///
            $(#[$doc])+
            #[must_use]
            pub fn $constructor(message: impl Into<String>) -> Self {
                Self::new(Code::$variant, message)
            }
        )+}
    };
}

codes! {
    /// The caller gave up.
    Cancelled cancelled 1 "CANCELLED";
    /// No other code fits.
    Unknown unknown 2 "UNKNOWN";
    /// The request is wrong, whatever state the system is in.
    InvalidArgument invalid_argument 3 "INVALID_ARGUMENT";
    /// The time was up first.
    DeadlineExceeded deadline_exceeded 4 "DEADLINE_EXCEEDED";
    /// What was asked for is not there.
    NotFound not_found 5 "NOT_FOUND";
    /// What should be made is there.
    AlreadyExists already_exists 6 "ALREADY_EXISTS";
    /// The caller is known and may not.
    PermissionDenied permission_denied 7 "PERMISSION_DENIED";
    /// A quota or a limit is used up.
    ResourceExhausted resource_exhausted 8 "RESOURCE_EXHAUSTED";
    /// The system is not in the state that this needs; trying again alone will not help.
    FailedPrecondition failed_precondition 9 "FAILED_PRECONDITION";
    /// Lost against a concurrent change; try the whole transaction again.
    Aborted aborted 10 "ABORTED";
    /// Past the valid range, such as reading past the end.
    OutOfRange out_of_range 11 "OUT_OF_RANGE";
    /// There is no such method.
    Unimplemented unimplemented 12 "UNIMPLEMENTED";
    /// Something that must not happen did.
    Internal internal 13 "INTERNAL";
    /// Cannot be served right now; try again.
    Unavailable unavailable 14 "UNAVAILABLE";
    /// Data is lost or damaged.
    DataLoss data_loss 15 "DATA_LOSS";
    /// The caller is not known.
    Unauthenticated unauthenticated 16 "UNAUTHENTICATED";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A call that failed, as its caller sees it: a gRPC status.
///
/// ```
/// use collector_guest::{Code, Fault};
///
/// let fault = Fault::invalid_argument("two fields are wrong")
///     .with_violation("name", "must not be empty")
///     .with_violation("age", "must be at least 0");
/// assert_eq!(fault.code(), Code::InvalidArgument);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    code: Code,
    message: String,
    violations: Vec<FieldViolation>,
    details: Vec<Any>,
}

impl Fault {
    /// A fault with a code that is not known at compile time.
    /// * `message`: for people. The node cuts it to 1 KiB.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), violations: Vec::new(), details: Vec::new() }
    }

    /// Adds a detail for programs: one of [`rpc`](crate::rpc) or any message of the plugin's own.
    /// All details together may take 4 KiB; those that would be over it are left out, with a line in the log.
    #[must_use]
    pub fn with_detail<M: Message + Name>(mut self, detail: &M) -> Self {
        self.details.push(pack(detail));
        self
    }

    /// Adds one wrong field to this fault's `google.rpc.BadRequest` detail.
    /// * `field`: its path in proto names, `user.emails[0]`.
    #[must_use]
    pub fn with_violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(FieldViolation {
            field: field.into(),
            description: description.into(),
            reason: String::new(),
        });
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What a person is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What a program is told: the `BadRequest` of all violations first, then the rest in the order added.
    #[must_use]
    pub fn details(&self) -> Vec<Any> {
        let violations = match self.violations.as_slice() {
            [] => None,
            all => Some(pack(&BadRequest { field_violations: all.to_vec() })),
        };
        violations.into_iter().chain(self.details.iter().cloned()).collect()
    }

    /// The same, with the details of an encoded `google.rpc.Status`; bytes that are none add nothing.
    #[cfg(any(target_family = "wasm", test))]
    pub(crate) fn with_encoded(mut self, details: &[u8]) -> Self {
        self.details.extend(crate::rpc::Status::decode(details).map(|status| status.details).unwrap_or_default());
        self
    }

    /// The details as the node wants them: a `google.rpc.Status` with nothing but details, or no bytes at all.
    #[cfg(any(target_family = "wasm", test))]
    pub(crate) fn encode_details(&self) -> Vec<u8> {
        let mut status = crate::rpc::Status::default();
        for detail in self.details() {
            status.details.push(detail);
            if status.encoded_len() > DETAILS_MAX {
                let dropped = status.details.pop().unwrap_or_default();
                log::warn!(
                    "fault detail {} left out: all details together may take {DETAILS_MAX} bytes",
                    dropped.type_url
                );
            }
        }
        status.encode_to_vec()
    }
}

fn pack<M: Message + Name>(message: &M) -> Any {
    let package = M::PACKAGE;
    let dot = if package.is_empty() { "" } else { "." };
    Any { type_url: ["type.googleapis.com/", package, dot, M::NAME].concat(), value: message.encode_to_vec() }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.name())?;
        f.write_str(": ")?;
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{ErrorInfo, RetryInfo, Status};
    use std::time::Duration;

    #[test]
    fn codes_have_the_numbers_of_grpc() {
        assert_eq!(Code::from_number(0), None);
        assert_eq!(Code::from_number(17), None);
        for number in 1..=16 {
            assert_eq!(Code::from_number(number).unwrap().number(), number);
        }
        assert_eq!(Code::Unauthenticated.number(), 16);
        assert_eq!(Fault::data_loss("").code().name(), "DATA_LOSS");
    }

    #[test]
    fn a_plain_fault_has_no_detail_bytes() {
        assert!(Fault::not_found("no such page").encode_details().is_empty());
    }

    #[test]
    fn details_of_the_nodes_own_are_passed_on() {
        let said = Fault::resource_exhausted("used up")
            .with_detail(&ErrorInfo { reason: "QUOTA".into(), ..Default::default() });
        let heard = Fault::resource_exhausted("used up").with_encoded(&said.encode_details());
        assert_eq!(heard, said);
        assert!(Fault::not_found("").with_encoded(b"\xff noise").details().is_empty());
    }

    #[test]
    fn violations_share_one_bad_request_that_comes_first() {
        let fault = Fault::invalid_argument("wrong")
            .with_violation("name", "must not be empty")
            .with_detail(&ErrorInfo { reason: "EMPTY".into(), ..Default::default() })
            .with_violation("age", "must be at least 0");
        let status = Status::decode(fault.encode_details().as_slice()).unwrap();
        let urls: Vec<_> = status.details.iter().map(|any| any.type_url.as_str()).collect();
        assert_eq!(urls, ["type.googleapis.com/google.rpc.BadRequest", "type.googleapis.com/google.rpc.ErrorInfo"]);
        let bad = BadRequest::decode(status.details[0].value.as_slice()).unwrap();
        let fields: Vec<_> = bad.field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["name", "age"]);
        assert_eq!((status.code, status.message.as_str()), (0, ""), "the node reads nothing but details");
    }

    #[test]
    fn details_stay_under_the_bound_and_keep_what_fits() {
        let large = ErrorInfo { reason: "X".repeat(4000), ..Default::default() };
        let fault = Fault::unavailable("later")
            .with_detail(&large)
            .with_detail(&large)
            .with_detail(&RetryInfo::after(Duration::from_millis(1500)));
        let bytes = fault.encode_details();
        assert!(bytes.len() <= DETAILS_MAX);
        let status = Status::decode(bytes.as_slice()).unwrap();
        assert_eq!(status.details.len(), 1, "4000 bytes and a name leave no room");

        let retry = Fault::unavailable("later").with_detail(&RetryInfo::after(Duration::from_millis(1500)));
        let any = retry.details().remove(0);
        let delay = RetryInfo::decode(any.value.as_slice()).unwrap().retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
    }

    #[test]
    fn a_fault_reads_as_code_and_message() {
        assert_eq!(Fault::aborted("lost the race").to_string(), "ABORTED: lost the race");
    }
}
