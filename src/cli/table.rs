//! Aligned columns for people.

use std::fmt::Display;

use jiff::Timestamp;

use crate::service::HolderView;

/// Rows under a heading; each column as wide as its widest cell.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    /// Names and values, without a heading.
    pub(super) fn of_pairs() -> Self {
        Self { rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// One name and its value.
    pub(super) fn pair(&mut self, name: &str, value: impl Display) {
        self.row([format!("{name}:"), value.to_string()]);
    }

    /// The same, where there is a value.
    pub(super) fn pair_if(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.pair(name, value);
        }
    }

    /// A value for each of some lines, with the name, if any, on the first one; nothing for no lines.
    pub(super) fn lines(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        for (at, value) in values.into_iter().enumerate() {
            let named = at == 0 && !name.is_empty();
            self.row([if named { format!("{name}:") } else { String::new() }, value]);
        }
    }

    /// All rows as lines, with no spaces at their ends.
    pub(super) fn print(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

/// A value, or a dash.
pub(super) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A moment in UTC, to the second.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// `web1 (10.0.0.7:0/31875) since 2026-01-02 03:04:05Z`.
pub(super) fn holder(holder: &HolderView) -> String {
    let here = if holder.here { ", this host" } else { "" };
    let address = holder.address.as_deref().map(|at| format!(" ({at})")).unwrap_or_default();
    format!("{}{address} since {}{here}", holder.host, moment(holder.since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let mut table = Table::new(["NAME", "SIZE"]);
        table.row(["pgdata".to_owned(), "10 GiB".to_owned()]);
        table.row(["ü".to_owned(), String::new()]);
        assert_eq!(table.print(), "NAME    SIZE\npgdata  10 GiB\nü\n");
    }
}
