//! What all pages have in common: the document around them, and what they say when answers are old or
//! missing.

use jiff::Timestamp;

use super::concern::{Concern, Level};
use super::html::{Content, Element, el};
use super::kept::Seen;
use super::words::ago;
use crate::cli::table::moment;
use crate::logging::VERSION;
use crate::volume::VolumeName;

/// After how many seconds a page is read anew.
const REFRESH: u32 = 10;
/// The same of one that is long.
const REFRESH_LONG: u32 = 30;
/// The same of one that does not have all its answers yet.
const REFRESH_SOON: u32 = 2;
/// From so many volumes on a page is long.
const LONG: usize = 100;
/// How many volumes are named where several have the same to say.
const NAMED: usize = 3;

/// What a page is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) now: Timestamp,
    /// The host that the page runs on.
    pub(super) host: &'a str,
}

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    /// What the window is called, before the host.
    pub(super) title: String,
    /// When what it shows was read.
    pub(super) read: Option<Timestamp>,
    /// How many volumes it may be about.
    pub(super) volumes: usize,
    /// There are answers that it waits for.
    pub(super) waits: bool,
    /// What it shows: elements with an `id`, each of which is replaced as a whole when the page is read
    /// anew, where they have the class `fresh`.
    pub(super) content: Vec<Element>,
}

impl Page {
    /// The whole document.
    pub(super) fn document(self, of: Moment<'_>) -> String {
        let title = format!("{} · {}", self.title, of.host);
        let refresh = match self.volumes {
            _ if self.waits => REFRESH_SOON,
            LONG.. => REFRESH_LONG,
            _ => REFRESH,
        };
        let head = el("head")
            .add(el("meta").attr("charset", "utf-8"))
            .add(el("title").text(title))
            .add(el("meta").attr("name", "viewport").attr("content", "width=device-width"))
            .add(el("meta").attr("name", "color-scheme").attr("content", "light dark"))
            .add(el("link").attr("rel", "icon").attr("href", "/icon.svg"))
            .add(el("link").attr("rel", "stylesheet").attr("href", "/page.css"))
            .add(el("script").attr("src", "/page.js").flag("defer", true));
        let body = el("body")
            .attr("data-refresh", refresh)
            .add(el("a").class("skip").attr("href", "#main").text("Skip to the content"))
            .add(header(of, self.read))
            .add(
                el("p")
                    .attr("id", "lost")
                    .class("banner")
                    .attr("role", "status")
                    .flag("hidden", true),
            )
            .add(el("main").attr("id", "main").attr("tabindex", "-1").add(self.content))
            .add(footer());
        el("html").attr("lang", "en").add(head).add(body).document()
    }
}

fn header(of: Moment<'_>, read: Option<Timestamp>) -> Element {
    let age = match read {
        Some(read) => {
            let seconds = (of.now.as_second() - read.as_second()).max(0);
            let time = el("time")
                .attr("datetime", format!("{read:.0}"))
                .attr("title", moment(read))
                .attr("data-age", seconds)
                .text(ago(read, of.now));
            el("p").text("Read ").add(time)
        }
        None => el("p").text("Nothing has been read yet"),
    };
    let pause = el("button")
        .attr("id", "pause")
        .attr("type", "button")
        .attr("aria-pressed", "false")
        .flag("hidden", true)
        .text("Pause");
    el("header")
        .add(
            el("p")
                .class("home")
                .add(el("a").attr("href", "/").text("Volumes in Ceph"))
                .text(" on ")
                .add(el("b").text(of.host)),
        )
        .add(el("div").class("age").add(age.attr("id", "age").class("fresh")).add(pause))
}

fn footer() -> Element {
    el("footer").add(el("p").text(format!(
        "docker-ceph {VERSION}. This page only looks: what is to be changed is changed with docker ceph. \
         Times are this host's clock, in UTC where they are written out."
    )))
}

/// What stands above everything where the daemon's answers are old, or where it has none.
pub(super) fn trouble<T>(seen: &Seen<T>, now: Timestamp) -> Option<Element> {
    const SLOW: u64 = 5;
    let waiting = seen.asking.map(|since| since.elapsed().as_secs()).filter(|s| *s >= SLOW);
    let (what, why) = match (&seen.error, waiting) {
        (Some(error), _) => ("The daemon does not answer", error.clone()),
        (None, Some(seconds)) => ("The daemon is slow", format!("asked {seconds} s ago")),
        (None, None) => return None,
    };
    let then = match seen.read() {
        Some(read) => format!("What follows was read {}, at {}.", ago(read, now), moment(read)),
        None => {
            "Nothing is known of the volumes here. Containers that run go on without it.".to_owned()
        }
    };
    Some(banner(what, &why, &then))
}

/// A line that nobody overlooks.
pub(super) fn banner(what: &str, why: &str, then: &str) -> Element {
    el("div")
        .class("banner")
        .add(el("p").add(el("strong").text(what)).text(": ").text(why))
        .add(el("p").text(then))
}

/// One thing to look at, in a list.
pub(super) fn concern(about: Option<Element>, concern: &Concern, more: Option<Element>) -> Element {
    let Concern { level, text, advice } = concern;
    let what = match about {
        Some(about) => el("p").add(word(*level)).text(" ").add(about).text(": ").text(text),
        None => el("p").add(word(*level)).text(" ").text(text),
    };
    let advice = advice.as_ref().map(|advice| el("p").class("advice").text("→ ").text(advice));
    el("li").class(class(*level)).add(what).add(more).add(advice)
}

fn word(level: Level) -> Element {
    let word = match level {
        Level::Problem => "Problem",
        Level::Warning => "Warning",
    };
    el("strong").class("word").text(word)
}

/// The class of what has a concern.
pub(super) fn class(level: Level) -> &'static str {
    match level {
        Level::Problem => "problem",
        Level::Warning => "warning",
    }
}

/// A link to the page of a volume.
pub(super) fn link(volume: &VolumeName) -> Element {
    el("a").attr("href", format!("/volumes/{volume}")).text(volume)
}

/// The first of some volumes, with links, and how many more there are.
pub(super) fn names(volumes: &[VolumeName]) -> Element {
    let mut names = el("p").class("names");
    for (at, volume) in volumes.iter().take(NAMED).enumerate() {
        names = names.text(if at == 0 { "" } else { ", " }).add(link(volume));
    }
    match volumes.len().saturating_sub(NAMED) {
        0 => names,
        more => names.text(format!(" and {more} more")),
    }
}

/// A table, of which a narrow window makes blocks: the roles stay what they are.
pub(super) fn table(label: &str, columns: Vec<Element>, rows: Vec<Element>) -> Element {
    let head = row().add(columns);
    el("table")
        .attr("role", "table")
        .attr("aria-label", label)
        .add(el("thead").attr("role", "rowgroup").add(head))
        .add(el("tbody").attr("role", "rowgroup").add(rows))
}

/// The head of a column.
pub(super) fn column(name: &str) -> Element {
    el("th").attr("role", "columnheader").attr("scope", "col").text(name)
}

/// A row.
pub(super) fn row() -> Element {
    el("tr").attr("role", "row")
}

/// The cell that says what its row is about.
pub(super) fn row_header() -> Element {
    el("th").attr("role", "rowheader").attr("scope", "row")
}

/// Another cell.
pub(super) fn cell() -> Element {
    el("td").attr("role", "cell")
}

/// A part of a page that is replaced as a whole when it is read anew.
pub(super) fn part(id: &'static str, content: impl Content) -> Element {
    el("section").attr("id", id).class("fresh").add(content)
}
