//! The way out: which addresses this node connects to for others, and single HTTP requests to them.
//!
//! Who may reach which host is decided by grants, before this. Here stands what holds for everybody: no address of this
//! machine, of private networks or of a cloud's metadata service, unless the operator lists it. A name is resolved once,
//! every address that it has is looked at, and the connection goes to one that was looked at: what the name means a
//! moment later does not matter.

mod config;
mod error;
mod fetch;
mod guard;
mod target;
mod tls;
mod turns;

pub use config::{BadSetting, Config};
pub use error::FetchError;
pub use fetch::{Fetcher, HEADERS_MAX, HeaderRule, Request, Response, check_header, method};
pub use guard::{Cidr, Forbidden, Guard};
pub use target::Target;
