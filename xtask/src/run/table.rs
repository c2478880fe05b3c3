//! The board as text: in full, or fitted to a terminal.
//!
//! What is drawn over itself must not be higher than the terminal, or its top would scroll away. So there
//! are three sizes: with every endpoint's count; one line per frontend; and that, cut.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row as Line, Table, presets};

use super::{
    board::Board,
    frontends::Key,
    row::{Row, State},
};

/// Failures that are told in words below the table, in full and on a terminal.
const SHOWN: [usize; 2] = [10, 3];
/// Lines of a table that are no frontends: two of the frame, the header, the line below it.
const FRAME: usize = 4;
/// The narrowest width that is believed; below it things are cut off.
const NARROWEST: u16 = 60;

/// The whole table and the failures in words; coloured if a terminal's `width` is given.
pub(super) fn full(board: &Board, width: Option<u16>) -> String {
    let mut text = table(board, width, true).to_string() + "\n";
    for line in failures(board, SHOWN[0]) {
        text += &(line + "\n");
    }
    text
}

/// At most `rows` lines, none wider than `columns`: as much of the table as fits, failures, and `footer`.
pub(super) fn fitted(board: &Board, (rows, columns): (u16, u16), footer: &str) -> Vec<String> {
    let rows = usize::from(rows);
    let mut below = failures(board, SHOWN[1]);
    below.push(footer.to_owned());
    let room = rows.saturating_sub(below.len());
    let width = columns.max(NARROWEST);
    let mut lines: Vec<String> = table(board, Some(width), true).lines().collect();
    if lines.len() > room {
        lines = table(board, Some(width), false).lines().collect();
    }
    if lines.len() > room {
        let kept = room.saturating_sub(FRAME + 1);
        let bad = |(_, row): &(&Key, &Row)| row.state() == State::Failed;
        let failed = board.rows().skip(kept).filter(bad).count();
        let bottom = lines.pop();
        lines.truncate(FRAME - 1 + kept);
        lines.extend(bottom);
        let cut = board.rows().len().saturating_sub(kept);
        lines.push(format!(
            "{cut} more frontends, {failed} of them FAILED: a higher window shows them"
        ));
    }
    lines.extend(below);
    let lines = lines.iter();
    lines
        .map(|line| console::truncate_str(line, usize::from(columns), "…").into_owned())
        .take(rows)
        .collect()
}

fn failures(board: &Board, count: usize) -> Vec<String> {
    let failures = board.failures().into_iter().take(count);
    failures.map(|why| format!("failed: {why}")).collect()
}

fn table(board: &Board, width: Option<u16>, in_full: bool) -> Table {
    let failed = failed_title(board);
    let header = Line::from([
        "service",
        "family",
        "frontend",
        "endpoints reached",
        "ok",
        &failed,
        "flows",
        "packets in/out",
        "result",
    ]);
    let height = |mut line: Line| {
        if !in_full {
            line.max_height(1);
        }
        line
    };
    let rows = board.rows();
    let lines = rows.map(|(key, row)| height(line(key, row, width.is_some(), in_full)));
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width.unwrap_or(180))
        .set_header(height(header))
        .add_rows(lines);
    table
}

/// Failures are those of a while if the board forgets.
fn failed_title(board: &Board) -> String {
    board.memory().map_or_else(
        || "failed".to_owned(),
        |memory| format!("failed in {} s", memory.as_secs()),
    )
}

fn line(key: &Key, row: &Row, colored: bool, in_full: bool) -> Line {
    let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let traffic = row.traffic;
    let (result, color) = result(key, row);
    let result = Cell::new(result);
    Line::from([
        Cell::new(key.service()),
        Cell::new(key.family()),
        Cell::new(key.frontend()),
        Cell::new(endpoints(row, in_full)),
        number(row.ok.to_string()),
        number(row.failures.len().to_string()),
        number(traffic.flows.to_string()),
        number(format!("{}/{}", traffic.packets_in, traffic.packets_out)),
        if colored { result.fg(color) } else { result },
    ])
}

fn endpoints(row: &Row, in_full: bool) -> String {
    let counts = row.counts();
    if !in_full {
        let reached = counts.iter().filter(|(_, count)| *count > 0).count();
        return format!("{reached} of {}", counts.len());
    }
    let count = |(name, count): &(String, u64)| match count {
        0 => format!("{name} -"),
        count => format!("{name} {count}"),
    };
    counts.iter().map(count).collect::<Vec<_>>().join(" · ")
}

fn result(key: &Key, row: &Row) -> (&'static str, Color) {
    if key.probed().is_none() {
        return ("not probed", Color::Grey);
    }
    match row.state() {
        State::Failed => ("FAILED", Color::Red),
        State::NoEndpoints => ("no endpoints", Color::Yellow),
        State::Waiting => ("...", Color::Grey),
        State::Incomplete => ("incomplete", Color::Yellow),
        State::Ok => ("ok", Color::Green),
    }
}

#[cfg(test)]
mod tests;
