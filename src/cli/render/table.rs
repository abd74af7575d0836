//! Tables without borders, which read well and are easy on `awk`.

use anstyle::{AnsiColor, Color as AnyColor, Style};
use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// Blanks between two columns.
pub const GAP: u16 = 2;

/// An empty table with these headings.
pub fn with_header(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .enforce_styling()
        .set_header(headings.iter().map(Cell::new));
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table
}

/// A table that is printed page by page, its columns as wide as on the first page at least.
#[derive(Default)]
pub struct Pages {
    widths: Vec<u16>,
}

impl Pages {
    /// The next page, made with its headings; only the first one shows them.
    pub fn lines(&mut self, mut page: Table) -> Vec<String> {
        let first = self.widths.is_empty();
        if first {
            self.widths = page.column_max_content_widths();
        }
        for (column, width) in page.column_iter_mut().zip(&self.widths) {
            let padded = width.saturating_add(GAP);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(padded)));
        }
        let mut lines = lines(&page);
        if !first {
            lines.remove(0);
        }
        lines
    }
}

/// The table as lines without blanks at their ends.
pub fn lines(table: &Table) -> Vec<String> {
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// A word in its colour.
pub fn coloured((word, style): (&'static str, Style)) -> Cell {
    let cell = Cell::new(word);
    match style.get_fg_color() {
        Some(AnyColor::Ansi(AnsiColor::Green)) => cell.fg(Color::DarkGreen),
        Some(AnyColor::Ansi(AnsiColor::Red)) => cell.fg(Color::DarkRed),
        Some(AnyColor::Ansi(AnsiColor::Cyan)) => cell.fg(Color::DarkCyan),
        Some(AnyColor::Ansi(AnsiColor::Yellow)) => cell.fg(Color::DarkYellow),
        _ => cell,
    }
}
