//! `duolb conntrack list`: a row at a time, so that no table is too long.

use std::io::{self, BufWriter, Write as _};

use super::{
    row::{Row, header},
    walk::{Flows, Found},
};
use crate::{
    cli::arguments::{Format, OutputArguments},
    conntrack::filter::Filter,
};

/// Lists the flows that `filter` admits.
pub(super) fn run(flows: &Flows, filter: &Filter, output: OutputArguments) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut count = 0u64;
    if output.output == Format::Table {
        writeln!(out, "{}", header())?;
    }
    flows.walk(&mut |found: &mut dyn Found| {
        if !filter.admits(found.view()) {
            return Ok(());
        }
        let row = Row::new(found.view(), flows);
        match output.output {
            Format::Table => writeln!(out, "{}", row.line())?,
            Format::Json => {
                // One array, a row a line.
                let before = if count == 0 { "[\n" } else { ",\n" };
                write!(out, "{before}{}", serde_json::to_string(&row)?)?;
            }
            Format::Yaml => write!(out, "{}", with_end(serde_saphyr::to_string(&[&row])?))?,
        }
        count += 1;
        Ok(())
    })?;
    match output.output {
        Format::Table => {}
        Format::Json if count == 0 => writeln!(out, "[]")?,
        Format::Json => writeln!(out, "\n]")?,
        Format::Yaml if count == 0 => writeln!(out, "[]")?,
        Format::Yaml => {}
    }
    out.flush()?;
    Ok(())
}

/// A list of one, so that one behind the other they are one list.
fn with_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
