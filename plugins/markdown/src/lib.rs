//! Turns CommonMark into HTML: a plugin around a well-known crate.

mod reference;

use collector_guest::{Context, Fault};
use proto::{Markdown, MarkdownService, RenderReply, RenderRequest};
use pulldown_cmark::{Options, Parser, html};
use reference::AsPrinted;

/// What `proto/markdown.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("markdown.v1");
}

/// The handler.
pub struct Renderer;

impl Markdown for Renderer {
    fn render(_: &Context, request: RenderRequest) -> Result<RenderReply, Fault> {
        let wanted = extensions(&request.options.unwrap_or_default());
        let mut html = String::with_capacity(request.source.len() * 3 / 2);
        html::push_html(&mut html, AsPrinted::new(Parser::new_ext(&request.source, wanted)));
        Ok(RenderReply { html })
    }
}

fn extensions(wanted: &proto::Options) -> Options {
    [
        (wanted.tables, Options::ENABLE_TABLES),
        (wanted.footnotes, Options::ENABLE_FOOTNOTES),
        (wanted.strikethrough, Options::ENABLE_STRIKETHROUGH),
        (wanted.task_lists, Options::ENABLE_TASKLISTS),
        (wanted.smart_punctuation, Options::ENABLE_SMART_PUNCTUATION),
    ]
    .into_iter()
    .filter(|(on, _)| *on)
    .map(|(_, option)| option)
    .collect()
}

collector_guest::export!(MarkdownService<Renderer>);

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, options: Option<proto::Options>) -> String {
        let context = Context::new("acme", "markdown.v1.Markdown", "Render");
        Renderer::render(&context, RenderRequest { source: source.into(), options }).unwrap().html
    }

    #[test]
    fn quotes_are_escaped_once() {
        assert_eq!(
            render("\"a\" `\"` ![\"b\" `\"`](c)", None),
            concat!("<p>&quot;a&quot; <code>&quot;</code> ", "<img src=\"c\" alt=\"&quot;b&quot; &quot;\" /></p>\n",)
        );
    }

    #[test]
    fn extensions_are_off_until_asked_for() {
        let source = "|a|\n|-|\n|~~b~~|\n\n- [x] \"c\"[^1]\n\n[^1]: d\n";
        let plain = render(source, None);
        assert!(!plain.contains("<table>") && !plain.contains("<del>") && !plain.contains("checkbox"), "{plain}");
        assert_eq!(plain, render(source, Some(proto::Options::default())));
        let all = proto::Options {
            tables: true,
            footnotes: true,
            strikethrough: true,
            task_lists: true,
            smart_punctuation: true,
        };
        let html = render(source, Some(all));
        for part in ["<table>", "<del>b</del>", "checkbox", "“c”", "footnote-definition"] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}
