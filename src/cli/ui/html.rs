//! HTML, in which nothing can stand that was not escaped: names of elements and attributes are
//! literals of this program, and whatever else comes in is text.

use std::fmt::{self, Display, Write};

/// An element that is being made.
#[derive(Debug)]
pub(super) struct Element {
    name: &'static str,
    attributes: String,
    inner: String,
}

/// An element of that name.
pub(super) fn el(name: &'static str) -> Element {
    Element { name, attributes: String::new(), inner: String::new() }
}

/// What can stand in an element.
pub(super) trait Content {
    /// Writes it to the end of what stands there.
    fn write(&self, html: &mut String);
}

impl Element {
    /// With an attribute.
    pub(super) fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        write!(self.attributes, " {name}=\"").expect("a String takes all");
        write!(Escaping(&mut self.attributes), "{value}").expect("a String takes all");
        self.attributes.push('"');
        self
    }

    /// With an attribute that has no value, where it is to have it.
    pub(super) fn flag(mut self, name: &'static str, set: bool) -> Self {
        if set {
            self.attributes.push(' ');
            self.attributes.push_str(name);
        }
        self
    }

    /// With a class.
    pub(super) fn class(self, class: &'static str) -> Self {
        self.attr("class", class)
    }

    /// With text.
    pub(super) fn text(mut self, text: impl Display) -> Self {
        write!(Escaping(&mut self.inner), "{text}").expect("a String takes all");
        self
    }

    /// With more in it.
    pub(super) fn add(mut self, content: impl Content) -> Self {
        content.write(&mut self.inner);
        self
    }

    /// All of it, as a document.
    pub(super) fn document(&self) -> String {
        let mut html = String::from("<!doctype html>\n");
        self.write(&mut html);
        html
    }
}

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "link", "input", "br"];

impl Content for Element {
    fn write(&self, html: &mut String) {
        let Self { name, attributes, inner } = self;
        write!(html, "<{name}{attributes}>{inner}").expect("a String takes all");
        if !VOID.contains(name) {
            write!(html, "</{name}>").expect("a String takes all");
        }
    }
}

impl<C: Content> Content for Option<C> {
    fn write(&self, html: &mut String) {
        self.iter().for_each(|content| content.write(html));
    }
}

impl<C: Content> Content for Vec<C> {
    fn write(&self, html: &mut String) {
        self.iter().for_each(|content| content.write(html));
    }
}

/// Text on its way into HTML, also into an attribute's value between double quotes.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Such as those that turn the direction of what follows around.
                c if is_unseen(c) => write!(self.0, "\u{fffd}")?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Would it change how other text looks, or nothing at all?
fn is_unseen(c: char) -> bool {
    let moves_text =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    moves_text || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(element: Element) -> String {
        let mut html = String::new();
        element.write(&mut html);
        html
    }

    #[test]
    fn what_is_said_is_text_and_nothing_else() {
        let hostile = "</p><script>alert('1')</script>\"&\u{202e}x\0";
        assert_eq!(
            html(el("p").attr("title", hostile).text(hostile)),
            "<p title=\"&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}x\u{fffd}\">\
             &lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}x\u{fffd}</p>"
        );
    }

    #[test]
    fn elements_stand_in_each_other() {
        let list = el("ul").add(vec![el("li").text(1), el("li").text(2)]).add(None::<Element>);
        assert_eq!(html(list), "<ul><li>1</li><li>2</li></ul>");
        assert_eq!(
            html(el("input").attr("name", "q").flag("hidden", true)),
            "<input name=\"q\" hidden>"
        );
    }
}
