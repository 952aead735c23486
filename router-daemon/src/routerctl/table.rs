//! Tables that fit a width, and the colours of words.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How wide the output may be, and whether it may have colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Columns of the terminal; none if there is no terminal.
    pub(crate) width: Option<usize>,
    pub(crate) colour: bool,
}

/// Rows under headings. Columns whose cells are all numbers stand to the right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    number: bool,
}

impl Table {
    pub(crate) fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        let headings = headings.into_iter().map(Into::into).collect();
        let rows = Vec::new();
        Self { headings, rows }
    }

    /// Adds a row of as many cells as there are headings.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.headings.len());
        self.rows.push(row);
    }

    /// The table as lines, each ended. What does not fit is shortened, the widest column first;
    /// columns for which there is no room at all are left out and named below.
    pub(crate) fn render(&self, style: Style) -> String {
        let columns: Vec<Column> = (0..self.headings.len()).map(|i| self.column(i)).collect();
        let widths = fit(&columns, style.width.unwrap_or(usize::MAX));
        let shown = widths.len();
        let headings: Vec<Cell> = self.headings.iter().map(Cell::text).collect();
        let mut text = String::new();
        let line = |row: &[Cell]| -> String {
            let cells = row[..shown].iter().zip(&columns).zip(&widths).enumerate();
            let cells = cells.map(|(index, ((cell, column), width))| {
                cell.padded(*width, column.number, index + 1 == shown, style)
            });
            cells.collect::<Vec<_>>().join(GAP)
        };
        let heading = line(&headings);
        text.push_str(&painted(heading.trim_end(), BOLD, style.colour));
        text.push('\n');
        for row in &self.rows {
            text.push_str(line(row).trim_end());
            text.push('\n');
        }
        if shown < self.headings.len() {
            let left_out = self.headings[shown..].join(", ");
            let note = format!("(no room for: {left_out}; --json has all)");
            text.push_str(&wrap(&note, style.width.unwrap_or(usize::MAX)));
        }
        text
    }

    fn column(&self, index: usize) -> Column {
        let cells = self.rows.iter().map(|row| &row[index]);
        let heading = self.headings[index].width();
        let width = cells
            .clone()
            .map(|cell| cell.text.width())
            .max()
            .unwrap_or(0);
        let mut said = cells.filter(|cell| cell.text != NOTHING).peekable();
        let number = said.peek().is_some() && said.all(|cell| cell.number);
        let width = width.max(heading);
        let least = if number { width } else { width.min(LEAST) };
        Column {
            width,
            least,
            number,
        }
    }
}

impl Cell {
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        let text = match text.as_ref() {
            "" => NOTHING.to_owned(),
            text => text
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        };
        Self {
            text,
            number: false,
        }
    }

    pub(crate) fn number(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, number: true }
    }

    /// As much of it as fits, without blanks around it.
    pub(crate) fn shown(&self, width: Option<usize>) -> String {
        shortened(&self.text, width.unwrap_or(usize::MAX))
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn padded(&self, width: usize, right: bool, last: bool, style: Style) -> String {
        let text = shortened(&self.text, width);
        let blanks = " ".repeat(width.saturating_sub(text.width()));
        let text = paint(&text, style.colour);
        match (right, last) {
            (true, _) => blanks + &text,
            (false, true) => text,
            (false, false) => text + &blanks,
        }
    }
}

/// Text with the colour of what it says: green for what is well, red for what is not.
pub(crate) fn paint(text: &str, colour: bool) -> String {
    let paint = match text.trim() {
        "up" | "SUCCESS" | "accepted" => GREEN,
        "down" | "FAILED" | "rejected" | "released" | "modified" | "unreachable" => RED,
        "CONNECTING" | "closing" | "quiescing" => YELLOW,
        _ => return text.to_owned(),
    };
    painted(text, paint, colour)
}

/// A title over a table.
pub(crate) fn painted_title(text: &str, style: Style) -> String {
    painted(text, BOLD, style.colour)
}

/// Lines no wider than that, broken between words where that is possible.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push_str(&shortened(&line, width));
            lines.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push_str(&shortened(&line, width));
    lines.push('\n');
    lines
}

/// The text, or as much of its beginning as fits before an ellipsis.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        kept.push(c);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

struct Column {
    /// What its widest cell needs.
    width: usize,
    /// Less than that makes it useless.
    least: usize,
    number: bool,
}

/// The widths of as many columns, from the first, as there is room for.
fn fit(columns: &[Column], room: usize) -> Vec<usize> {
    let mut shown = columns.len();
    while shown > 1 && total(columns[..shown].iter().map(|column| column.least)) > room {
        shown -= 1;
    }
    let mut widths: Vec<usize> = columns[..shown].iter().map(|column| column.width).collect();
    while total(widths.iter().copied()) > room {
        let shrinkable = widths.iter().zip(columns).enumerate();
        let shrinkable = shrinkable.filter(|(_, (width, column))| **width > column.least);
        let Some((widest, _)) = shrinkable.max_by_key(|(_, (width, _))| **width) else {
            break;
        };
        widths[widest] -= 1;
    }
    widths
}

fn total(widths: impl ExactSizeIterator<Item = usize>) -> usize {
    let gaps = widths.len().saturating_sub(1) * GAP.len();
    widths.sum::<usize>() + gaps
}

fn painted(text: &str, paint: &str, colour: bool) -> String {
    match colour {
        true => format!("{paint}{text}{PLAIN}"),
        false => text.to_owned(),
    }
}

/// What stands in a cell that has no value.
const NOTHING: &str = "-";
const GAP: &str = "  ";
/// A text of less than this is not worth showing.
pub(crate) const LEAST: usize = 10;
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["name", "container", "count"]);
        for (name, container, count) in [("a", "a-rather-long-container", 7), ("b", "", 1234)] {
            let count = Cell::number(count.to_string());
            table.push(vec![Cell::text(name), Cell::text(container), count]);
        }
        table
    }

    fn plain(width: Option<usize>) -> String {
        let colour = false;
        table().render(Style { width, colour })
    }

    #[test]
    fn numbers_stand_to_the_right_and_nothing_is_a_dash() {
        let expected = "\
name  container                count
a     a-rather-long-container      7
b     -                         1234
";
        assert_eq!(plain(None), expected);
        assert_eq!(plain(Some(36)), expected);
    }

    #[test]
    fn the_widest_column_is_shortened_and_numbers_are_not() {
        let expected = "\
name  container   count
a     a-rather-…      7
b     -            1234
";
        assert_eq!(plain(Some(23)), expected);
    }

    #[test]
    fn columns_without_room_are_named() {
        let text = plain(Some(18));
        assert!(text.starts_with("name  container\n"), "{text}");
        assert!(text.contains("count"), "{text}");
        for width in 16..40 {
            let text = plain(Some(width));
            assert!(
                text.lines().all(|line| line.width() <= width),
                "{width}: {text}"
            );
        }
    }

    #[test]
    fn wide_and_control_characters_do_not_break_the_columns() {
        assert_eq!(shortened("路由器", 5), "路由…");
        assert_eq!(shortened("路由器", 4), "路…");
        assert_eq!(Cell::text("a\x1b[31m\n"), Cell::text("a [31m "));
    }

    #[test]
    fn colours_are_only_used_when_asked_for() {
        let mut table = Table::new(["state"]);
        table.push(vec![Cell::text("up")]);
        let width = None;
        let plain = table.render(Style {
            width,
            colour: false,
        });
        assert_eq!(plain, "state\nup\n");
        let colour = table.render(Style {
            width,
            colour: true,
        });
        assert_eq!(colour, "\x1b[1mstate\x1b[0m\n\x1b[32mup\x1b[0m\n");
    }
}
