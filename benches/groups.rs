//! What there is to measure. A new group is a module and a line in [`ALL`].

use crate::options::Options;
use crate::report::Row;
use crate::{Failure, calls, cold, collections, density, exec, growth, mesh, peers, registry, tenancy};
use futures_util::future::LocalBoxFuture;

type Rows<'a> = LocalBoxFuture<'a, Result<Vec<Row>, Failure>>;

/// Something that is measured by itself.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    run: for<'a> fn(&'a Options) -> Rows<'a>,
}

impl Group {
    pub(crate) async fn rows(&self, options: &Options) -> Result<Vec<Row>, Failure> {
        (self.run)(options).await
    }
}

/// All of them, in the order in which they are measured.
const ALL: [Group; 12] = [
    Group {
        name: "native",
        about: "native calls, every check on (gRPC, Connect JSON, gRPC-Web), beside a plain tonic echo",
        run: |options| Box::pin(calls::native(options)),
    },
    Group {
        name: "serve",
        about: "Serve by digest and with the binary attached, every check on, beside a plain tonic echo",
        run: |options| Box::pin(calls::serve(options)),
    },
    Group {
        name: "budget",
        about: "where the processor time of a native call goes, by perf",
        run: |options| Box::pin(calls::budget(options)),
    },
    Group {
        name: "cold",
        about: "never seen: upload to first answer, beside compiling alone; in the compile cache after a restart",
        run: |options| Box::pin(cold::rows(options)),
    },
    Group {
        name: "exec",
        about: "one program in each executor, beside posix_spawn and docker run",
        run: |options| Box::pin(exec::rows(options)),
    },
    Group {
        name: "registry",
        about: "what types cost: a check of a message, deploy to answer, registrations",
        run: |options| Box::pin(registry::rows(options)),
    },
    Group {
        name: "collections",
        about: "records, beside an echo of the same size, an fdatasync, a commit per record",
        run: |options| Box::pin(collections::rows(options)),
    },
    Group {
        name: "tenancy",
        about: "what every check costs, a quiet namespace beside noisy ones, late deadlines, ten times too much",
        run: |options| Box::pin(tenancy::rows(options)),
    },
    Group {
        name: "density",
        about: "memory of a node: idle, per idle deployment, per running instance",
        run: |options| Box::pin(density::rows(options)),
    },
    Group {
        name: "growth",
        about: "a call and point operations, with ever more services and records beside them",
        run: |options| Box::pin(growth::rows(options)),
    },
    Group {
        name: "mesh",
        about: "calls that another node answers beside the same answered here, a routing decision, nodes lost and restarted",
        run: |options| Box::pin(mesh::rows(options)),
    },
    Group {
        name: "peers",
        about: "the same greeting over HTTP/1.1 from other hosts, beside a plain hyper server",
        run: |options| Box::pin(peers::rows(options)),
    },
];

/// Prints them.
pub(crate) fn list() {
    for group in &ALL {
        println!("{:<12} {}", group.name, group.about);
    }
}

/// Those that were asked for, in their own order.
///
/// * errors: none were, or one that there is not.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Group>, Failure> {
    if names.is_empty() {
        return Err("say what to measure: `all`, or groups of those that `list` prints".into());
    }
    if let Some(unknown) = names.iter().find(|name| *name != "all" && ALL.iter().all(|group| group.name != **name)) {
        return Err(format!("there is no group {unknown}; `list` prints those that there are").into());
    }
    let all = names.iter().any(|name| name == "all");
    Ok(ALL.iter().filter(|group| all || names.iter().any(|name| name == group.name)).collect())
}
