//! What is attacked, and how the attacks reach it.

use crate::bystander::Bystander;
use crate::case::{Miss, check, done, done_or};
use crate::dial::Address;
use crate::guests::{Guests, PROTO};
use crate::messages::{Errand, FetchErrand, FileErrand, FileFound, Outcome, Sin, Text};
use crate::node::Node;
use crate::process::Watched;
use crate::raw::Raw;
use crate::wire::{Answer, Wire};
use bytes::Bytes;
use collector::cli::PluginFile;
use collector::rpc::{RawDescriptor, pb};
use pb::plugin::v1::{DeployHeader, DeployRequest, deploy_request::Part};
use pb::serve_request::ServiceDef;
use prost::Message;
use prost_types::{Any, FileDescriptorProto};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// Serve.
pub const SERVE: &str = "collector.CollectiveDispatcher/Serve";
/// What the names of the attacker's namespaces end with: for the most; for `errands`; for three cases with quotas, which
/// are not sampled.
pub const PARTS: [&str; 5] = ["", "-b", "-c", "-d", "-e"];
/// Name of a deployment, and of its service.
pub const ERRANDS: &str = "errands.v1.Errands";
/// One of each kind.
const GRANTS: [&str; 6] = [
    "config=region=north",
    "secret=own",
    "collections=notes:write",
    "dispatch=errands.v1.Errands",
    "http=http://127.0.0.1:1",
    "files=shared:write",
];
/// Long enough for a cold start on a busy machine.
pub const LONG: Duration = Duration::from_secs(40);

/// One running node, seen by one case.
pub struct Target {
    /// The attacker's connection, of this case alone.
    pub wire: Wire,
    pub address: Address,
    pub token: Option<String>,
    /// Of somebody who may everything.
    pub admin: Option<String>,
    /// The attacker's namespace.
    pub namespace: String,
    pub bystander: Arc<Bystander>,
    pub guests: Arc<Guests>,
    /// The process, where it is ours.
    pub node: Option<Arc<Node>>,
    /// Of this run of this case.
    pub seed: u64,
    /// Makes a case as large as threats.md has it, instead of as large as a minute allows.
    pub full: bool,
}

impl Target {
    /// The same for a task of its own.
    pub fn again(&self) -> Self {
        Self {
            wire: self.wire.clone(),
            address: self.address.clone(),
            token: self.token.clone(),
            admin: self.admin.clone(),
            namespace: self.namespace.clone(),
            bystander: Arc::clone(&self.bystander),
            guests: Arc::clone(&self.guests),
            node: self.node.clone(),
            ..*self
        }
    }

    /// The same in another namespace of the attacker's, one of [`PARTS`].
    pub fn part(&self, part: &str) -> Self {
        Self { namespace: format!("{}{part}", self.namespace), ..self.again() }
    }

    /// Another node, of this case alone, and its administrator as the attacker; for what is set once for a node.
    pub fn other(&self, settings: &[String]) -> Result<(Node, Self), Miss> {
        let here = self.node.as_ref();
        let program = here.ok_or(Miss::Skipped("it takes a node with settings of its own".into()))?.program();
        let node = Node::start(program, settings, "", "", &[])?;
        let address = Address::parse(&node.address, None)?;
        let token = node.keys.first().cloned();
        let wire = Wire::new(&address, token.clone(), Arc::clone(&self.wire.seen))?;
        Ok((node, Self { wire, address, admin: token.clone(), token, node: None, ..self.again() }))
    }

    /// The administrator's connection.
    pub fn administrator(&self) -> Result<Wire, String> {
        Wire::new(&self.address, self.admin.clone(), Arc::default())
    }

    /// What only an administrator may.
    pub async fn administer(&self, path: &str, order: &impl Message) -> Result<(), Miss> {
        match self.administrator()?.to(path).status(order).await {
            Ok(()) => Ok(()),
            Err(status) if status.code() == Code::PermissionDenied && self.node.is_none() => {
                Err(Miss::Skipped("it takes --admin-token".into()))
            }
            Err(status) => Err(Miss::Failed(format!("{path}: {}", crate::case::told(&status)))),
        }
    }

    /// Sets quotas of the attacker's namespace.
    pub async fn quota(&self, quota: &[(&str, u64)]) -> Result<(), Miss> {
        let quota = quota.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let order = pb::admin::v1::SetQuotaRequest { namespace: self.namespace.clone(), quota, reset: Vec::new() };
        self.administer("collector.admin.v1.Namespaces/SetQuota", &order).await
    }

    /// Deploys `errands` with a grant of each kind, and makes what it works on.
    pub async fn errands(&self) -> Result<(), String> {
        let header = DeployHeader {
            namespace: self.namespace.clone(),
            grants: GRANTS.map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let parts = deploy_with(header, &self.guests.errands.bytes);
        let deployed = self.administrator()?.to("collector.plugin.v1.Plugins/Deploy").bytes(parts).await;
        done("deploy errands", deployed)?;
        self.collection("notes", "errands.v1.Note").await
    }

    /// Adds grants of `errands`.
    pub async fn grant(&self, grants: &[&str]) -> Result<(), Miss> {
        let grants = grants.iter().map(|&grant| grant.to_owned()).collect();
        let order = pb::plugin::v1::GrantRequest { namespace: self.namespace.clone(), name: ERRANDS.into(), grants };
        self.administer("collector.plugin.v1.Plugins/Grant", &order).await
    }

    /// One errand.
    pub async fn errand(&self, method: &str, name: &str, id: &str) -> Result<String, Status> {
        let errand = Errand { name: name.into(), id: id.into(), ..Errand::default() };
        let call = self.wire.to(format!("{ERRANDS}/{method}")).namespace(&self.namespace).timeout(LONG);
        call.ask::<Text>(&errand).await.map(|found| found.text)
    }

    /// One errand with files.
    pub async fn file(&self, method: &str, errand: &FileErrand) -> Result<FileFound, Status> {
        self.wire.to(format!("{ERRANDS}/{method}")).namespace(&self.namespace).timeout(LONG).ask(errand).await
    }

    /// A request of a guest to the outside; what came of it is not read.
    pub async fn fetch(&self, order: &FetchErrand) -> Result<(), Status> {
        self.wire.to(format!("{ERRANDS}/Fetch")).namespace(&self.namespace).timeout(LONG).status(order).await
    }

    /// Of `full` many in a full run, or `small` many.
    pub fn many(&self, small: usize, full: usize) -> usize {
        if self.full { full } else { small }
    }

    /// What `/proc` tells of the node.
    pub fn watched(&self) -> Option<Watched> {
        self.node.as_ref().map(|node| Watched { id: node.id(), folder: node.folder() })
    }

    /// Random numbers of this run of this case. Source: xorshift64*, Vigna 2016.
    pub fn random(&self) -> impl FnMut() -> u64 + use<> {
        let mut state = self.seed | 1;
        move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    /// Another connection: one that gives up many calls is closed by the node.
    pub fn fresh(&self) -> Result<Wire, String> {
        Wire::new(&self.address, self.token.clone(), Arc::clone(&self.wire.seen))
    }

    /// HTTP/2 by hand.
    pub async fn raw(&self, settings: &[(u16, u32)]) -> Result<Raw, String> {
        let raw = Raw::connect(&self.address, self.token.as_deref(), &self.wire.seen, settings).await;
        raw.map_err(|why| format!("cannot connect: {why}"))
    }

    /// The attacker's own place still answers: a plain call of a plain guest.
    pub async fn lives(&self) -> Result<(), String> {
        let hello = crate::messages::Hello { name: "me".into(), locale: String::new() };
        let input = any("greeter.v1.HelloRequest", &hello);
        let greeter = &self.guests.greeter;
        let answer = self.serve("greeter.v1.Greeter", "SayHello", input, code(greeter), Some(LONG)).await;
        done("a plain call afterwards", answer).map(drop)
    }

    /// Runs code that comes with the call.
    pub async fn serve(
        &self,
        service: &str,
        method: &str,
        input: Any,
        code: ServiceDef,
        timeout: Option<Duration>,
    ) -> Result<Answer<Vec<u8>>, Status> {
        let request = pb::ServeRequest {
            namespace: self.namespace.clone(),
            service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: service.into() }),
            method_name: method.into(),
            input: Some(input),
            execution_context: Default::default(),
            service_def: Some(code),
        };
        let call = self.wire.to(SERVE);
        let call = match timeout {
            Some(timeout) => call.timeout(timeout),
            None => call,
        };
        call.bytes(vec![request.encode_to_vec()]).await
    }

    /// Uploads bytes with a call, as `S/M`.
    pub async fn upload(&self, bytes: Vec<u8>, timeout: Duration) -> Result<Answer<Vec<u8>>, Status> {
        self.serve("S", "M", Any::default(), ServiceDef::ServiceBinary(bytes.into()), Some(timeout)).await
    }

    /// One sin of `misbehave`, or of `hostile`, by its digest; uploaded first where need be.
    pub async fn sin(
        &self,
        method: &str,
        amount: u64,
        text: &str,
        timeout: Option<Duration>,
    ) -> Result<(Outcome, Answer<Vec<u8>>), Status> {
        let (plugin, service, input) = match method_of(&self.guests.misbehave, method) {
            true => (&self.guests.misbehave, "misbehave.v1.Misbehave", "misbehave.v1.Sin"),
            false => (&self.guests.hostile, "hostile.v1.Hostile", "hostile.v1.Order"),
        };
        let input = any(input, &Sin { amount, text: text.into() });
        let digest = ServiceDef::ServiceUri(format!("sha256:{}", plugin.artifact.digest));
        let answer = self.serve(service, method, input, digest, timeout).await?;
        let reply = pb::ServeResponse::decode(answer.message.as_slice());
        let reply = reply.map_err(|why| Status::data_loss(why.to_string()))?;
        let outcome = Outcome::decode(reply.output.unwrap_or_default().value.as_slice());
        Ok((outcome.map_err(|why| Status::data_loss(why.to_string()))?, answer))
    }

    /// Uploads the sinners and compiles them, so that deadlines are the guests' alone.
    pub async fn prepare(&self) -> Result<(), String> {
        for (plugin, service, method, input) in [
            (&self.guests.misbehave, "misbehave.v1.Misbehave", "Sleep", "misbehave.v1.Sin"),
            (&self.guests.hostile, "hostile.v1.Hostile", "PollNothing", "hostile.v1.Order"),
        ] {
            let input = any(input, &Sin::default());
            done("upload a guest", self.serve(service, method, input, code(plugin), Some(LONG)).await)?;
        }
        Ok(())
    }

    /// Registers a file as it is.
    pub async fn register(&self, file: &FileDescriptorProto) -> Result<(), Status> {
        self.register_with(file, &[]).await
    }

    pub async fn register_with(
        &self,
        file: &FileDescriptorProto,
        beside: &[FileDescriptorProto],
    ) -> Result<(), Status> {
        let request = pb::RegisterProtoRequest {
            namespace: self.namespace.clone(),
            file_descriptor: Some(RawDescriptor::of(file)),
            dependencies: beside.iter().map(RawDescriptor::of).collect(),
        };
        self.wire.to(PROTO).status(&request).await
    }

    /// A collection of the attacker's, new or there already; of items of `message_type`, or of anything.
    pub async fn collection(&self, name: &str, message_type: &str) -> Result<(), String> {
        let request = collection(&self.namespace, name, message_type);
        let made = self.wire.to("collector.CollectionRepo/CreateCollection").status(&request).await;
        done_or("its collection", made, &[Code::AlreadyExists]).map(drop)
    }

    pub async fn create(&self, collection: &str, id: &str, item: Any) -> Result<(), Status> {
        let request = pb::CreateRequest {
            namespace: self.namespace.clone(),
            collection_name: collection.into(),
            item: Some(item),
            id: id.into(),
            labels: Default::default(),
        };
        self.wire.to("collector.CollectionService/Create").status(&request).await
    }

    pub async fn get(&self, collection: &str, id: &str) -> Result<pb::GetResponse, Status> {
        let request =
            pb::GetRequest { namespace: self.namespace.clone(), collection_name: collection.into(), id: id.into() };
        self.wire.to("collector.CollectionService/Get").ask(&request).await
    }

    pub async fn delete(&self, collection: &str, id: &str) -> Result<(), String> {
        let request =
            pb::DeleteRequest { namespace: self.namespace.clone(), collection_name: collection.into(), id: id.into() };
        done("take the record away", self.wire.to("collector.CollectionService/Delete").status(&request).await)
    }

    /// How much the node logged while `work` went on, in bytes; 0 where the log is not ours.
    pub async fn logged<T>(&self, work: impl Future<Output = T>) -> (T, u64) {
        let before = self.node.as_ref().map(|node| node.logged());
        let result = work.await;
        tokio::time::sleep(Duration::from_millis(50)).await; // lines come by a pipe
        let after = self.node.as_ref().map(|node| node.logged());
        (result, after.unwrap_or_default() - before.unwrap_or_default())
    }
}

fn method_of(plugin: &PluginFile, method: &str) -> bool {
    let mut services = plugin.artifact.schema.iter().flat_map(|schema| schema.services());
    services.any(|service| service.methods.iter().any(|known| known.name == method))
}

/// The plugin's bytes, to come with a call.
pub fn code(plugin: &PluginFile) -> ServiceDef {
    ServiceDef::ServiceBinary(plugin.bytes.clone())
}

/// A message with its type.
pub fn any(kind: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{kind}"), value: message.encode_to_vec() }
}

/// The one file that there is.
struct Only(String, String);

impl protox::file::FileResolver for Only {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        match name == self.0 {
            true => protox::file::File::from_source(&self.0, &self.1),
            false => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// A `.proto` file's descriptor.
pub fn proto(name: &str, text: &str) -> FileDescriptorProto {
    let linked = || {
        let mut resolver = protox::file::ChainFileResolver::new();
        resolver.add(Only(name.to_owned(), text.to_owned()));
        resolver.add(protox::file::GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.open_file(name).ok()?;
        compiler.file_descriptor_set().file.pop()
    };
    let parsed = || protox::file::File::from_source(name, text).map(|file| file.file_descriptor_proto().clone());
    // Those that pose as another do not link.
    let mut file = linked().or_else(|| parsed().ok()).unwrap_or_default();
    file.source_code_info = None;
    file.name = Some(name.to_owned());
    file
}

/// To be made. `message_type` empty: of anything.
pub fn collection(namespace: &str, name: &str, message_type: &str) -> pb::CreateCollectionRequest {
    let kind = pb::MessageTypeRef { namespace: String::new(), message_name: message_type.into() };
    let collection = pb::Collection {
        namespace: namespace.into(),
        name: name.into(),
        message_type: (!message_type.is_empty()).then_some(kind),
        ..Default::default()
    };
    pb::CreateCollectionRequest { collection: Some(collection) }
}

/// The messages of a deployment under its own name.
pub fn deploy(namespace: &str, plugin: &PluginFile) -> Vec<Vec<u8>> {
    deploy_with(DeployHeader { namespace: namespace.into(), ..Default::default() }, &plugin.bytes)
}

pub fn deploy_with(header: DeployHeader, bytes: &Bytes) -> Vec<Vec<u8>> {
    let chunks = (0..bytes.len()).step_by(1 << 20).map(|at| bytes.slice(at..bytes.len().min(at + (1 << 20))));
    let parts = std::iter::once(Part::Header(header)).chain(chunks.map(Part::Chunk));
    parts.map(|part| DeployRequest { part: Some(part) }.encode_to_vec()).collect()
}

/// How far past `deadline` an answer may come in the suite, which judges that it comes; the benchmark judges when.
pub const LATE: Duration = Duration::from_secs(5);

/// The guest's own time in microseconds, from a receipt; `None`: it never ran.
pub fn ran(status: &Status) -> Option<Duration> {
    let micros = status.metadata().get("collector-run-us")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_micros(micros))
}

/// A call that never ends by itself ends at its deadline; by how much it was late.
pub async fn overruns<F>(what: &str, deadline: Duration, call: impl Fn() -> F) -> Result<Duration, String>
where
    F: Future<Output = Result<(), Status>>,
{
    // The first ones may spend their time in the compiler.
    for _ in 0..20 {
        let began = tokio::time::Instant::now();
        let status = crate::case::refused(what, call().await, &[Code::DeadlineExceeded])?;
        let late = began.elapsed().saturating_sub(deadline);
        check(late < LATE, || format!("{what}: {} ms late", late.as_millis()))?;
        if ran(&status).is_some_and(|ran| !ran.is_zero()) {
            return Ok(late);
        }
    }
    Err(format!("{what}: it was never reached within {} ms", deadline.as_millis()))
}
