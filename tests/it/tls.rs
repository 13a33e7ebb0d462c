//! Encrypted connections: certificates of the node and of its clients, and what happens without.

use crate::support::*;
use collector::cli::{Access, ClientError, NodeClient, Target};
use collector::config::Config;
use collector::node::Node;
use collector::rpc::{ClientCertificates, Dialer, Trust};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn start(data: &Path, change: impl FnOnce(&mut Config)) -> Node {
    let mut config = test_config();
    config.data = data.join("data");
    change(&mut config);
    Node::start(config).await.unwrap()
}

/// What a stranger gets who is let in: an answer of the node.
async fn calls(client: &NodeClient) -> Result<(), ClientError> {
    let target = Target { namespace: "acme".into(), service: "S".into(), method: "M".into(), ..Target::default() };
    let command = wasi_command(r#"(func (export "run") (result i32) i32.const 0)"#);
    client.call(&target, &command, prost_types::Any::default()).await.map(drop)
}

#[tokio::test]
async fn a_certificate_of_its_own_making_is_kept_and_has_to_be_named() {
    let data = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let node = start(data.path(), |config| config.server.tls.self_signed = true).await;
        assert!(node.url().starts_with("https://127.0.0.1:"), "{}", node.url());
        let ca = Some(node.certificate().unwrap().to_owned());
        let client = NodeClient::connect_with(&node.url(), &Access { ca, ..Access::default() }).await.unwrap();
        calls(&client).await.unwrap();
        let by_name = node.url().replace("127.0.0.1", "localhost");
        let ca = Some(node.certificate().unwrap().to_owned());
        NodeClient::connect_with(&by_name, &Access { ca, ..Access::default() }).await.unwrap();
        let stranger = NodeClient::connect(&node.url()).await.unwrap_err();
        assert!(
            matches!(&stranger, ClientError::Untrusted { .. }) && stranger.to_string().contains("--ca"),
            "{stranger}"
        );
        seen.push(std::fs::read(node.certificate().unwrap()).unwrap());
        node.stop().await;
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn clients_show_certificates_where_they_have_to() {
    let (authority, other, data) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.issue("localhost");
    let (client, client_key) = authority.issue("client");
    let (forged, forged_key) = other.issue("client");
    let as_ = |cert: &Path, key: &Path| Access { cert: Some(cert.into()), key: Some(key.into()), ..authority.access() };
    for mode in [ClientCertificates::Optional, ClientCertificates::Required] {
        let node = start(data.path(), |config| {
            let tls = &mut config.server.tls;
            (tls.certificate, tls.key) = (certificate.clone(), key.clone());
            (tls.client_ca, tls.client_certificates) = (authority.ca(), mode);
        })
        .await;
        let url = node.url().replace("127.0.0.1", "localhost");
        let comes_in = async |access: Access| match NodeClient::connect_with(&url, &access).await {
            Ok(client) => calls(&client).await.is_ok(),
            Err(_) => false,
        };
        assert!(comes_in(as_(&client, &client_key)).await, "{mode:?}");
        assert!(!comes_in(as_(&forged, &forged_key)).await, "{mode:?}: of another authority");
        assert_eq!(comes_in(authority.access()).await, mode == ClientCertificates::Optional, "{mode:?}");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_open_connections_go_on() {
    let (old, new, data) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = old.issue("localhost");
    let node = start(data.path(), |config| {
        (config.server.tls.certificate, config.server.tls.key) = (certificate.clone(), key.clone());
    })
    .await;
    let url = node.url().replace("127.0.0.1", "localhost");
    let dialer = Dialer::trusting(Trust { ca: Some(&old.ca()), identity: None }).unwrap();
    let mut open = dialer.dial(&url.parse().unwrap()).await.unwrap();
    let mut get = async || {
        open.write_all(b"OPTIONS / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut said = [0; 8];
        open.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1");
    };
    get().await;

    let (renewed, renewed_key) = new.issue("localhost");
    std::fs::rename(renewed, &certificate).unwrap();
    // For a moment the certificate has the key of another: that one is not taken.
    NodeClient::connect_with(&url, &old.access()).await.unwrap();
    std::fs::rename(renewed_key, &key).unwrap();
    until("the new one is there", async || NodeClient::connect_with(&url, &new.access()).await.is_ok()).await;
    assert!(matches!(NodeClient::connect_with(&url, &old.access()).await, Err(ClientError::Untrusted { .. })));
    open.write_all(b"OPTIONS / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
    let answers = String::from_utf8_lossy(&rest).matches("HTTP/1.1").count();
    assert_eq!(answers, 1, "the connection from before goes on");
}

#[tokio::test]
async fn t13_clear_text_and_noise_on_an_encrypted_port_are_closed() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(&data.path().join("data"), &["server.tls.self_signed=true"]);
    let target = node.address.strip_prefix("https://").unwrap();
    for noise in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0; 64], b"\x16\x03\x01\xff\xff"]
    {
        let mut stream = tokio::net::TcpStream::connect(target).await.unwrap();
        stream.write_all(noise).await.unwrap();
        let mut said = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "the node closes it");
        assert!(said.len() <= 7, "an alert at most: {said:?}");
    }
    let ca = Some(data.path().join("data/tls/certificate.pem"));
    let client = NodeClient::connect_with(&node.address, &Access { ca, ..Access::default() }).await.unwrap();
    calls(&client).await.unwrap();
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[test]
fn keys_that_others_can_read_and_halves_of_certificates_stop_the_start() {
    let (authority, data) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.issue("localhost");
    let says = |settings: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path().join("data"));
        for setting in settings {
            command.args(["--set", setting]);
        }
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        text(&ended.stderr)
    };
    let set = |key: &str, path: &Path| format!("server.tls.{key}={}", path.display());
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let said = says(&[set("certificate", &certificate), set("key", &key)]);
    assert!(said.contains("server.tls.key") && said.contains("chmod 600"), "{said}");
    let said = says(&[set("certificate", &certificate)]);
    assert!(said.contains("server.tls.key"), "{said}");
    let said = says(&[set("certificate", &certificate), set("key", Path::new("no-such.key"))]);
    assert!(said.contains("server.tls.key") && said.contains("cannot read"), "{said}");
}

#[test]
fn beyond_loopback_encryption_alone_is_not_enough() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["serve", "--json", "--listen", "0.0.0.0:0", "--set", "server.tls.self_signed=true", "--data"]);
    let ended = command.arg(data.path().join("data")).output().unwrap();
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
    assert!(said.contains("auth.mode") && !said.contains("server.tls.certificate"), "{said}");
}

#[test]
fn dev_prints_a_command_that_works() {
    let home = tempfile::tempdir().unwrap();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_collector"));
    dev.args(["dev", "--tls", "--port", "0"]).current_dir(home.path()).stdout(std::process::Stdio::piped());
    let mut dev = dev.stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(dev.stdout.take().unwrap())).map_while(Result::ok);
    let command = lines.find(|line| line.contains("--ca")).unwrap();
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(words[0], "collector");
    let mut pasted = Command::new(env!("CARGO_BIN_EXE_collector"));
    let done = pasted.args(&words[1..]).current_dir(home.path()).output().unwrap();
    let _ = dev.kill();
    let _ = dev.wait();
    assert!(done.status.success(), "{command}: {}", text(&done.stderr));
}

#[test]
fn a_token_is_not_sent_in_clear_and_never_shown() {
    let run = |node: &str, token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["schema", "list", "--node", node]).env("COLLECTOR_TOKEN", token);
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        text(&ended.stderr)
    };
    let said = run("http://192.0.2.1:1", "verysecret");
    assert!(said.contains("in clear") && said.contains("--insecure") && !said.contains("verysecret"), "{said}");
    let said = run("http://127.0.0.1:1", "very secret\u{7f}");
    assert!(said.contains("token") && !said.contains("secret\u{7f}"), "{said}");
    let mut help = Command::new(env!("CARGO_BIN_EXE_collector"));
    let help = help.args(["schema", "list", "--help"]).env("COLLECTOR_TOKEN", "verysecret").output().unwrap();
    assert!(!text(&help.stdout).contains("verysecret"));
}
