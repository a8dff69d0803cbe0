//! Aligned plain tables.

use super::clean;

/// When a column is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    /// Always.
    Always,
    /// Only in a wide table.
    Wide,
    /// Only when objects of all namespaces are shown.
    AllNamespaces,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    show: Show,
    /// Whether it changes by time alone, so that a change of it is no news.
    volatile: bool,
}

impl Column {
    pub(crate) const fn new(title: &'static str) -> Self {
        Self { title, show: Show::Always, volatile: false }
    }

    pub(crate) const fn wide(title: &'static str) -> Self {
        Self { title, show: Show::Wide, volatile: false }
    }

    pub(crate) const fn namespace() -> Self {
        Self { title: "NAMESPACE", show: Show::AllNamespaces, volatile: false }
    }

    pub(crate) const fn title(&self) -> &'static str {
        self.title
    }

    pub(crate) const fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }
}

/// How a cell is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Busy,
    Bad,
}

/// A cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Cell {
    #[allow(clippy::needless_pass_by_value, reason = "numbers and formatted texts are passed as they are")]
    pub(crate) fn toned(text: impl ToString, tone: Tone) -> Self {
        let text = clean(&text.to_string());
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, tone }
    }

    pub(crate) fn new(text: impl ToString) -> Self {
        Self::toned(text, Tone::Plain)
    }

    /// A value that there need not be.
    pub(crate) fn maybe<T: ToString>(value: Option<&T>) -> Self {
        Self::new(value.map(ToString::to_string).unwrap_or_default())
    }
}

/// How much of a table to show.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Width {
    pub(crate) wide: bool,
    pub(crate) all_namespaces: bool,
    pub(crate) paint: bool,
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The lines of the table, the header first. Nothing for a table without rows.
    pub(crate) fn lines(&self, width: Width) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|&c| is_shown(self.columns[c].show, width)).collect();
        let widths: Vec<usize> = shown
            .iter()
            .map(|&c| {
                let cells =
                    self.rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.text.chars().count());
                cells.chain([self.columns[c].title.len()]).max().unwrap_or(0)
            })
            .collect();
        let header = shown.iter().map(|&c| (self.columns[c].title, Tone::Plain));
        let mut lines = vec![line(header, &widths, false)];
        for row in &self.rows {
            let cells = shown.iter().filter_map(|&c| row.get(c)).map(|cell| (cell.text.as_str(), cell.tone));
            lines.push(line(cells, &widths, width.paint));
        }
        lines
    }

    /// The whole table as text.
    pub(crate) fn render(&self, width: Width) -> String {
        self.lines(width).iter().map(|line| format!("{line}\n")).collect()
    }

    /// For each row, what would be news if it changed.
    pub(crate) fn news(&self) -> Vec<String> {
        let of_row = |row: &Vec<Cell>| {
            let lasting = row.iter().zip(self.columns).filter(|(_, column)| !column.volatile);
            lasting.map(|(cell, _)| cell.text.as_str()).collect::<Vec<_>>().join("\t")
        };
        self.rows.iter().map(of_row).collect()
    }
}

fn is_shown(show: Show, width: Width) -> bool {
    match show {
        Show::Always => true,
        Show::Wide => width.wide,
        Show::AllNamespaces => width.all_namespaces,
    }
}

fn line<'a>(cells: impl Iterator<Item = (&'a str, Tone)>, widths: &[usize], painted: bool) -> String {
    let mut line = String::new();
    for ((text, tone), width) in cells.zip(widths) {
        let padding = width.saturating_sub(text.chars().count()) + 3;
        line.push_str(&paint(text, tone, painted));
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line.trim_end().to_owned()
}

/// `text` in the colour of `tone`.
fn paint(text: &str, tone: Tone, painted: bool) -> String {
    let colour = match tone {
        Tone::Good if painted => 32,
        Tone::Busy if painted => 33,
        Tone::Bad if painted => 31,
        _ => return text.to_owned(),
    };
    format!("\u{1b}[{colour}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[Column::namespace(), Column::new("NAME"), Column::new("AGE").volatile(), Column::wide("MORE")];

    fn table(age: &str) -> Table {
        let row = |name: &str| vec![Cell::new("default"), Cell::new(name), Cell::new(age), Cell::new("")];
        Table { columns: COLUMNS, rows: vec![row("origin"), row("ä\u{1b}[31m")] }
    }

    #[test]
    fn table_is_aligned_and_shows_only_the_columns_asked_for() {
        let text = table("3s").render(Width::default());
        assert_eq!(text, "NAME     AGE\norigin   3s\nä [31m   3s\n");
        let width = Width { wide: true, all_namespaces: true, paint: true };
        assert_eq!(table("3s").lines(width)[0], "NAMESPACE   NAME     AGE   MORE");
        assert_eq!(table("3s").lines(width)[1], "default     origin   3s    -");
        assert_eq!(Table { columns: COLUMNS, rows: Vec::new() }.render(width), "");
    }

    #[test]
    fn table_that_only_grew_older_has_no_news() {
        assert_eq!(table("3s").news(), table("4s").news());
    }

    #[test]
    fn paint_colours_only_when_asked_to() {
        assert_eq!(paint("Ready", Tone::Good, false), "Ready");
        assert_eq!(paint("Ready", Tone::Good, true), "\u{1b}[32mReady\u{1b}[0m");
    }
}
