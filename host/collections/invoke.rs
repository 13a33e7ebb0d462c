//! Methods run on records: each run is a call like any other, with a record's bytes as its input.

use super::{BadField, CollectionError, Collections, Definition, Item, Place};
use crate::dispatch::{DispatchError, Ready};
use crate::domain::{Deadline, MetadataEntry, MethodName, NameError, Receipt, RecordId, ServiceName, one_line};
use crate::registry::{CallError, Method, check_input};
use crate::store::SCAN_BYTES;
use crate::tenancy::{Caller, Verb};
use bytes::Bytes;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

/// Most runs of one call. 1,000: as many as a page has records.
pub const RUNS_MAX: usize = 1_000;
/// Bytes that the outputs of one call may have together: what a reply holds.
const OUTPUTS_MAX: usize = 8 << 20;

/// What stands around each of them beside its type's name: the prefix of a type URL, tags, lengths.
const OUTPUT_FRAME: usize = 36;

/// What is to be run, and on what.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// `Service/Method`, or a method alone.
    pub method: String,
    /// Records, in the order of runs. Empty: one run on `input`.
    pub ids: Vec<RecordId>,
    /// `None`: the empty message. Only without `ids`.
    pub input: Option<Item>,
    /// Request metadata that the guest may see.
    pub metadata: Vec<MetadataEntry>,
    /// Until when somebody waits for all of it.
    pub deadline: Deadline,
    /// Every check, no run.
    pub validate_only: bool,
}

/// What the runs gave.
#[derive(Debug, Clone)]
pub struct Invoked {
    /// One per run, in their order.
    pub outputs: Vec<Bytes>,
    /// Full protobuf name of all of them.
    pub output_type: Arc<str>,
    /// Of the last run, if there was one.
    pub receipt: Option<Receipt>,
}

impl Collections {
    /// Runs a method on records, one after another.
    ///
    /// * errors: `Refused`, `NoCollection`; `Field`, `NoMethod`, `AmbiguousMethod`, `NoRecord`: nothing has run. `Run`,
    ///   `Faulted`: of the first run that failed; those before it keep their effects.
    /// * cancel: dropping the future stops the guest; no further run begins.
    pub async fn invoke(&self, caller: &Caller, place: &Place, asked: Invocation) -> Result<Invoked, CollectionError> {
        let definition = self.open(caller, place, Verb::Read)?;
        if asked.ids.len() > RUNS_MAX {
            let problem = format!("has {} entries, at most {RUNS_MAX} are allowed", asked.ids.len());
            return Err(BadField::new("item_ids", problem).into());
        }
        if asked.input.is_some() && !asked.ids.is_empty() {
            return Err(BadField::new("input", "cannot be given together with item_ids").into());
        }
        let ready = self.method(caller, &definition, &asked.method)?;
        let inputs = self.inputs(&definition, &asked, ready.method()).await?;
        let output_type = ready.method().output.shared_name();
        let mut invoked = Invoked { outputs: Vec::with_capacity(inputs.len()), output_type, receipt: None };
        if asked.validate_only {
            return Ok(invoked);
        }
        let mut bytes = 0;
        for (id, input) in inputs {
            let id = || id.map(ToString::to_string);
            let run = self.parts.dispatcher.unary(ready.clone(), input, asked.metadata.clone(), asked.deadline).await;
            let outcome = run.map_err(|why| failed(id(), why))?;
            let receipt = outcome.receipt;
            let output = match outcome.reply {
                Ok(output) => output,
                Err(fault) => return Err(CollectionError::Faulted { id: id(), fault, receipt: Box::new(receipt) }),
            };
            bytes += output.len() + invoked.output_type.len() + OUTPUT_FRAME;
            if bytes > OUTPUTS_MAX {
                return Err(CollectionError::TooMany { what: "bytes of outputs", most: OUTPUTS_MAX });
            }
            invoked.outputs.push(output);
            invoked.receipt = Some(receipt);
        }
        Ok(invoked)
    }

    /// Finds the method: what it resolves to answers all runs, whatever is deployed meanwhile.
    fn method(&self, caller: &Caller, definition: &Definition, name: &str) -> Result<Ready, CollectionError> {
        let (service, method) = match name.split_once('/') {
            Some((service, method)) => (parse::<ServiceName>(service)?, parse::<MethodName>(method)?),
            None => {
                let method = parse::<MethodName>(name)?;
                (self.service_with(definition, &method)?, method)
            }
        };
        let ready = self.parts.dispatcher.resolve(caller, &definition.namespace, &service, &method);
        let ready = ready.map_err(|why| failed(None, why))?;
        match ready.method().streams() {
            true => Err(failed(None, CallError::Streaming { method: method.to_string() }.into())),
            false => Ok(ready),
        }
    }

    /// The one service that has such a method for the collection's records.
    fn service_with(&self, definition: &Definition, method: &MethodName) -> Result<ServiceName, CollectionError> {
        let snapshot = self.parts.registry.snapshot(&definition.namespace);
        let fits = |found: &Method| Some(found.input.name()) == definition.message_type.as_deref();
        let services = snapshot.services().into_iter().filter(|service| {
            !snapshot.is_built_in(&service.name) && service.method(method.as_str()).is_some_and(fits)
        });
        let names: Vec<String> = services.map(|service| service.name.to_string()).collect();
        match names.as_slice() {
            [] => Err(CollectionError::NoMethod(method.to_string())),
            [only] => parse(only),
            _ => Err(CollectionError::AmbiguousMethod(names)),
        }
    }

    /// What the method is to run on, all of it checked.
    async fn inputs<'a>(
        &self,
        definition: &Definition,
        asked: &'a Invocation,
        method: &Method,
    ) -> Result<Vec<(Option<&'a RecordId>, Bytes)>, CollectionError> {
        if asked.ids.is_empty() {
            let input = asked.input.clone().map(|input| {
                check_type(&input.type_url, method).map_err(|problem| BadField::new("input.type_url", problem))?;
                Ok::<_, CollectionError>(input.bytes)
            });
            let input = input.transpose()?.unwrap_or_default();
            check_input(method, &input).map_err(|why| failed(None, why.into()))?;
            return Ok(vec![(None, input)]);
        }
        let mut records = HashMap::new();
        let mut bytes = 0;
        let mut inputs = Vec::with_capacity(asked.ids.len());
        for (at, id) in asked.ids.iter().enumerate() {
            if !records.contains_key(id) {
                let record = self.read(definition, id).await?;
                let record = record.ok_or_else(|| CollectionError::NoRecord(id.to_string()))?;
                let bad = |problem: String| BadField::new(format!("item_ids[{at}]"), problem);
                check_type(&record.type_url, method).map_err(|problem| bad(format!("is a record that {problem}")))?;
                check_input(method, &record.bytes).map_err(|why| bad(format!("does not fit: {why}")))?;
                bytes += record.bytes.len();
                if bytes > SCAN_BYTES {
                    let problem = format!("name records of more than {} MiB; ask in parts", SCAN_BYTES >> 20);
                    return Err(BadField::new("item_ids", problem).into());
                }
                records.insert(id, record.bytes);
            }
            inputs.push((Some(id), records.get(id).cloned().unwrap_or_default()));
        }
        Ok(inputs)
    }
}

fn parse<T: FromStr<Err = NameError>>(name: &str) -> Result<T, CollectionError> {
    name.parse().map_err(|why: NameError| BadField::new("method_name", why.to_string()).into())
}

/// Any prefix before the last slash is allowed. Source: google/protobuf/any.proto.
fn check_type(type_url: &str, method: &Method) -> Result<(), String> {
    match type_url.rsplit('/').next() {
        Some(name) if name == method.input.name() => Ok(()),
        _ => Err(format!("is of type {:?}, the method takes {}", one_line(type_url, 256), method.input.name())),
    }
}

/// A run that got no answer.
fn failed(id: Option<String>, why: DispatchError) -> CollectionError {
    match why {
        DispatchError::Refused(refused) => refused.into(),
        other => CollectionError::Run { id, why: Box::new(other) },
    }
}
