//! `http`: requests to the outside, with secrets put in on the way and taken out of what comes back.

use super::OneCall;
use super::fault::{self, fault};
use crate::domain::{Both, Charge, Fault, FaultCode};
use crate::exec::host_calls::{FetchRequest, FetchResponse, HeaderText};
use crate::net::{self, FetchError, HEADERS_MAX, Target};
use crate::tenancy::Verb;
use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;
use zeroize::Zeroizing;

/// Values of secrets that a request carries.
type Carried = Vec<Zeroizing<Vec<u8>>>;

impl OneCall {
    pub(super) async fn fetch_now(&self, request: FetchRequest) -> Result<FetchResponse, Fault> {
        let method = net::method(&request.method).map_err(fault::fetch)?;
        let target = Target::parse(&request.url).map_err(fault::fetch)?;
        let granted = self.grants().http(target.scheme(), target.host(), target.port());
        granted.map_err(|why| self.deny(&why, Verb::Invoke))?;
        let (headers, carried) = self.headers(request.headers)?;
        let account = Both::of(self.parts.accounts.of(&self.namespace), self.code.payer());
        if let Some(over) = account.over(Charge::Egress) {
            return Err(fault::over(&over));
        }
        let request = net::Request { method, target, headers, body: request.body };
        let moved = |bytes: usize| account.charge(Charge::Egress, bytes as u64);
        let answer = self.parts.fetcher.send(&self.namespace, request, &moved).await;
        let mut answer = answer.map_err(|why| {
            if matches!(why, FetchError::Forbidden(_)) {
                self.note_denied(Verb::Invoke);
            }
            fault::fetch(why)
        })?;
        let mut body = Vec::from(answer.body);
        mask(&mut body, &carried);
        for (_, value) in &mut answer.headers {
            mask(value, &carried);
        }
        Ok(FetchResponse { status: answer.status, headers: answer.headers, body: Bytes::from(body) })
    }

    fn headers(&self, wanted: Vec<(String, HeaderText)>) -> Result<(HeaderMap, Carried), Fault> {
        if wanted.len() > HEADERS_MAX {
            return Err(fault(FaultCode::InvalidArgument, format!("at most {HEADERS_MAX} headers are allowed")));
        }
        let (mut headers, mut carried) = (HeaderMap::new(), Carried::new());
        for (name, text) in wanted {
            let (name, mut value) = match text {
                HeaderText::Plain(text) => net::check_header(&name, text.as_bytes()).map_err(fault::fetch)?,
                HeaderText::Secret { prefix, name: secret } => {
                    let secret = self.reveal(&secret)?;
                    let whole = Zeroizing::new([prefix.as_bytes(), &secret].concat());
                    carried.push(secret);
                    net::check_header(&name, &whole).map_err(fault::fetch)?
                }
            };
            value.set_sensitive(true); // shown by nobody's Debug
            headers.append(name, value);
        }
        Ok((headers, carried))
    }

    fn reveal(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let name = self.secret_name(name)?;
        let value = self.parts.secrets.reveal(&self.permit(Verb::Invoke)?, &name);
        value.ok_or_else(|| fault(FaultCode::NotFound, format!("no secret {name} is set in this namespace")))
    }
}

/// Makes what is a secret unreadable, without moving what stands beside it. All are looked for before the first is taken
/// out: one may be a part of another.
fn mask(bytes: &mut [u8], secrets: &[Zeroizing<Vec<u8>>]) {
    let all = |secret: &Zeroizing<Vec<u8>>| {
        let length = secret.len();
        memmem::find_iter(bytes, secret.as_slice()).map(|at| at..at + length).collect::<Vec<_>>()
    };
    let found: Vec<_> = secrets.iter().flat_map(all).collect();
    for place in found {
        if let Some(part) = bytes.get_mut(place) {
            part.fill(b'*');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h09_a_secret_that_comes_back_is_masked() {
        let masked_with = |text: &str, secrets: &[&str]| {
            let mut bytes = text.as_bytes().to_vec();
            let secrets: Carried = secrets.iter().map(|secret| Zeroizing::new(secret.as_bytes().to_vec())).collect();
            mask(&mut bytes, &secrets);
            String::from_utf8(bytes).unwrap()
        };
        let masked = |text: &str| masked_with(text, &["hunter2hunter2"]);
        assert_eq!(masked("key=hunter2hunter2;hunter2hunter2"), "key=**************;**************");
        assert_eq!(masked("hunter2"), "hunter2");
        assert_eq!(masked(""), "");
        assert_eq!(masked_with("a=key1-tail;", &["key1", "key1-tail"]), "a=*********;", "one begins as the other does");
        assert_eq!(masked_with("a=key1-tail;", &["y1-t", "key1-tail"]), "a=*********;");
    }
}
