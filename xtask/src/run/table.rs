//! The board as text: in full, or fitted to a terminal.
//!
//! What is drawn over itself must not be higher than the terminal, or its top would scroll away. So there
//! are three sizes: with every endpoint's count; one line per frontend; and that, cut.

mod cells;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use super::{
    board::Board,
    frontends::Key,
    row::{Row, State},
};

/// Failures that are told in words below the table, in full and on a terminal.
const SHOWN: [usize; 2] = [10, 3];
/// The width elsewhere than on a terminal.
const WIDE: u16 = 200;
/// From this width on there is room for every endpoint's name.
const ROOMY: u16 = 120;
/// The narrowest width that is believed; below it things are cut off.
const NARROWEST: u16 = 60;

/// How much a table says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// Every endpoint and its count.
    Full,
    /// One line per frontend.
    Short,
}

/// The whole table and what there is to say; coloured if a terminal's `width` is given.
pub(super) fn full(board: &Board, width: Option<u16>) -> String {
    let mut lines = table(board, width, Size::Full);
    lines.extend(remarks(board, SHOWN[0]));
    lines.join("\n") + "\n"
}

/// The same for a terminal: full if it has room, else with one line per frontend.
pub(super) fn whole(board: &Board, (rows, columns): (u16, u16)) -> Vec<String> {
    let mut lines = sized(board, rows.into(), columns);
    lines.extend(remarks(board, SHOWN[0]));
    lines
}

/// At most `rows` lines, none wider than `columns`: as much of the table as fits, what there is to say,
/// and `footer`.
pub(super) fn fitted(board: &Board, (rows, columns): (u16, u16), footer: &str) -> Vec<String> {
    let mut below = remarks(board, SHOWN[1]);
    below.push(footer.to_owned());
    let room = usize::from(rows).saturating_sub(below.len());
    let mut lines = sized(board, room, columns);
    if lines.len() > room {
        let head = lines.len().saturating_sub(board.rows().len());
        let kept = room.saturating_sub(head + 1);
        let failed = |(_, row): &(&Key, &Row)| row.state() == State::Failed;
        let failed = board.rows().skip(kept).filter(failed).count();
        lines.truncate(head + kept);
        let cut = board.rows().len().saturating_sub(kept);
        lines.push(format!(
            "{cut} more frontends, {failed} of them FAILED: a higher window shows them"
        ));
    }
    lines.extend(below);
    let cut = |line: &String| console::truncate_str(line, columns.into(), "…").into_owned();
    lines.iter().map(cut).take(rows.into()).collect()
}

/// The full table if it is no higher than `room` and the names have their width, else the short one.
fn sized(board: &Board, room: usize, columns: u16) -> Vec<String> {
    let width = Some(columns.max(NARROWEST));
    let full = table(board, width, Size::Full);
    if columns >= ROOMY && full.len() <= room {
        full
    } else {
        table(board, width, Size::Short)
    }
}

/// The manifests' problem and `count` failures.
fn remarks(board: &Board, count: usize) -> Vec<String> {
    let failures = board.failures().into_iter().take(count);
    let failures = failures.map(|why| format!("failed: {why}"));
    let problem = board.problem().map(str::to_owned);
    problem.into_iter().chain(failures).collect()
}

fn table(board: &Board, width: Option<u16>, size: Size) -> Vec<String> {
    if board.rows().len() == 0 {
        return vec!["no service is served: add one to the manifests".to_owned()];
    }
    let mut table = Table::new();
    table
        .load_style(match size {
            Size::Full => presets::UTF8_FULL_CONDENSED,
            Size::Short => presets::NOTHING,
        })
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width.unwrap_or(WIDE))
        .set_header(cells::header(board, size))
        .add_rows(
            board
                .rows()
                .map(|(key, row)| cells::line(key, row, width.is_some(), size)),
        );
    // Names may be cut and endpoints go on in the next line; what they come to may not.
    let (fixed, padding) = match size {
        Size::Full => (5, (1, 1)),
        Size::Short => (2, (0, 1)),
    };
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding(padding);
        if index >= fixed && (size == Size::Short || width.is_none_or(|width| width >= ROOMY)) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.lines().collect()
}

#[cfg(test)]
mod tests;
