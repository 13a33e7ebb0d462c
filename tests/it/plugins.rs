//! The example plugins on real input, through a real node.

use crate::support::*;
use serde_json::{Value, json};
use std::path::Path;
use tonic::Code;
use tonic_types::StatusExt as _;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

#[tokio::test]
async fn markdown_renders_every_example_of_the_commonmark_specification() {
    let node = TestNode::start().await;
    let markdown = plugin("markdown");
    let examples: Vec<Value> = serde_json::from_slice(&data("commonmark-spec.json")).unwrap();
    assert!(examples.len() > 600, "{}", examples.len());
    let mut wrong = Vec::new();
    for example in &examples {
        let called = node.call(&markdown, "Render", json!({ "source": example["markdown"] })).await.unwrap();
        if called.reply["html"] != example["html"] {
            wrong.push(example["example"].clone());
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ: {wrong:?}", wrong.len(), examples.len());
}

#[tokio::test]
async fn markdown_renders_this_readme() {
    let node = TestNode::start().await;
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let request = json!({ "source": readme, "options": { "tables": true } });
    let html = node.call(&plugin("markdown"), "Render", request).await.unwrap().reply["html"].clone();
    let html = html.as_str().unwrap();
    assert!(html.starts_with("<h1>Collector</h1>"), "{}", &html[..200]);
    assert!(html.contains("<table>") && html.contains("<code class=\"language-sh\">"));
}

async fn resize(node: &TestNode, image: &[u8], options: Value) -> Result<Value, tonic::Status> {
    let thumbnail = plugin("thumbnail");
    let mut request = options;
    use base64::Engine as _;
    request["image"] = json!(base64::engine::general_purpose::STANDARD.encode(image));
    Ok(node.call(&thumbnail, "Resize", request).await?.reply)
}

fn image_of(reply: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(reply["image"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn thumbnail_resizes_real_images_and_its_own_output() {
    let node = TestNode::start().await;
    for (name, format, starts) in [
        ("landscape.jpg", "FORMAT_PNG", &b"\x89PNG\r\n\x1a\n"[..]),
        ("bubbles.png", "FORMAT_JPEG", &b"\xff\xd8\xff"[..]),
    ] {
        let options = json!({ "maxWidth": 64, "maxHeight": 64, "format": format });
        let reply = resize(&node, &data(name), options.clone()).await.unwrap();
        let (width, height) = (reply["width"].as_u64().unwrap(), reply["height"].as_u64().unwrap());
        assert_eq!(width.max(height), 64, "{name}: {width}x{height}");
        let image = image_of(&reply);
        assert!(image.starts_with(starts), "{name}");
        // The independent witness: what it made decodes as what it said.
        let again = resize(&node, &image, options).await.unwrap();
        assert_eq!((again["sourceWidth"].as_u64(), again["sourceHeight"].as_u64()), (Some(width), Some(height)));
        assert_eq!(again["sourceFormat"], format);
    }
}

#[tokio::test]
async fn a_corrupt_image_is_an_invalid_argument_naming_the_field() {
    let node = TestNode::start().await;
    let (jpeg, png) = (data("landscape.jpg"), data("bubbles.png"));
    let mut flipped = png.clone();
    flipped[60] ^= 0xff;
    let options = || json!({ "maxWidth": 64, "maxHeight": 64 });
    for (what, image) in [
        ("nothing", &b""[..]),
        ("text", b"not an image"),
        ("half a PNG", &png[..png.len() / 2]),
        ("a PNG's first bytes", &png[..20]),
        ("a JPEG's first bytes", &jpeg[..20]),
        ("a flipped byte", &flipped),
    ] {
        let status = resize(&node, image, options()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields[0].field, "image", "{what}");
    }
    let status = resize(&node, &png, json!({ "maxWidth": 0, "maxHeight": 64 })).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn wordcount_agrees_with_wc() {
    let node = TestNode::start().await;
    let text = include_str!("../data/wire-contract.txt");
    let target = collector::cli::Target {
        namespace: "acme".into(),
        service: "WordCount".into(),
        method: "Count".into(),
        ..Default::default()
    };
    let input = prost_types::Any { type_url: String::new(), value: text.into() };
    let answer = node.client.call(&target, &plugin("wordcount"), input).await.unwrap();
    let wc = std::process::Command::new("wc")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire-contract.txt"))
        .output()
        .unwrap();
    let counts = |text: &str| text.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(counts(&String::from_utf8_lossy(&answer.output.value)), counts(&String::from_utf8_lossy(&wc.stdout)));
}
