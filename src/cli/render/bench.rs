//! The figures of a measurement as a table.

use anstyle::Style;
use comfy_table::{Cell, CellAlignment};
use longhaul::{
    bench::{Goal, Report, Row, Unit},
    domain::wording::count,
};

use super::table;
use crate::cli::text::{GOOD, ODD};

/// A line for each figure, and how they were taken.
pub fn lines(report: &Report) -> Vec<String> {
    let mut figures = table::with_header(&[
        "SCENARIO", "MEASURED", "FIGURE", "FLOOR", "RATIO", "FIRST", "AIM", "REACHED",
    ]);
    for column in 2..7 {
        if let Some(column) = figures.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in &report.rows {
        figures.add_row(cells(row));
    }
    let mut lines = table::lines(&figures);
    lines.push(String::new());
    lines.push(format!(
        "longhaul {}; {} for server and load together; payloads of {}; medians of {}, each judged by the floors before and after it",
        report.version,
        count(report.processors, "processor"),
        count(report.payload_bytes, "byte"),
        count(report.rounds, "round")
    ));
    lines
}

fn cells(row: &Row) -> Vec<Cell> {
    let Row {
        scenario,
        what,
        unit,
        value,
        rounds: _,
        comparison,
        first,
        aim,
    } = row;
    let what = match comparison {
        None => what.clone(),
        Some(comparison) => format!("{what} ÷ {}", comparison.with),
    };
    let goal = |goal: &Option<Goal>| {
        goal.map_or_else(String::new, |goal| {
            let (sign, figure) = match goal {
                Goal::AtLeast(figure) => ('≥', figure),
                Goal::AtMost(figure) => ('≤', figure),
            };
            match comparison {
                None => format!("{sign} {}", amount(*unit, figure)),
                Some(_) => format!("{sign} {figure}"),
            }
        })
    };
    vec![
        Cell::new(scenario),
        Cell::new(what),
        Cell::new(amount(*unit, *value)),
        Cell::new(
            comparison
                .as_ref()
                .map_or_else(String::new, |c| amount(*unit, c.floor)),
        ),
        Cell::new(
            comparison
                .as_ref()
                .map_or_else(String::new, |c| format!("{:.2}", c.ratio)),
        ),
        Cell::new(goal(first)),
        Cell::new(goal(aim)),
        table::coloured(verdict(row)),
    ]
}

/// Which goal is reached.
fn verdict(row: &Row) -> (&'static str, Style) {
    let is_reached = |goal: Option<Goal>| goal.is_some_and(|g| g.is_reached(row.judged()));
    match (row.first, row.aim) {
        (None, None) => ("", Style::new()),
        (_, aim) if is_reached(aim) => ("aim", GOOD),
        (first, _) if is_reached(first) => ("first", GOOD),
        _ => ("no", ODD),
    }
}

/// A figure with three digits and its unit.
fn amount(unit: Unit, value: f64) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let (scale, name) = steps
            .iter()
            .copied()
            .find(|(scale, _)| value.abs() >= *scale)
            .or(steps.last().copied())
            .unwrap_or((1.0, ""));
        format!("{}{name}", three_digits(value / scale))
    };
    match unit {
        Unit::PerSecond => scaled(&[(1e6, " M/s"), (1e3, " k/s"), (1.0, " /s")]),
        Unit::Seconds => scaled(&[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")]),
        Unit::Bytes => scaled(&[(1e9, " GB"), (1e6, " MB"), (1e3, " KB"), (1.0, " B")]),
        Unit::Number => scaled(&[(1.0, "")]),
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        for (unit, value, expected) in [
            (Unit::PerSecond, 31_400.0, "31.4 k/s"),
            (Unit::PerSecond, 250_000.0, "250 k/s"),
            (Unit::Seconds, 0.000_421, "421 µs"),
            (Unit::Seconds, 0.0015, "1.50 ms"),
            (Unit::Bytes, 3_300.0, "3.30 KB"),
            (Unit::Number, 0.25, "0.25"),
        ] {
            assert_eq!(amount(unit, value), expected);
        }
    }
}
