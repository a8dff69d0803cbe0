//! What every benchmark reports: rows of one schema, as a table or as JSON, and whether they pass their bars.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bars::Bars;
use crate::machine;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One array of rows.
    Json,
}

/// The other side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Reference {
    /// Who.
    pub(crate) name: String,
    /// Its median, in the row's unit.
    pub(crate) value: f64,
    /// Whether it was measured in the same run, or is a published figure.
    pub(crate) same_run: bool,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Commit measured; `-dirty` when the tree had changes.
    pub(crate) commit: String,
    /// Build profile.
    pub(crate) profile: &'static str,
    /// Kernel, processor, cores, and the setting of the run.
    pub(crate) machine: String,
    /// Seed of whatever was random.
    pub(crate) seed: u64,
    /// Subcommand.
    pub(crate) bench: &'static str,
    /// What was measured.
    pub(crate) case: String,
    /// Size of the work behind one sample.
    pub(crate) n: u64,
    /// Which figure of it.
    pub(crate) metric: &'static str,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// Median of the samples.
    pub(crate) median: f64,
    /// Worst of the samples.
    pub(crate) worst: f64,
    /// One value per round.
    pub(crate) samples: Vec<f64>,
    /// What it is compared with.
    pub(crate) reference: Option<Reference>,
    /// Median over the rounds of sample by reference of the same round; of the medians if the reference is
    /// published.
    pub(crate) ratio: Option<f64>,
    /// Largest ratio that passes.
    pub(crate) bar: Option<f64>,
    /// Ratio aimed for, beyond the bar.
    pub(crate) stretch: Option<f64>,
    /// Whether the bar holds; absent without a bar.
    pub(crate) pass: Option<bool>,
}

/// Rows of one benchmark, being collected.
#[derive(Debug)]
pub(crate) struct Report {
    bench: &'static str,
    seed: u64,
    n: u64,
    commit: String,
    machine: String,
    bars: Bars,
    rows: Vec<Row>,
}

/// Samples of one figure, one per round.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    /// What was measured.
    pub(crate) case: String,
    /// Which figure of it.
    pub(crate) metric: &'static str,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// One value per round.
    pub(crate) values: Vec<f64>,
}

impl Report {
    /// An empty report of the benchmark `bench` with `n` pieces of work per sample. `setting` is what else the
    /// figures depend on; it is shown with the machine.
    #[must_use]
    pub(crate) fn new(bench: &'static str, seed: u64, n: u64, setting: &str, bars: Bars) -> Self {
        let (commit, machine) = (machine::commit(), format!("{}, {setting}", machine::describe()));
        Self { bench, seed, n, commit, machine, bars, rows: Vec::new() }
    }

    /// Adds a figure without comparison.
    pub(crate) fn add(&mut self, samples: &Samples) {
        let row = self.row(samples);
        self.rows.push(row);
    }

    /// Adds a figure of ours compared with one of another side measured in the same rounds.
    pub(crate) fn compare(&mut self, ours: &Samples, theirs: &Samples) {
        let pairs = ours.values.iter().zip(&theirs.values);
        let ratio = median(&pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>());
        let mut row = self.row(ours);
        if let Some(bar) = self.bars.find(self.bench, &ours.case, ours.metric, &theirs.case) {
            row.bar = Some(bar.ratio_max);
            row.stretch = bar.stretch;
            row.pass = Some(ratio <= bar.ratio_max);
        }
        row.reference =
            Some(Reference { name: theirs.case.clone(), value: median(&theirs.values), same_run: true });
        row.ratio = Some(ratio);
        self.rows.push(row);
    }

    /// Adds a figure of ours compared with one that is not measured: published, or set by the configuration.
    pub(crate) fn against(&mut self, ours: &Samples, name: &str, value: f64) {
        let mut row = self.row(ours);
        let ratio = row.median / value;
        if let Some(bar) = self.bars.find(self.bench, &ours.case, ours.metric, name) {
            row.bar = Some(bar.ratio_max);
            row.stretch = bar.stretch;
            row.pass = Some(ratio <= bar.ratio_max);
        }
        row.reference = Some(Reference { name: name.to_owned(), value, same_run: false });
        row.ratio = Some(ratio);
        self.rows.push(row);
    }

    /// Whether every bar holds and none was left out.
    #[must_use]
    pub(crate) fn passes(&self) -> bool {
        let measured = self.rows.iter().filter(|row| row.bar.is_some()).count();
        measured == self.bars.count(self.bench) && self.rows.iter().all(|row| row.pass != Some(false))
    }

    /// The report as text.
    ///
    /// # Errors
    /// Never in practice: the rows are plain data.
    pub(crate) fn print(&self, output: Output) -> Result<String, serde_json::Error> {
        match output {
            Output::Json => serde_json::to_string_pretty(&self.rows),
            Output::Table => Ok(self.table()),
        }
    }

    fn row(&self, samples: &Samples) -> Row {
        Row {
            commit: self.commit.clone(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            machine: self.machine.clone(),
            seed: self.seed,
            bench: self.bench,
            case: samples.case.clone(),
            n: self.n,
            metric: samples.metric,
            unit: samples.unit,
            median: median(&samples.values),
            worst: samples.values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            samples: samples.values.clone(),
            reference: None,
            ratio: None,
            bar: None,
            stretch: None,
            pass: None,
        }
    }

    fn table(&self) -> String {
        let rounds = self.rows.first().map_or(0, |row| row.samples.len());
        let mut text = format!(
            "{}: {rounds} rounds of {}, commit {}, {}\n",
            self.bench, self.n, self.commit, self.machine
        );
        let head =
            ["CASE", "METRIC", "MEDIAN", "WORST", "UNIT", "AGAINST", "RATIO", "BAR", ""].map(str::to_owned);
        let lines: Vec<[String; 9]> = std::iter::once(head).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 9] = std::array::from_fn(width);
        for line in &lines {
            let mut row = String::new();
            for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
                let number = matches!(column, 2 | 3 | 6 | 7);
                // Writing to a String cannot fail.
                let _ =
                    if number { write!(row, "{cell:>width$}  ") } else { write!(row, "{cell:<width$}  ") };
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

fn cells(row: &Row) -> [String; 9] {
    let verdict = match (row.pass, row.stretch) {
        (Some(true), Some(stretch)) if row.ratio <= Some(stretch) => "pass, stretch too",
        (Some(true), _) => "pass",
        (Some(false), _) => "FAIL",
        (None, _) => "",
    };
    // Small figures keep two places behind the point.
    let figure = |value: f64| if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    [
        row.case.clone(),
        row.metric.to_owned(),
        figure(row.median),
        figure(row.worst),
        row.unit.to_owned(),
        row.reference.as_ref().map_or_else(String::new, |reference| reference.name.clone()),
        row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
        row.bar.map_or_else(String::new, |bar| format!("{bar:.2}")),
        verdict.to_owned(),
    ]
}

/// The middle value, or the mean of the two middle ones; 0 without values.
#[must_use]
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(case: &'static str, values: &[f64]) -> Samples {
        Samples { case: case.into(), metric: "p50", unit: "µs", values: values.to_vec() }
    }

    fn report(ratio_max: f64) -> Report {
        let bars = format!(
            "[[bar]]\nbench = \"b\"\ncase = \"ours\"\nmetric = \"p50\"\nreference = \"theirs\"\n\
             ratio_max = {ratio_max:?}"
        );
        Report::new("b", 1, 10, "quiet", bars.parse().unwrap())
    }

    #[test]
    fn median_of_odd_and_even_counts() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn ratio_compares_rounds_pair_by_pair() {
        let mut report = report(1.2);
        // The second round was slow for both sides; that must not show.
        report.compare(&samples("ours", &[11.0, 110.0, 11.0]), &samples("theirs", &[10.0, 100.0, 10.0]));
        let row = &report.rows[0];
        assert!((row.ratio.unwrap() - 1.1).abs() < 1e-9);
        assert_eq!((row.bar, row.pass), (Some(1.2), Some(true)));
        assert!(report.passes());
    }

    #[test]
    fn ratio_above_its_bar_or_a_bar_without_row_does_not_pass() {
        let mut report = report(1.05);
        assert!(!report.passes(), "the bar was left out");
        report.compare(&samples("ours", &[11.0]), &samples("theirs", &[10.0]));
        assert!(!report.passes());
        assert!(report.print(Output::Table).unwrap().contains("FAIL"));
    }

    #[test]
    fn figure_against_a_published_one_says_so_and_is_held_to_its_bar() {
        let mut report = report(1.0);
        report.against(&samples("ours", &[1.0, 5.0, 2.0]), "theirs", 4.0);
        let row = &report.rows[0];
        assert_eq!((row.ratio, row.pass), (Some(0.5), Some(true)));
        assert!(row.reference.as_ref().is_some_and(|reference| !reference.same_run));
        report.against(&samples("ours", &[5.0]), "theirs", 4.0);
        assert!(!report.passes());
    }

    #[test]
    fn json_has_every_field_of_the_schema() {
        let mut report = report(2.0);
        report.add(&samples("theirs", &[10.0]));
        report.compare(&samples("ours", &[11.0]), &samples("theirs", &[10.0]));
        let rows: serde_json::Value = serde_json::from_str(&report.print(Output::Json).unwrap()).unwrap();
        for field in [
            "commit",
            "profile",
            "machine",
            "seed",
            "bench",
            "case",
            "n",
            "metric",
            "unit",
            "median",
            "worst",
            "samples",
            "reference",
            "ratio",
            "bar",
            "pass",
        ] {
            assert!(rows[1].get(field).is_some(), "{field}");
        }
        assert_eq!(rows[1]["reference"]["same_run"], true);
        assert!(rows[0]["reference"].is_null());
    }
}
