//! The page of one volume: where it is, what is the matter with it, and its snapshots.

use std::fmt::Display;

use super::concern::Concerns;
use super::frame::{
    Moment, Page, banner, cell, class, column, concern, part, row, row_header, table, trouble,
};
use super::html::{Content, Element, el};
use super::kept::Seen;
use super::overview::{mounted, space};
use super::reader::{Details, Overview};
use super::timeline::{Point, line, scale};
use super::words::{count, when};
use crate::cli::table::moment;
use crate::cli::volumes::made_of;
use crate::service::{ScheduleView, SnapshotView, Status, VolumeView};
use crate::volume::{Maker, VolumeName};

/// The page.
pub(super) fn page(
    volume: &VolumeView,
    (overview, seen): (&Overview, &Seen<Overview>),
    details: Option<&Seen<Details>>,
    of: Moment<'_>,
) -> Page {
    let VolumeView { name, status, .. } = volume;
    let concerns = Concerns::of_all(overview, of.now);
    let shared = concerns.shared.iter().filter(|(_, volumes)| volumes.contains(name));
    let matters = concerns.of(name).iter().chain(shared.map(|(matter, _)| matter));
    let matters: Vec<Element> = matters.map(|matter| concern(None, matter, None)).collect();
    let matters = (!matters.is_empty()).then(|| el("ul").class("matters").add(matters));
    let heading = el("h1").text(name);
    let heading = match concerns.level(name) {
        Some(level) => heading.class(class(level)),
        None => heading,
    };
    let content = vec![
        part("state", trouble(seen, of.now))
            .add(status.as_of.map(|known| {
                let then = format!("What follows is what was known at {}.", moment(known));
                banner("Ceph does not answer the daemon", "no more can be told than this", &then)
            }))
            .add(el("p").class("back").add(el("a").attr("href", "/").text("← All volumes")))
            .add(heading)
            .add(matters),
        part("now", facts(volume, details, of)),
        part("snapshots", el("h2").text("Snapshots"))
            .add(schedule(status, overview.schedules.get(name), of))
            .add(snapshots(status, details, of)),
        part("options", options(status)),
    ];
    let waits = details.is_some_and(|details| details.last.is_none());
    Page { title: name.to_string(), read: seen.read(), volumes: 1, waits, content }
}

/// Where there is no such volume.
pub(super) fn absent(name: &VolumeName, seen: &Seen<Overview>, of: Moment<'_>) -> Page {
    let content = vec![
        part("state", trouble(seen, of.now))
            .add(el("h1").text(format!("There is no volume {name}")))
            .add(
                el("p").text("If it was removed, it may be in the trash: docker ceph ls --trash."),
            ),
    ];
    let title = format!("no volume {name}");
    // It may have been made since.
    Page { title, read: seen.read(), volumes: 1, waits: true, content }
}

fn facts(volume: &VolumeView, details: Option<&Seen<Details>>, of: Moment<'_>) -> Element {
    let VolumeView { mountpoint, created, status, .. } = volume;
    let inspection = details.and_then(Seen::value).map(|details| &details.inspection);
    let error = inspection.and_then(|of| of.as_ref().err());
    let inspection = inspection.and_then(|of| of.as_ref().ok());
    let mut facts = Facts::default();
    facts.add("Mounted", mounted(status, of));
    facts.text("Path on this host", mountpoint.display());
    facts.add("Space", space(status));
    facts.text_if("Used", status.used);
    facts.text_if(
        "In the cluster",
        inspection.and_then(|of| of.stored).map(|stored| format!("{stored}, before copies")),
    );
    facts.text("Kind", status.kind);
    facts.text("Place", &status.place);
    facts.text_if("File system", status.file_system.as_ref());
    facts.text_if("Made of", status.origin.as_ref().map(made_of));
    facts.add("Created", when(*created, of.now).text(format!(" ({})", moment(*created))));
    facts.text_if("Device", status.device.as_ref().map(|device| device.display()));
    facts.text_if("By way of", status.mapper.as_ref());
    facts.list("Mounts here", &status.mounts);
    facts.list("Clients that write", inspection.map_or(&[], |of| &of.watchers));
    facts.text_if("Not to be had", error);
    facts.done()
}

fn options(status: &Status) -> Element {
    let mut facts = Facts::default();
    for (name, value) in &status.options {
        facts.text(name, value);
    }
    let summary = el("summary").text(count(status.options.len(), "option"));
    el("details").attr("id", "all-options").add(summary).add(facts.done())
}

fn schedule(status: &Status, schedule: Option<&ScheduleView>, of: Moment<'_>) -> Element {
    let option = |name: &str| status.options.get(name);
    let Some(times) = option("snapshot-schedule").filter(|times| *times != "none") else {
        let advice = "No schedule. docker ceph schedule set makes snapshots by themselves.";
        return el("p").class("quiet").text(advice);
    };
    let keep = option("snapshot-keep").map_or("all", String::as_str);
    let zone = option("snapshot-timezone").map_or("UTC", String::as_str);
    let mut said =
        el("p").text("Made at ").add(el("code").text(times)).text(format!(" ({zone}); kept: "));
    said = said.add(el("code").text(keep)).text(".");
    if let Some(served) = status.snapshots.served {
        said = said
            .text(" The last due time that was served was ")
            .add(when(served, of.now))
            .text(".");
    }
    let next = schedule.and_then(|schedule| schedule.next);
    match (status.snapshots.paused, next) {
        (true, _) => said.text(" ").add(el("b").text("Paused.")),
        (false, Some(next)) if next > of.now => {
            said.text(" The next is ").add(when(next, of.now)).text(".")
        }
        (false, Some(next)) => said.text(" One is due, since ").add(when(next, of.now)).text("."),
        (false, None) => said,
    }
}

fn snapshots(status: &Status, details: Option<&Seen<Details>>, of: Moment<'_>) -> Vec<Element> {
    let known = details.and_then(Seen::value).map(|details| &details.snapshots);
    let error = details.and_then(|details| details.error.as_ref());
    let error = error.or(known.and_then(|known| known.as_ref().err()));
    let error = error
        .map(|error| el("p").class("warning").text(format!("They cannot be listed now: {error}")));
    let shown = match known {
        Some(Ok(listed)) if listed.is_empty() => {
            vec![el("p").class("quiet").text("There is no snapshot.")]
        }
        Some(Ok(listed)) => list(listed, of),
        _ => vec![brief(status, of), el("p").class("quiet").text("These are the newest.")],
    };
    error.into_iter().chain(shown).collect()
}

fn list(listed: &[SnapshotView], of: Moment<'_>) -> Vec<Element> {
    let point = |it: &SnapshotView| {
        let scheduled = matches!(it.by, Some(Maker::Schedule { .. }));
        Some(Point { at: it.created?, scheduled })
    };
    let points: Vec<Point> = listed.iter().filter_map(point).collect();
    let figure = el("div").class("timeline").add(line(&points, listed.len(), of.now)).add(scale());
    let key = el("p")
        .class("key")
        .add(el("span").class("scheduled").text("by the schedule"))
        .text(" ")
        .add(el("span").class("by-hand").text("by hand or for another reason"));
    let rows = listed.iter().rev().map(|it| snapshot(it, of)).collect();
    let columns = ["Age", "Name", "By", "Consistency", "Notes"].map(column).into_iter().collect();
    vec![figure, key, table("Snapshots, the newest first", columns, rows)]
}

/// What the catalog knows of them, where they cannot be listed.
fn brief(status: &Status, of: Moment<'_>) -> Element {
    let newest = &status.snapshots.newest;
    let points: Vec<Point> = newest.iter().map(Point::of).collect();
    el("div").class("timeline").add(line(&points, status.snapshots.count, of.now)).add(scale())
}

fn snapshot(of: &SnapshotView, at: Moment<'_>) -> Element {
    let age = of.created.map(|created| when(created, at.now));
    let exact = of.created.map(|created| el("span").class("place").text(moment(created)));
    let unknown = "unknown";
    let notes = [
        of.protected.then(|| "protected".to_owned()),
        (!of.whole).then(|| "cut off, and removed in a while".to_owned()),
        of.group.as_ref().map(|group| format!("group {group}")),
        (!of.clones.is_empty()).then(|| format!("needed by {}", of.clones.join(", "))),
        of.stood_still_ms.map(|ms| format!("writers stood still for {ms} ms")),
    ];
    let notes = notes.into_iter().flatten().map(|note| el("span").text(note));
    let labels = of
        .labels
        .iter()
        .map(|(key, value)| el("span").class("label").text(format!("{key}={value}")));
    let notes: Vec<Element> = notes.chain(labels).collect();
    let by = of.by.as_ref().map_or(unknown, Maker::as_str);
    let consistency = of.consistency.map_or_else(|| unknown.to_owned(), |it| it.to_string());
    row()
        .add(cell().add(age).add(exact))
        .add(row_header().text(&of.name))
        .add(cell().text(by))
        .add(cell().text(consistency))
        .add(cell().class("notes").add(notes))
}

/// Names, and what is to be said of each.
#[derive(Debug, Default)]
struct Facts(Vec<Element>);

impl Facts {
    fn add(&mut self, name: &str, content: impl Content) {
        let (name, said) = (el("dt").text(name), el("dd").add(content));
        self.0.push(el("div").add(name).add(said));
    }

    fn text(&mut self, name: &str, text: impl Display) {
        self.add(name, el("span").text(text));
    }

    fn text_if(&mut self, name: &str, text: Option<impl Display>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn list(&mut self, name: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.add(name, texts.iter().map(|text| el("span").text(text)).collect::<Vec<_>>());
        }
    }

    fn done(self) -> Element {
        el("dl").add(self.0)
    }
}
