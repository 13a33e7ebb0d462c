//! What the code of a deployment may reach of the node and beyond: nothing but what is granted to it by name.
//!
//! A grant is one line of text, the same on the command line, on the wire and in the store:
//!
//! | grant | gives |
//! |---|---|
//! | `config=KEY=VALUE` | the value under the key |
//! | `secret=NAME` | the use of a secret in headers |
//! | `collections=NAME[:read]`, `collections=NAME:write` | records of a collection; `*` for all |
//! | `files=FOLDER[:read]`, `files=FOLDER:write` | files of a folder of the namespace |
//! | `dispatch=SERVICE` | calls of a service of the namespace; `*` for all |
//! | `http=https://HOST[:PORT]` | requests to a host; `*.` before it for all below it |

use crate::domain::{CollectionName, FolderName, NameError, SecretName, ServiceName, one_line};
use std::fmt;
use std::str::FromStr;
use url::Url;

/// Grants of one deployment. 64: more is a sign that a `*` was meant; each is looked at by every host call.
pub const GRANTS_MAX: usize = 64;
/// Longest key of the configuration.
const KEY_MAX: usize = 64;
/// Longest value of the configuration. 4 KiB: a setting, not a document; it stands in every record of the deployment.
const VALUE_MAX: usize = 4 << 10;
/// Longest pattern of a host.
const ORIGIN_MAX: usize = 300;

/// One right of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A pair of its configuration.
    Config {
        /// 1 to 64 visible ASCII characters but `=`.
        key: String,
        /// Any text.
        value: String,
    },
    /// The use of a secret.
    Secret(SecretName),
    /// The records of a collection.
    Collections {
        /// `None`: of all.
        name: Option<CollectionName>,
        /// Or only to read them.
        write: bool,
    },
    /// The files of a folder.
    Files {
        /// Which.
        folder: FolderName,
        /// Or only to read them.
        write: bool,
    },
    /// Calls of a service; `None`: of all.
    Dispatch(Option<ServiceName>),
    /// Requests to a host.
    Http(Origin),
}

/// Web servers: scheme, host, port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    /// In the form that requests are compared in; below it only, where `below`.
    host: String,
    below: bool,
    port: u16,
}

/// A text that is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGrant {
    /// No such kind.
    #[error(
        "{0:?} is no grant: write config=KEY=VALUE, secret=NAME, collections=NAME:write, files=FOLDER:write, \
             dispatch=SERVICE or http=https://HOST"
    )]
    Kind(String),
    /// A name in it.
    #[error("the name in {grant} {why}")]
    Name {
        /// The grant's kind.
        grant: &'static str,
        /// What is wrong with the name.
        why: NameError,
    },
    /// Something else in it.
    #[error("{grant}: {problem}")]
    Part {
        /// The grant's kind.
        grant: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// More than a deployment may have.
    #[error("a deployment has at most {GRANTS_MAX} grants")]
    TooMany,
    /// To be revoked, and not there.
    #[error("the deployment has no grant {0}")]
    Unknown(String),
}

/// What a host call would have needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not granted to this deployment: {0} (give it with `collector plugin grant`)")]
pub struct NotGranted(pub String);

impl Grant {
    /// The word before the first `=`: the interface that it opens.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Config { .. } => "config",
            Self::Secret(_) => "secret",
            Self::Collections { .. } => "collections",
            Self::Files { .. } => "files",
            Self::Dispatch(_) => "dispatch",
            Self::Http(_) => "http",
        }
    }

    /// What it is about, without how much of it: there is one grant for each.
    fn subject(&self) -> String {
        match self {
            Self::Config { key, .. } => format!("config={key}"),
            Self::Collections { name, .. } => format!("collections={}", starred(name.as_ref())),
            Self::Files { folder, .. } => format!("files={folder}"),
            Self::Secret(_) | Self::Dispatch(_) | Self::Http(_) => self.to_string(),
        }
    }
}

fn starred<T: fmt::Display>(name: Option<&T>) -> String {
    name.map_or_else(|| "*".to_owned(), ToString::to_string)
}

fn right(write: bool) -> &'static str {
    if write { "write" } else { "read" }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { key, value } => write!(f, "config={key}={value}"),
            Self::Secret(name) => write!(f, "secret={name}"),
            Self::Collections { name, write } => {
                write!(f, "collections={}:{}", starred(name.as_ref()), right(*write))
            }
            Self::Files { folder, write } => write!(f, "files={folder}:{}", right(*write)),
            Self::Dispatch(name) => write!(f, "dispatch={}", starred(name.as_ref())),
            Self::Http(origin) => write!(f, "http={origin}"),
        }
    }
}

impl FromStr for Grant {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<Self, BadGrant> {
        let unknown = || BadGrant::Kind(one_line(text, 64));
        let (kind, what) = text.split_once('=').ok_or_else(unknown)?;
        match kind {
            "config" => config(what),
            "secret" => Ok(Self::Secret(name("secret", what)?)),
            "collections" => {
                let (of, write) = of_and_right("collections", what)?;
                Ok(Self::Collections { name: name_or_all("collections", of)?, write })
            }
            "files" => {
                let (of, write) = of_and_right("files", what)?;
                Ok(Self::Files { folder: name("files", of)?, write })
            }
            "dispatch" => Ok(Self::Dispatch(name_or_all("dispatch", what)?)),
            "http" => Ok(Self::Http(what.parse()?)),
            _ => Err(unknown()),
        }
    }
}

/// `NAME`, `NAME:read` or `NAME:write`.
fn of_and_right<'a>(grant: &'static str, what: &'a str) -> Result<(&'a str, bool), BadGrant> {
    match what.rsplit_once(':') {
        Some((of, "write")) => Ok((of, true)),
        Some((of, "read")) => Ok((of, false)),
        Some(_) => Err(BadGrant::Part { grant, problem: "write NAME:read or NAME:write".to_owned() }),
        None => Ok((what, false)),
    }
}

fn name<T: FromStr<Err = NameError>>(grant: &'static str, text: &str) -> Result<T, BadGrant> {
    text.parse().map_err(|why| BadGrant::Name { grant, why })
}

fn name_or_all<T: FromStr<Err = NameError>>(grant: &'static str, text: &str) -> Result<Option<T>, BadGrant> {
    if text == "*" { Ok(None) } else { name(grant, text).map(Some) }
}

fn config(what: &str) -> Result<Grant, BadGrant> {
    let bad = |problem: String| BadGrant::Part { grant: "config", problem };
    let (key, value) = what.split_once('=').ok_or_else(|| bad("write config=KEY=VALUE".to_owned()))?;
    if !(1..=KEY_MAX).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad(format!("a key has 1 to {KEY_MAX} visible ASCII characters")));
    }
    if value.len() > VALUE_MAX {
        return Err(bad(format!("a value has at most {VALUE_MAX} bytes")));
    }
    Ok(Grant::Config { key: key.to_owned(), value: value.to_owned() })
}

impl FromStr for Origin {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<Self, BadGrant> {
        let bad = |problem: &str| BadGrant::Part { grant: "http", problem: problem.to_owned() };
        let form = || bad("write https://HOST[:PORT], or https://*.HOST");
        let (scheme, rest) = text.split_once("://").filter(|_| text.len() <= ORIGIN_MAX).ok_or_else(form)?;
        let (below, host) = rest.strip_prefix("*.").map_or((false, rest), |host| (true, host));
        let forbidden = |c: char| c.is_control() || "/\\?#@* ".contains(c);
        if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(forbidden) {
            return Err(form());
        }
        let url = Url::parse(&format!("{scheme}://{host}/")).map_err(|_| form())?;
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default().filter(|port| *port > 0)) else {
            return Err(form());
        };
        if below && !matches!(host, url::Host::Domain(_)) {
            return Err(bad("there is nothing below an address"));
        }
        Ok(Self { scheme: scheme.to_owned(), host: host.to_string(), below, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, below, port } = self;
        write!(f, "{scheme}://{}{host}", if *below { "*." } else { "" })?;
        match (scheme.as_str(), port) {
            ("http", 80) | ("https", 443) => Ok(()),
            _ => write!(f, ":{port}"),
        }
    }
}

impl Origin {
    fn holds(&self, scheme: &str, host: &str, port: u16) -> bool {
        let name = match self.below {
            true => host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            false => host == self.host,
        };
        name && self.scheme == scheme && self.port == port
    }
}

/// All rights of one deployment. Empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    /// These and those; of two about the same the newer stays.
    ///
    /// * errors: `TooMany`.
    pub fn with(&self, more: &[Grant]) -> Result<Self, BadGrant> {
        let mut all = self.0.clone();
        for grant in more {
            let subject = grant.subject();
            all.retain(|one| one.subject() != subject);
            all.push(grant.clone());
        }
        all.sort_by_key(ToString::to_string);
        if all.len() > GRANTS_MAX { Err(BadGrant::TooMany) } else { Ok(Self(all)) }
    }

    /// Without these, each named as it was given, without its value (`config=KEY`, `collections=NAME`), or by its kind
    /// alone (`http`) for all of it.
    ///
    /// * errors: `Unknown`: one that is not there, so that a slip of the pen does not look like a revocation.
    pub fn without(&self, less: &[String]) -> Result<Self, BadGrant> {
        let mut left = self.0.clone();
        for text in less {
            let subject = text.parse::<Grant>().map_or_else(|_| text.clone(), |grant| grant.subject());
            let before = left.len();
            left.retain(|one| one.kind() != subject && one.subject() != subject);
            if left.len() == before {
                return Err(BadGrant::Unknown(one_line(text, 128)));
            }
        }
        Ok(Self(left))
    }

    /// Whether anything of this kind is granted.
    pub fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|grant| grant.kind() == kind)
    }

    /// The value under a key of its configuration.
    pub fn config(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find_map(|grant| match grant {
            Grant::Config { key, value } if key == wanted => Some(value.as_str()),
            _ => None,
        })
    }

    /// The keys of its configuration, in order.
    pub fn config_keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|grant| match grant {
            Grant::Config { key, .. } => Some(key.as_str()),
            _ => None,
        })
    }

    /// Whether it may use a secret.
    pub fn secret(&self, name: &SecretName) -> Result<(), NotGranted> {
        let given = self.0.iter().any(|grant| matches!(grant, Grant::Secret(one) if one == name));
        given.then_some(()).ok_or_else(|| NotGranted(format!("secret={name}")))
    }

    /// Whether it may read, or `write`, records of a collection.
    pub fn collection(&self, wanted: &CollectionName, write: bool) -> Result<(), NotGranted> {
        let given = self.0.iter().any(|grant| match grant {
            Grant::Collections { name, write: may_write } => {
                name.as_ref().is_none_or(|name| name == wanted) && (*may_write || !write)
            }
            _ => false,
        });
        given.then_some(()).ok_or_else(|| NotGranted(format!("collections={wanted}:{}", right(write))))
    }

    /// Whether it may read, or `write`, files of a folder.
    pub fn folder(&self, wanted: &FolderName, write: bool) -> Result<(), NotGranted> {
        let given = self.0.iter().any(|grant| match grant {
            Grant::Files { folder, write: may_write } => folder == wanted && (*may_write || !write),
            _ => false,
        });
        given.then_some(()).ok_or_else(|| NotGranted(format!("files={wanted}:{}", right(write))))
    }

    /// Whether it may call a service, by its full name.
    pub fn dispatch(&self, full_name: &str) -> Result<(), NotGranted> {
        let given = self.0.iter().any(|grant| match grant {
            Grant::Dispatch(name) => name.as_ref().is_none_or(|name| name.as_str() == full_name),
            _ => false,
        });
        given.then_some(()).ok_or_else(|| NotGranted(format!("dispatch={}", one_line(full_name, 255))))
    }

    /// Whether it may send requests to a server.
    ///
    /// * `host`: as URLs are compared: lower case, ASCII, addresses in their plain form.
    pub fn http(&self, scheme: &str, host: &str, port: u16) -> Result<(), NotGranted> {
        let given = self.0.iter().any(|grant| matches!(grant, Grant::Http(origin) if origin.holds(scheme, host, port)));
        given.then_some(()).ok_or_else(|| NotGranted(one_line(&format!("http={scheme}://{host}:{port}"), 300)))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<T: IntoIterator<Item = Grant>>(grants: T) -> Self {
        Self(grants.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(all: &[&str]) -> Grants {
        let all: Vec<Grant> = all.iter().map(|text| text.parse().unwrap()).collect();
        Grants::default().with(&all).unwrap()
    }

    #[test]
    fn a_grant_is_its_text() {
        for text in [
            "config=region=eu=1",
            "config=empty=",
            "secret=api-key",
            "collections=orders:read",
            "collections=*:write",
            "files=reports:read",
            "files=reports:write",
            "dispatch=shop.v1.Orders",
            "dispatch=*",
            "http=https://api.example.com",
            "http=http://*.example.com:8080",
            "http=https://[2606:4700::1111]",
        ] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        for (text, same) in [
            ("collections=orders", "collections=orders:read"),
            ("files=reports", "files=reports:read"),
            ("http=https://API.example.com:443", "http=https://api.example.com"),
            ("http=http://0x7f.1", "http=http://127.0.0.1"),
        ] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), same);
        }
        for bad in [
            "",
            "http",
            "files=",
            "files=*",
            "files=*:write",
            "files=a/b",
            "files=..:read",
            "files=/etc",
            "files=a:exec",
            "config=a",
            "config==b",
            "config=a b=c",
            "secret=",
            "secret=a/b",
            "collections=a:all",
            "collections=",
            "dispatch=a b",
            "http=ftp://a",
            "http=https://",
            "http=https://*",
            "http=*",
            "http=https://a/b",
            "http=https://u@a",
            "http=https://*.127.0.0.1",
            "http=https://a:0",
            "http=https://*.*.a",
            "http=https://a\nb",
            "http=https://a?b",
        ] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_granted_but_what_is() {
        let (orders, notes) = ("orders".parse().unwrap(), "notes".parse().unwrap());
        let some = grants(&["collections=orders:write", "collections=notes", "dispatch=shop.v1.Orders", "secret=a"]);
        assert!(some.collection(&orders, true).is_ok() && some.collection(&orders, false).is_ok());
        assert!(some.collection(&notes, false).is_ok() && some.collection(&notes, true).is_err());
        assert!(some.dispatch("shop.v1.Orders").is_ok() && some.dispatch("shop.v2.Orders").is_err());
        assert!(some.secret(&"a".parse().unwrap()).is_ok() && some.secret(&"b".parse().unwrap()).is_err());
        assert!(some.http("https", "a.example", 443).is_err());
        let (in_, out) = ("in".parse().unwrap(), "out".parse().unwrap());
        let folders = grants(&["files=in", "files=out:write"]);
        assert!(folders.folder(&in_, false).is_ok() && folders.folder(&out, true).is_ok());
        assert!(folders.folder(&out, false).is_ok(), "who may write may read");
        assert_eq!(folders.folder(&in_, true), Err(NotGranted("files=in:write".into())));
        assert!(some.folder(&in_, false).is_err());
        let none = Grants::default();
        assert_eq!(none.collection(&orders, false), Err(NotGranted("collections=orders:read".into())));
        assert_eq!((none.config("a"), none.has("http")), (None, false));
        let all = grants(&["collections=*:write", "dispatch=*"]);
        assert!(all.collection(&notes, true).is_ok() && all.dispatch("any.Thing").is_ok());
    }

    #[test]
    fn hosts_are_compared_whole() {
        let some = grants(&["http=https://api.example.com", "http=http://*.example.org:8080"]);
        assert!(some.http("https", "api.example.com", 443).is_ok());
        for (scheme, host, port) in [
            ("http", "api.example.com", 443),
            ("https", "api.example.com", 8443),
            ("https", "example.com", 443),
            ("https", "evil-api.example.com", 443),
            ("https", "api.example.com.evil.example", 443),
            ("http", "example.org", 8080),
            ("http", "evilexample.org", 8080),
            ("http", ".example.org", 8080),
            ("http", "a.example.org", 80),
        ] {
            assert!(some.http(scheme, host, port).is_err(), "{scheme}://{host}:{port}");
        }
        assert!(some.http("http", "a.b.example.org", 8080).is_ok());
    }

    #[test]
    fn grants_come_and_go() {
        let some = grants(&["config=a=1", "collections=orders:read", "http=https://a", "http=https://b"]);
        let more = some.with(&["config=a=2".parse().unwrap(), "collections=orders:write".parse().unwrap()]).unwrap();
        assert_eq!((more.config("a"), more.iter().count()), (Some("2"), 4), "of two about the same the newer stays");
        let less = |what: &[&str]| more.without(&what.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(less(&["http"]).unwrap().iter().count(), 2);
        assert_eq!(less(&["config=a", "collections=orders", "http=https://a:443"]).unwrap().iter().count(), 1);
        assert!(matches!(less(&["http=https://c"]), Err(BadGrant::Unknown(_))));
        let many: Vec<Grant> = (0..=GRANTS_MAX).map(|n| format!("config=k{n}=v").parse().unwrap()).collect();
        assert_eq!(Grants::default().with(&many[..GRANTS_MAX]).unwrap().iter().count(), GRANTS_MAX);
        assert_eq!(Grants::default().with(&many), Err(BadGrant::TooMany));
    }
}
