//! HTML to the byte as the CommonMark specification prints it, not only HTML that means the same.
//!
//! pulldown-cmark leaves `"` as it is outside of attributes, where the specification writes `&quot;`, and starts a block
//! of HTML on the line of its list item.

use pulldown_cmark::{CowStr, Event, Tag, TagEnd};
use pulldown_cmark_escape::escape_html_body_text;

/// Changes what pulldown-cmark would print in another way.
pub(crate) struct AsPrinted<I> {
    events: I,
    /// How many images are open: their text becomes an attribute, which is escaped by itself.
    images: usize,
    /// Whether the event before was the start of a list item.
    item_began: bool,
    /// What comes next.
    waiting: Option<Tag<'static>>,
}

impl<I> AsPrinted<I> {
    pub(crate) fn new(events: I) -> Self {
        Self { events, images: 0, item_began: false, waiting: None }
    }
}

impl<'a, I: Iterator<Item = Event<'a>>> Iterator for AsPrinted<I> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        if let Some(tag) = self.waiting.take() {
            return Some(Event::Start(tag));
        }
        let event = self.events.next()?;
        let item_began = std::mem::replace(&mut self.item_began, matches!(event, Event::Start(Tag::Item)));
        Some(match event {
            Event::Start(Tag::HtmlBlock) if item_began => {
                self.waiting = Some(Tag::HtmlBlock);
                Event::Html("\n".into())
            }
            Event::Start(Tag::Image { .. }) => {
                self.images += 1;
                event
            }
            Event::End(TagEnd::Image) => {
                self.images = self.images.saturating_sub(1);
                event
            }
            Event::Text(text) if self.images == 0 && text.contains('"') => Event::InlineHtml(escaped("", &text, "")),
            Event::Code(text) if self.images == 0 && text.contains('"') => {
                Event::InlineHtml(escaped("<code>", &text, "</code>"))
            }
            other => other,
        })
    }
}

fn escaped(before: &str, text: &str, after: &str) -> CowStr<'static> {
    let mut body = String::new();
    // Writing to a String cannot fail.
    let _ = escape_html_body_text(&mut body, text);
    [before, &body.replace('"', "&quot;"), after].concat().into()
}
