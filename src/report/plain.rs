//! Text of guests and files, as HTML and XML may hold it.

use std::borrow::Cow;

use maud::Render;

/// Text with what no document may hold replaced; its use escapes the rest.
#[derive(Clone, Copy)]
pub(super) struct Plain<'t>(pub(super) &'t str);

impl Render for Plain<'_> {
    fn render_to(&self, page: &mut String) {
        let text: &str = &printable(self.0);
        text.render_to(page);
    }
}

/// Replaces characters that no XML or HTML may hold.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let is_wrong = |character: char| {
        let control = character.is_control() && character != '\n' && character != '\t';
        control || matches!(character, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(is_wrong) {
        text.replace(is_wrong, "\u{fffd}").into()
    } else {
        text.into()
    }
}
