//! The printed table: what, figure, baseline, ratio, target, met.

use std::fmt;

/// A limit that a figure is to keep.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the table.
#[derive(Debug, Default)]
pub struct Row {
    cells: [String; 6],
}

impl Row {
    /// What was measured, and what came of it.
    pub fn new(what: impl Into<String>, figure: impl Into<String>) -> Self {
        let none = || "-".to_owned();
        Self { cells: [what.into(), figure.into(), none(), none(), none(), none()] }
    }

    /// What it is compared with, and how.
    pub(super) fn against(mut self, baseline: impl Into<String>, ratio: f64) -> Self {
        self.cells[2] = baseline.into();
        self.cells[3] = format!("{ratio:.2}");
        self
    }

    /// What it is to be, and whether `value`, in `unit`, is that.
    pub(super) fn goal(mut self, goal: Goal, value: f64, unit: &str) -> Self {
        let (text, met) = match goal {
            Goal::AtLeast(limit) => (format!("≥ {limit}{unit}"), value >= limit),
            Goal::AtMost(limit) => (format!("≤ {limit}{unit}"), value <= limit),
        };
        self.cells[4] = text;
        self.cells[5] = String::from(if met { "yes" } else { "NO" });
        self
    }
}

/// All lines.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// One more line.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "figure", "baseline", "ratio", "target", "met?"].map(str::to_owned);
        let head = Row { cells: head };
        let all = || std::iter::once(&head).chain(&self.rows);
        let mut widths = [0; 6];
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (at, row) in all().enumerate() {
            let cells = row.cells.iter().zip(widths);
            let line: Vec<_> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
            if at == 0 {
                writeln!(f, "{}", widths.map(|width| "-".repeat(width)).join("  "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_targets_are_judged() {
        let mut table = Table::default();
        let fast = Row::new("fast", "1 ms").against("2 ms", 0.5);
        table.push(fast.goal(Goal::AtMost(1.5), 0.5, "×"));
        table.push(Row::new("slow thing", "9/s").goal(Goal::AtLeast(10.0), 9.0, "/s"));
        assert_eq!(
            table.to_string(),
            "what        figure  baseline  ratio  target  met?\n\
             ----------  ------  --------  -----  ------  ----\n\
             fast        1 ms    2 ms      0.50   ≤ 1.5×  yes\n\
             slow thing  9/s     -         -      ≥ 10/s  NO\n"
        );
    }
}
