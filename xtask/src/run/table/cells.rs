//! The words in the table: its header, and a line for each frontend.

use comfy_table::{Cell, CellAlignment, Color, Row as Line};

use super::{
    super::{
        board::Board,
        frontends::Key,
        row::{Row, State},
    },
    Size,
};

/// The columns' names.
pub(super) fn header(board: &Board, size: Size) -> Line {
    // Failures are those of a while if the board forgets.
    let failed = board.memory().map_or_else(
        || "failed".to_owned(),
        |memory| format!("failed in {} s", memory.as_secs()),
    );
    let names: &[&str] = match size {
        Size::Full => &[
            "service",
            "family",
            "kind",
            "frontend",
            "endpoints reached",
            "ok",
            &failed,
            "flows",
            "packets in/out",
            "result",
        ],
        Size::Short => &[
            "service", "frontend", "reached", "ok", "failed", "flows", "packets", "result",
        ],
    };
    let mut line = Line::from(names);
    if size == Size::Short {
        line.max_height(1);
    }
    line
}

/// A frontend and its score.
pub(super) fn line(key: &Key, row: &Row, colored: bool, size: Size) -> Line {
    let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut line = Line::new();
    line.add_cell(Cell::new(key.service()));
    if size == Size::Full {
        line.add_cell(Cell::new(key.family()));
        line.add_cell(Cell::new(key.kind()));
    } else {
        line.max_height(1);
    }
    let traffic = row.traffic;
    let (result, color) = result(key, row);
    let result = Cell::new(result);
    line.add_cell(Cell::new(key.frontend()))
        .add_cell(Cell::new(endpoints(row, size, colored)))
        .add_cell(number(row.ok.to_string()))
        .add_cell(number(row.failures.len().to_string()))
        .add_cell(number(traffic.flows.to_string()))
        .add_cell(number(format!(
            "{}/{}",
            traffic.packets_in, traffic.packets_out
        )))
        .add_cell(if colored { result.fg(color) } else { result });
    line
}

fn endpoints(row: &Row, size: Size, terminal: bool) -> String {
    let counts = row.counts();
    if counts.is_empty() {
        return "none".to_owned();
    }
    if size == Size::Short {
        let reached = counts.iter().filter(|(_, count)| *count > 0).count();
        return format!("{reached} of {}", counts.len());
    }
    // A line that is for eyes alone does not end between a name and its count.
    let space = if terminal { '\u{a0}' } else { ' ' };
    let count = |(name, count): &(String, u64)| match count {
        0 => format!("{name}{space}-"),
        count => format!("{name}{space}{count}"),
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
