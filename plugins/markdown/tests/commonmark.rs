//! Every example of the CommonMark specification.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use collector_guest::Context;
use markdown::Renderer;
use markdown::proto::{Markdown, RenderRequest};
use serde_json::Value;

#[test]
fn renders_every_example_of_the_specification() {
    let examples: Vec<Value> = serde_json::from_str(include_str!("../../../tests/data/commonmark-spec.json")).unwrap();
    let context = Context::new("acme", "markdown.v1.Markdown", "Render");
    let mut wrong = Vec::new();
    for example in &examples {
        let text = |key: &str| example[key].as_str().unwrap().to_owned();
        let request = RenderRequest { source: text("markdown"), options: None };
        let html = Renderer::render(&context, request).unwrap().html;
        if html != text("html") {
            wrong.push(format!(
                "{}: {:?}\n  wanted {:?}\n  got    {html:?}",
                example["example"],
                text("markdown"),
                text("html")
            ));
        }
    }
    assert_eq!(examples.len(), 652);
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), examples.len(), wrong.join("\n"));
}
