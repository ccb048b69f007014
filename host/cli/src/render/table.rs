//! Columns of text, aligned by what a terminal shows.

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use crate::render::style::{DIM, PLAIN, paint};

/// To which side a column leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// One cell. Its text has no line ends and no styles.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell with a style.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, PLAIN)
    }
}

/// A table with a header.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows. A title that starts with `>` makes a column of numbers.
    pub(crate) fn new<'a>(titles: impl IntoIterator<Item = &'a str>) -> Self {
        let columns = titles.into_iter().map(|title| match title.strip_prefix('>') {
            Some(title) => (title.to_owned(), Side::Right),
            None => (title.to_owned(), Side::Left),
        });
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// A table of texts and numbers whose titles somebody else wrote.
    pub(crate) fn of_columns(columns: Vec<(String, Side)>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// No rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Draws it, each line after `indent`, without a line end at the end. Columns in which no row has anything are left out.
    pub(crate) fn render(&self, indent: &str) -> String {
        let used: Vec<_> = (0..self.columns.len())
            .filter(|column| self.rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.text.is_empty())))
            .collect();
        if used.is_empty() { self.render_all(indent) } else { self.draw(indent, &used) }
    }

    /// As [`render`](Self::render), with empty columns too.
    pub(crate) fn render_all(&self, indent: &str) -> String {
        self.draw(indent, &(0..self.columns.len()).collect::<Vec<_>>())
    }

    fn draw(&self, indent: &str, used: &[usize]) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.width());
            cells.chain([self.columns[column].0.width()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = used.iter().map(|column| width(*column)).collect();
        let empty = Cell::from("");
        let line = |cells: Vec<&Cell>| {
            let mut out = indent.to_owned();
            for (at, cell) in cells.iter().enumerate() {
                let padding = " ".repeat(widths[at] - cell.text.width());
                let text = if cell.text.is_empty() { String::new() } else { paint(cell.style, &cell.text) };
                let gap = if at == 0 { "" } else { "  " };
                match self.columns[used[at]].1 {
                    Side::Left if at + 1 == cells.len() => out.extend([gap, &text]),
                    Side::Left => out.extend([gap, &text, &padding]),
                    Side::Right => out.extend([gap, &padding, &text]),
                }
            }
            out.trim_end().to_owned()
        };
        let titles: Vec<_> = self.columns.iter().map(|(title, _)| Cell::styled(title.as_str(), DIM)).collect();
        let head = line(used.iter().map(|column| &titles[*column]).collect());
        let body =
            self.rows.iter().map(|row| line(used.iter().map(|column| row.get(*column).unwrap_or(&empty)).collect()));
        [head].into_iter().chain(body).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;
    use crate::render::style::GOOD;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new(["step", "nothing", ">fuel", "note"]);
        table.row(["load".into(), "".into(), "12".into(), Cell::styled("fine", GOOD)]);
        table.row(["日本".into(), "".into(), "1234".into()]);
        insta::assert_snapshot!(plain(&table.render("  ")));
        assert!(table.render("").contains("\u{1b}[32mfine"));
    }
}
