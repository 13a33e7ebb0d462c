//! What a call names: `NAMESPACE/SERVICE/METHOD`, or without the namespace.

use anyhow::bail;

/// The parts of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) method: String,
}

/// * `namespace`: for a target that names none; `/SERVICE/METHOD`, as gRPC writes it, names none either.
pub(super) fn parse(target: &str, namespace: &str) -> anyhow::Result<Parts> {
    let parts: Vec<&str> = target.split('/').collect();
    let (namespace, service, method) = match parts[..] {
        ["", service, method] | [service, method] => (namespace, service, method),
        [namespace, service, method] => (namespace, service, method),
        _ => ("", "", ""),
    };
    if service.is_empty() || method.is_empty() {
        bail!("{target:?} is no target; write NAMESPACE/SERVICE/METHOD, as demo/greeter.v1.Greeter/SayHello");
    }
    Ok(Parts { namespace: namespace.to_owned(), service: service.to_owned(), method: method.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_may_be_left_out() {
        let parts = |target: &str| parse(target, "default").map(|parts| [parts.namespace, parts.service, parts.method]);
        assert_eq!(parts("acme/a.v1.B/Get").unwrap(), ["acme", "a.v1.B", "Get"]);
        assert_eq!(parts("a.v1.B/Get").unwrap(), ["default", "a.v1.B", "Get"]);
        assert_eq!(parts("/a.v1.B/Get").unwrap(), ["default", "a.v1.B", "Get"]);
        for bad in ["", "/", "B", "acme//Get", "acme/B/", "B/", "a/b/c/d"] {
            assert!(parts(bad).unwrap_err().to_string().contains("NAMESPACE/SERVICE/METHOD"), "{bad}");
        }
    }
}
