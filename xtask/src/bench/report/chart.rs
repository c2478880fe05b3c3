//! A section as a picture: bars of ratios, and lines where something grows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Section;

/// Bars beyond this many ratios would stand for one thing only; what is higher is cut off there.
const HIGHEST: f64 = 3.0;

/// Pixels of a bar with its gap, and of what is around all bars.
const BAR: u32 = 22;
const FRAME: u32 = 110;
const WIDTH: u32 = 900;
/// Pixels that lines have in height at least.
const LEAST: u32 = 400;

/// Draws the rows of a section: each way of each row against the row's first way. Without figures there is no chart.
///
/// # Errors
/// If the file cannot be written.
pub fn bars(section: &Section, file: &Path) -> Result<()> {
    let bars: Vec<(String, String, f64)> = section
        .rows
        .iter()
        .flat_map(|row| {
            let base = row.rounds.keys().next().cloned().unwrap_or_default();
            row.rounds.keys().filter_map(move |way| {
                let ratio = row.ratio(way, &base)?;
                Some((row.title(), way.clone(), ratio.median))
            })
        })
        .collect();
    if bars.is_empty() {
        return Ok(());
    }
    let count = u32::try_from(bars.len())?;
    let area = SVGBackend::new(file, (WIDTH, FRAME + BAR * count.max(1))).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", file.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&section.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(330)
        .build_cartesian_2d(0.0..highest(&bars), (0..count.max(1)).into_segmented())
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&|place| match place {
            SegmentValue::CenterOf(i) => bars
                .get(*i as usize)
                .map_or_else(String::new, |(what, way, _)| format!("{what}: {way}")),
            _ => String::new(),
        })
        .x_desc("ratio to the first way of each row")
        .draw()
        .map_err(|error| failed(&error))?;
    let mut before = None;
    let mut shade = 0;
    for (i, (what, _, ratio)) in (0..count).zip(&bars) {
        if before != Some(what) {
            (before, shade) = (Some(what), 0);
        }
        let (from, to) = (SegmentValue::Exact(i), SegmentValue::Exact(i + 1));
        let mut bar = Rectangle::new(
            [(0.0, from), (ratio.min(HIGHEST), to)],
            Palette99::pick(shade).mix(0.8).filled(),
        );
        bar.set_margin(3, 3, 0, 0);
        chart.draw_series([bar]).map_err(|error| failed(&error))?;
        shade += 1;
    }
    area.present().map_err(|error| failed(&error))
}

/// Draws what grows: a line for each way of each row, against its value at the least number of services.
///
/// # Errors
/// If the file cannot be written.
pub fn lines(section: &Section, file: &Path) -> Result<()> {
    let lines = series(section);
    if lines.is_empty() {
        return Ok(());
    }
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most = points().map(|(at, _)| *at).fold(2.0, f64::max);
    let highest = points().map(|(_, ratio)| *ratio).fold(1.0, f64::max);
    let height = u32::try_from(lines.len())?.saturating_mul(BAR).max(LEAST);
    let area = SVGBackend::new(file, (WIDTH, FRAME + height)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", file.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&section.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((1.0..most).log_scale(), 0.0..highest * 1.05)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("services")
        .y_desc("ratio to the least number")
        .draw()
        .map_err(|error| failed(&error))?;
    for (shade, (name, points)) in lines.iter().enumerate() {
        let color = Palette99::pick(shade).stroke_width(2);
        let line = LineSeries::new(points.iter().copied(), color).point_size(3);
        let drawn = chart.draw_series(line).map_err(|error| failed(&error))?;
        drawn.label(name).legend(move |(x, y)| {
            PathElement::new(
                [(x, y), (x + 16, y)],
                Palette99::pick(shade).stroke_width(2),
            )
        });
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .position(SeriesLabelPosition::UpperLeft)
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

/// A line: its name, and its points.
type Series = (String, Vec<(f64, f64)>);

/// Each way of each kind of row by the number of services, as ratios.
fn series(section: &Section) -> Vec<Series> {
    let mut lines: Vec<Series> = Vec::new();
    let mut rows: Vec<_> = section.rows.iter().filter(|row| row.at.is_some()).collect();
    rows.sort_by_key(|row| row.at);
    for row in rows {
        for way in row.rounds.keys() {
            let (Some(at), Some(value)) = (row.at, row.value(way)) else {
                continue;
            };
            let name = format!("{}: {way}", row.what);
            let point = (f64::from(at), value.median);
            match lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push(point),
                None => lines.push((name, vec![point])),
            }
        }
    }
    for (_, points) in &mut lines {
        let (_, first) = points[0];
        points.iter_mut().for_each(|(_, value)| *value /= first);
    }
    lines
}

fn highest(bars: &[(String, String, f64)]) -> f64 {
    let highest = bars.iter().map(|(.., ratio)| *ratio).fold(1.0, f64::max);
    (highest * 1.05).min(HIGHEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Row, tests::report};

    #[test]
    fn every_way_of_a_row_has_a_bar() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("throughput.svg");
        bars(&report().sections[0], &file).unwrap();
        let svg = std::fs::read_to_string(file).unwrap();
        for text in [
            "TCP IPv4, 1 stream: direct",
            "TCP IPv4, 1 stream: duolb (bpf)",
            "How fast",
        ] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
    }

    #[test]
    fn what_has_no_figures_has_no_chart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("refused.svg");
        bars(&Section::default(), &file).unwrap();
        lines(&Section::default(), &file).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn lines_begin_at_one_and_go_by_the_number_of_services() {
        let row = |at, value| Row {
            at: Some(at),
            ..Row::new("established", "ns", false).with("duolb", [value])
        };
        let section = Section {
            title: "More and more".to_owned(),
            rows: vec![row(1000, 30.0), row(1, 20.0)],
            ..Section::default()
        };
        let name = "established: duolb".to_owned();
        assert_eq!(series(&section), [(name, vec![(1.0, 1.0), (1000.0, 1.5)])]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scale.svg");
        lines(&section, &file).unwrap();
        let svg = std::fs::read_to_string(file).unwrap();
        assert!(svg.contains("established: duolb"), "{svg}");
    }
}
