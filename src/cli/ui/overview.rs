//! The first page: is all well, and the volumes, those that need somebody first.

use std::cmp::Reverse;

use super::concern::{Concern, Concerns, Level, found, fullness, percent_used};
use super::filter::{Filter, GROUPS, hosts, is_here};
use super::frame::{
    Moment, Page, banner, cell, class, column, concern, link, names, part, row, row_header, table,
    trouble,
};
use super::html::{Element, el};
use super::kept::Seen;
use super::reader::Overview;
use super::timeline::{Point, line, scale};
use super::words::{count, length, when};
use crate::cli::table::moment;
use crate::cli::volumes::under_way;
use crate::protocol::admin::Version;
use crate::service::{Finding, Status, Verdict, VolumeView};
use crate::volume::{ByteSize, is_scheduled};

/// The most volumes that one page has; a filter finds the others.
const SHOWN: usize = 500;

/// The page.
pub(super) fn page(
    seen: &Seen<Overview>,
    findings: &Seen<Vec<Finding>>,
    filter: &Filter,
    of: Moment<'_>,
) -> Page {
    let Some(overview) = seen.value() else { return nothing_yet(seen, of) };
    let concerns = Concerns::of_all(overview, of.now);
    let is_away = away(overview);
    let mut found = found(findings.value().map_or(&[], Vec::as_slice), &concerns);
    // The banner says it, and is newer.
    found.retain(|(check, _)| is_away.is_none() || check != "catalog");
    if let Some(error) = &findings.error {
        let text = format!("the doctor could not be asked: {error}");
        found.push(("doctor".to_owned(), Concern { level: Level::Warning, text, advice: None }));
    }
    let waits = findings.last.is_none() && findings.error.is_none();
    let trouble = trouble(seen, of.now);
    let (heading, class) = match (&trouble, &is_away) {
        (Some(_), _) => {
            let before = verdict(&concerns, &found).0.to_lowercase();
            (format!("No answer; before, {before}"), "problem")
        }
        (None, Some(_)) => ("Ceph does not answer".to_owned(), "problem"),
        (None, None) => match verdict(&concerns, &found) {
            (_, "well") if waits => ("Nothing wrong so far".to_owned(), "quiet"),
            verdict => verdict,
        },
    };
    let content = vec![
        part("state", trouble)
            .add(is_away)
            .add(el("h1").class(class).text(&heading))
            .add(matters(overview, &concerns, &found))
            .add(looked(findings, &found, of)),
        search(filter),
        part("volumes", groups(overview, &concerns, filter))
            .add(volumes(overview, &concerns, filter, of)),
        part("checks", checks(findings, of)).add(daemon(overview, of)),
    ];
    Page { title: heading, read: seen.read(), volumes: overview.volumes.len(), waits, content }
}

/// The page while nothing is known.
fn nothing_yet(seen: &Seen<Overview>, of: Moment<'_>) -> Page {
    let trouble = trouble(seen, of.now);
    let asking = trouble.is_none().then(|| el("p").text("The daemon is being asked …"));
    let content = vec![part("state", trouble).add(el("h1").text("Volumes")).add(asking)];
    let title = if seen.error.is_some() { "No answer" } else { "Volumes" }.to_owned();
    Page { title, read: None, volumes: 0, waits: true, content }
}

/// How it is, in words and as a class.
fn verdict(concerns: &Concerns, found: &[(String, Concern)]) -> (String, &'static str) {
    let number = |level: Level| {
        let shared = concerns.shared.iter().filter(|(concern, _)| concern.level == level).count();
        let found = found.iter().filter(|(_, concern)| concern.level == level).count();
        concerns.count(level) + shared + found
    };
    match (number(Level::Problem), number(Level::Warning)) {
        (0, 0) => ("All is well".to_owned(), "well"),
        (0, warnings) => (count(warnings, "warning"), "warning"),
        (problems, 0) => (count(problems, "problem"), "problem"),
        (problems, warnings) => {
            (format!("{}, {}", count(problems, "problem"), count(warnings, "warning")), "problem")
        }
    }
}

/// That Ceph itself does not answer, and from when the daemon's knowledge is.
fn away(overview: &Overview) -> Option<Element> {
    let known = overview.volumes.iter().filter_map(|volume| volume.status.as_of).min()?;
    let then = format!(
        "Check the monitors, the network and the key. What follows is what was known at {}.",
        moment(known)
    );
    let why = "volumes that are mounted wait for it, and no other can be mounted";
    Some(banner("Ceph does not answer the daemon", why, &then))
}

/// What is not about one volume: those that have something to say come first in their own list.
fn matters(
    overview: &Overview,
    concerns: &Concerns,
    found: &[(String, Concern)],
) -> Option<Element> {
    let mut list = Vec::new();
    for (check, matter) in found {
        list.push(concern(Some(el("b").text(check)), matter, None));
    }
    for (matter, volumes) in &concerns.shared {
        list.push(concern(
            Some(el("b").text(count(volumes.len(), "volume"))),
            matter,
            Some(names(volumes)),
        ));
    }
    if let Some(error) = &overview.schedules_error {
        let text = "When snapshots are due is not known: ";
        list.push(el("li").class("warning").text(text).text(error));
    }
    (!list.is_empty()).then(|| el("ul").class("matters").add(list))
}

/// How old what the doctor has found is, where it has found something.
fn looked(
    findings: &Seen<Vec<Finding>>,
    found: &[(String, Concern)],
    of: Moment<'_>,
) -> Option<Element> {
    let read = findings.read().filter(|_| !found.is_empty())?;
    Some(el("p").class("quiet").text("The doctor looked ").add(when(read, of.now)).text("."))
}

fn search(filter: &Filter) -> Element {
    let label = el("label").attr("for", "filter").text("Filter");
    let input = el("input")
        .attr("id", "filter")
        .attr("type", "search")
        .attr("name", "q")
        .attr("autocomplete", "off")
        .attr("spellcheck", "false")
        .attr("placeholder", "name, host, pool, state")
        .attr("value", &filter.text);
    let group = (!filter.group.is_empty()).then(|| {
        el("input").attr("type", "hidden").attr("name", "show").attr("value", &filter.group)
    });
    el("form")
        .attr("id", "search")
        .attr("role", "search")
        .attr("action", "/")
        .add(el("h2").text("Volumes"))
        .add(el("div").add(label).add(input).add(group))
}

fn groups(overview: &Overview, concerns: &Concerns, filter: &Filter) -> Element {
    let mut list = el("ul");
    for (word, name, is_in) in GROUPS {
        let number = overview.volumes.iter().filter(|volume| is_in(volume, concerns)).count();
        let address = Filter { group: word.to_owned(), ..filter.clone() }.address();
        let mut link = el("a").attr("href", address).text(name).text(" ").add(el("b").text(number));
        if word == filter.group {
            link = link.attr("aria-current", "true");
        }
        list = list.add(el("li").add(link));
    }
    el("nav").attr("aria-label", "Groups of volumes").add(list)
}

fn volumes(
    overview: &Overview,
    concerns: &Concerns,
    filter: &Filter,
    of: Moment<'_>,
) -> Vec<Element> {
    if overview.volumes.is_empty() {
        return vec![
            el("p").class("empty").text("There are no volumes yet. "),
            el("p").class("advice").text("docker volume create -d ceph -o size=10G NAME"),
        ];
    }
    let mut shown: Vec<&VolumeView> =
        overview.volumes.iter().filter(|volume| filter.passes(volume, concerns)).collect();
    shown.sort_by_key(|volume| {
        let level = concerns.level(&volume.name);
        (level.is_none(), level, Reverse(is_here(&volume.status)), volume.name.clone())
    });
    let (found, all) = (shown.len(), overview.volumes.len());
    shown.truncate(SHOWN);
    let said = match (found, shown.len()) {
        (0, _) => format!("None of {} matches.", count(all, "volume")),
        (found, shown) if found > shown => {
            format!("The first {shown} of {found} volumes: filter, to see others.")
        }
        (found, _) if found == all => count(all, "volume"),
        (found, _) => format!("{found} of {}", count(all, "volume")),
    };
    let said = el("p").class("count").attr("role", "status").text(said);
    if shown.is_empty() {
        return vec![said];
    }
    let columns = ["Volume", "Mounted", "Space"].map(column).into_iter();
    let columns = columns.chain([column("Snapshots").add(scale())]).collect();
    let rows = shown.into_iter().flat_map(|volume| rows(volume, overview, concerns, of)).collect();
    vec![said, table("Volumes", columns, rows)]
}

/// A volume in the table.
fn rows(
    volume: &VolumeView,
    overview: &Overview,
    concerns: &Concerns,
    of: Moment<'_>,
) -> Vec<Element> {
    let VolumeView { name, status, .. } = volume;
    let mut row = row().attr("id", format!("volume-{name}"));
    if let Some(level) = concerns.level(name) {
        row = row.class(class(level));
    }
    let title = row_header().add(link(name)).add(el("span").class("place").text(&status.place));
    let row = row
        .add(title)
        .add(cell().class("where").add(mounted(status, of)))
        .add(cell().class("space").add(space(status)))
        .add(cell().class("snapshots").add(snapshots(volume, overview, of)));
    vec![row].into_iter().chain(why(concerns.of(name))).collect()
}

/// What is the matter with the volume of the row above, in the whole width.
fn why(matters: &[Concern]) -> Option<Element> {
    let list: Vec<Element> = matters.iter().map(|matter| concern(None, matter, None)).collect();
    let row = row().class("why");
    let cell = cell().attr("colspan", "4").attr("aria-colspan", "4");
    (!list.is_empty()).then(|| row.add(cell.add(el("ul").class("matters").add(list))))
}

/// Where a volume is mounted, and how that goes.
pub(super) fn mounted(status: &Status, of: Moment<'_>) -> Vec<Element> {
    let mut lines = Vec::new();
    let state = &status.state[..];
    if is_here(status) {
        let by = count(status.mounts.len(), "mount");
        lines.push(el("span").add(el("b").class("here").text("here")).text(format!(", {by}")));
    }
    for holder in hosts(status) {
        let access = if status.holder.as_ref() == Some(holder) { "" } else { ", shared" };
        let time = el("time").attr("datetime", format!("{:.0}", holder.since));
        let time = time.attr("title", moment(holder.since));
        let time = time.text(length(of.now.as_second() - holder.since.as_second()));
        let host = el("span").add(el("b").text(&holder.host));
        lines.push(host.text(format!("{access}, for ")).add(time));
    }
    match state {
        "mounted" => {}
        "ready" if lines.is_empty() => lines.push(el("span").class("quiet").text("not mounted")),
        "ready" => {}
        "broken" => lines.insert(0, el("span").class("state problem").text(state)),
        other => lines.insert(0, el("span").class("state").text(other)),
    }
    lines.extend(status.task.as_ref().map(|task| el("span").text(under_way(task))));
    lines
}

/// How much of a volume is used.
pub(super) fn space(status: &Status) -> Vec<Element> {
    let Status { size, used, .. } = status;
    let percent = percent_used(status);
    let text = match (used, *size, percent) {
        (None, ByteSize(0), _) => "no quota".to_owned(),
        (None, size, _) => format!("{size}, never mounted"),
        (Some(used), ByteSize(0), _) => format!("{used}, no quota"),
        (Some(_), size, percent) => {
            format!("{}\u{a0}% of {size}", percent.unwrap_or_default())
        }
    };
    let bar = percent.map(|percent| {
        let class = match fullness(percent) {
            Some(Level::Problem) => "bar problem",
            Some(Level::Warning) => "bar warning",
            None => "bar",
        };
        let rect = |width: u64| el("rect").attr("width", width).attr("height", "4");
        el("svg")
            .class(class)
            .attr("viewBox", "0 0 100 4")
            .attr("preserveAspectRatio", "none")
            .attr("aria-hidden", "true")
            .add(rect(100).class("all"))
            .add(rect(percent.min(100)).class("used"))
    });
    vec![el("span").text(text)].into_iter().chain(bar).collect()
}

fn snapshots(volume: &VolumeView, overview: &Overview, of: Moment<'_>) -> Vec<Element> {
    let snapshots = &volume.status.snapshots;
    let next = overview.schedules.get(&volume.name).and_then(|schedule| schedule.next);
    let is_scheduled = is_scheduled(&volume.status.options);
    if snapshots.count == 0 && !is_scheduled {
        return vec![el("span").class("quiet").text("none, no schedule")];
    }
    let points: Vec<Point> = snapshots.newest.iter().map(Point::of).collect();
    let newest = snapshots.newest.last().map(|newest| when(newest.created, of.now));
    let mut text = el("span").text(snapshots.count);
    if let Some(newest) = newest {
        text = text.text(", newest ").add(newest);
    }
    text = match (is_scheduled, snapshots.paused, next) {
        (false, ..) => text.text("; no schedule"),
        (_, true, _) => text.text("; ").add(el("b").text("paused")),
        (_, false, Some(next)) if next > of.now => text.text("; next ").add(when(next, of.now)),
        (_, false, Some(_)) => text.text("; due now"),
        (_, false, None) => text,
    };
    vec![line(&points, snapshots.count, of.now), text]
}

/// What the daemon's doctor looked at, also where all is well.
fn checks(findings: &Seen<Vec<Finding>>, of: Moment<'_>) -> Vec<Element> {
    let title = el("h2").text("Checks");
    let more = el("p").class("quiet").text(
        "This is what the daemon sees from inside. docker ceph doctor, on the host, also looks at the \
         host, its settings and the cluster.",
    );
    let Some((found, read)) = &findings.last else {
        let said = match &findings.error {
            Some(error) => format!("The doctor could not be asked: {error}"),
            None => "The doctor is looking around …".to_owned(),
        };
        return vec![title, el("p").text(said), more];
    };
    let item = |finding: &Finding| {
        let Finding { check, verdict, detail, advice } = finding;
        let (word, class) = match verdict {
            Verdict::Ok => ("Well", "well"),
            Verdict::Warning => ("Warning", "warning"),
            Verdict::Failed => ("Problem", "problem"),
        };
        let advice = advice.as_ref().map(|advice| el("p").class("advice").text("→ ").text(advice));
        let what = el("p").add(el("strong").class("word").text(word)).text(" ");
        let what = what.add(el("b").text(check)).text(": ").text(detail);
        el("li").class(class).add(what).add(advice)
    };
    let well = found.iter().filter(|finding| finding.verdict == Verdict::Ok).count();
    let said = format!("{} of {} well, looked at ", well, count(found.len(), "check"));
    let list = el("ul").class("matters").add(found.iter().map(item).collect::<Vec<_>>());
    let all = el("details")
        .attr("id", "all-checks")
        .add(el("summary").text(said).add(when(*read, of.now)))
        .add(list);
    vec![title, all, more]
}

/// Which daemon answers: one that has just started may have ended just before.
fn daemon(overview: &Overview, of: Moment<'_>) -> Element {
    let Version { version, pid, started, .. } = &overview.daemon;
    el("p")
        .text(format!("The daemon is docker-ceph {version}, process {pid}, started "))
        .add(when(*started, of.now))
        .text(".")
}
