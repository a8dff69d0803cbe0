//! `forecast`: our load forecasts beside the best simple model, on real series.
//!
//! Series of five-minute steps from the Numenta Anomaly Benchmark (read from the folder in `CODECO_DATA`, never kept here),
//! as shares of the largest value of their first part. The first 60 % train, the next 20 % pick and calibrate, the last 20 %
//! judge. As on a hub, one model is trained on all series together; with the gate of a cluster before it, the
//! very one that leads use, which takes the simple model while it is shut. It is compared with the best of last value, mean, EWMA, seasonal and ridge autoregression, picked
//! per series on that same part. Errors are mean absolute errors of the P50 over twelve steps ahead.

mod ridge;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codeco_actors::pdlc::baseline::{BASELINES, baselines};
use codeco_actors::pdlc::forecaster::Forecaster;
use codeco_actors::pdlc::gate::{Record, Round, Verdict};
use codeco_actors::pdlc::history::SEASON;
use codeco_actors::pdlc::loss::{loss, quantile};
use codeco_actors::pdlc::outlook::Outlook;
use codeco_actors::pdlc::{HORIZON, WINDOW};
use codeco_hub::learner::{Example, Training, TrainingConfig};

use crate::bars::Bars;
use crate::report::{Report, Samples};
use ridge::Ridge;

type Error = Box<dyn std::error::Error>;

/// Shares of the series that train, and that train or pick.
const TRAIN: f64 = 0.6;
const PICK: f64 = 0.8;
#[allow(clippy::cast_possible_truncation)]
const SEASON_STEPS: usize = SEASON as usize;

/// Options of `forecast`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Folder of public data, with a folder `series` of CSV files `timestamp,value`.
    #[arg(long, env = "CODECO_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Steps of training.
    #[arg(long, default_value_t = 2_000)]
    steps: u32,
    /// Examples in a step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Rate at the start.
    #[arg(long, default_value_t = 0.005)]
    rate: f32,
    /// Weight decay.
    #[arg(long, default_value_t = 0.02)]
    decay: f32,
}

struct Series {
    name: String,
    train: Vec<Example>,
    pick: Vec<Example>,
    judge: Vec<Example>,
}

/// Runs it.
pub(crate) fn run(options: &Options, seed: u64, bars: Bars) -> Result<Report, Error> {
    let series = read_all(&options.data)?;
    let train: Vec<Example> = series.iter().flat_map(|one| one.train.iter().copied()).collect();
    let pick: Arc<[Example]> = series.iter().flat_map(|one| one.pick.iter().copied()).collect();
    let (steps, batch, rate, decay) = (options.steps, options.batch, options.rate, options.decay);
    let mut training = Training::new(TrainingConfig { seed, steps, batch, rate, decay }, &train, pick);
    while !training.run(100) {}
    let model = training.finish().ok_or("the training ended in no sound weights")?;

    let setting = format!("one model of {} windows, {steps} steps", train.len());
    let mut report = Report::new("forecast", seed, train.len() as u64, &setting, bars);
    let (mut gated, mut alone, mut off, mut covered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in &series {
        let told = judge(one, &model);
        report.compare(&told.ours, &told.simple);
        gated.push(told.ours.values[0] / told.simple.values[0]);
        alone.push(told.alone / told.simple.values[0]);
        off.push((told.coverage - 0.95).abs());
        covered.push(told.coverage);
        report.add(&Samples {
            case: format!("{}, without gate", one.name),
            metric: "MAE",
            unit: "‰",
            values: vec![told.alone],
        });
    }
    let all = |metric, unit, values: Vec<f64>| Samples { case: "all series".into(), metric, unit, values };
    let worst = |values: &[f64]| vec![values.iter().copied().fold(f64::NEG_INFINITY, f64::max)];
    let simple = "best simple model";
    report.against(&all("MAE with gate, median", "ratio", gated.clone()), simple, 1.0);
    report.against(&all("MAE with gate, worst", "ratio", worst(&gated)), simple, 1.0);
    report.against(&all("MAE without gate, median", "ratio", alone.clone()), simple, 1.0);
    report.against(&all("MAE without gate, worst", "ratio", worst(&alone)), simple, 1.0);
    report.add(&all("coverage of the P95", "share", covered));
    report.against(&all("coverage off 95 %, median", "share", off.clone()), "allowed: 2 %", 0.02);
    report.against(&all("coverage off 95 %, worst", "share", worst(&off)), "allowed: 2 %", 0.02);
    Ok(report)
}

struct Told {
    ours: Samples,
    simple: Samples,
    alone: f64,
    coverage: f64,
}

fn judge(series: &Series, model: &Forecaster) -> Told {
    let ridge = Ridge::picked(&series.train, &series.pick);
    let simple = |name: &'static str, past: &Outlook| match BASELINES.iter().position(|known| *known == name)
    {
        Some(at) => baselines(past)[at].map(|forecast| forecast.p50),
        None => Some(ridge.forecast(past)),
    };
    let ours = |past: &Outlook| model.forecast(past).map(|forecast| forecast.p50);
    let names = BASELINES.iter().copied().chain(["ridge"]);
    let picked = names
        .map(|name| (name, error(&series.pick, |past| simple(name, past))))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let name = picked.map_or("last", |(name, _)| name);
    let alone = error(&series.judge, ours);
    let theirs = error(&series.judge, |past| simple(name, past));
    let (open, gated) = through_gate(series, model, |past| simple(name, past));
    let (mut below, mut all) = (0.0, 0.0);
    for example in &series.judge {
        for (p95, actual) in
            model.forecast(&example.past).iter().flat_map(|f| f.p95.iter().zip(&example.actual))
        {
            below += f64::from(u8::from(actual <= p95));
            all += 1.0;
        }
    }
    let figure = |case: String, value| Samples { case, metric: "MAE", unit: "‰", values: vec![value] };
    Told {
        ours: figure(format!("{}, gate open {:.0} %", series.name, 100.0 * open), gated),
        simple: figure(name.to_owned(), theirs),
        alone,
        coverage: below / f64::max(all, 1.0),
    }
}

/// Goes through the series step by step as a lead does: forecasts come due after twelve steps, the gate judges them, and only
/// while it is open the model's forecast is taken. Returns how long it was open, and the error in thousandths.
fn through_gate(
    series: &Series,
    model: &Forecaster,
    simple: impl Fn(&Outlook) -> Option<[f32; HORIZON]>,
) -> (f64, f64) {
    let steps: Vec<&Example> = series.pick.iter().chain(&series.judge).collect();
    let (mut record, mut active, mut open, mut sum) = (Record::default(), false, 0.0, 0.0);
    for (at, example) in steps.iter().enumerate() {
        if let Some(due) = at.checked_sub(HORIZON + 1).map(|due| steps[due]) {
            record.push(round(model, due));
            match record.verdict(active) {
                Verdict::Wins(_) => active = true,
                Verdict::Loses(_) if active => {
                    active = false;
                    record.clear();
                }
                Verdict::Loses(_) | Verdict::Open(_) => {}
            }
        }
        if at < series.pick.len() {
            continue;
        }
        let ours = if active { model.forecast(&example.past).map(|forecast| forecast.p50) } else { None };
        open += f64::from(u8::from(active));
        let p50 = ours.or_else(|| simple(&example.past)).unwrap_or([f32::INFINITY; HORIZON]);
        let missed =
            p50.iter().zip(&example.actual).map(|(p50, actual)| f64::from((p50.max(0.0) - actual).abs()));
        #[allow(clippy::cast_precision_loss)]
        let steps = HORIZON as f64;
        sum += missed.sum::<f64>() / steps;
    }
    #[allow(clippy::cast_precision_loss)]
    let count = series.judge.len().max(1) as f64;
    (open / count, 1_000.0 * sum / count)
}

fn round(model: &Forecaster, due: &Example) -> Round {
    let ours = model.forecast(&due.past).map_or((f64::NAN, 0), |forecast| loss(&forecast, &due.actual));
    Round {
        model: ours.0,
        baselines: baselines(&due.past).map(|forecast| forecast.map(|f| loss(&f, &due.actual).0)),
        covered: ours.1,
        values: u32::try_from(HORIZON).unwrap_or(u32::MAX),
        forecasts: 1,
    }
}

/// Mean absolute error in thousandths; infinite where there is no forecast.
fn error(examples: &[Example], forecast: impl Fn(&Outlook) -> Option<[f32; HORIZON]>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for example in examples {
        let Some(p50) = forecast(&example.past) else { return f64::INFINITY };
        for (p50, actual) in p50.iter().zip(&example.actual) {
            sum += f64::from((p50.max(0.0) - actual).abs());
            count += 1.0;
        }
    }
    1_000.0 * sum / f64::max(count, 1.0)
}

fn read_all(data: &Path) -> Result<Vec<Series>, Error> {
    let folder = data.join("series");
    let missing = |e: std::io::Error| {
        format!(
            "{}: {e}; set CODECO_DATA to the folder of public data that has a folder `series`",
            folder.display()
        )
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(missing)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(
            format!("{}: found no CSV file, expected series `timestamp,value`", folder.display()).into()
        );
    }
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Series, Error> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut values = Vec::new();
    for (at, line) in text.lines().enumerate().skip(1) {
        let value = line.rsplit(',').next().and_then(|value| value.trim().parse::<f32>().ok());
        let wrong = || format!("{}:{}: found {line:?}, expected timestamp,value", path.display(), at + 1);
        values.push(value.filter(|value| value.is_finite()).ok_or_else(wrong)?);
    }
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let part = |share: f64| (values.len() as f64 * share) as usize;
    let (train_end, pick_end) = (part(TRAIN), part(PICK));
    let largest = values[..train_end].iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    values.iter_mut().for_each(|value| *value /= largest);
    // A window of one part must not tell what comes in another: targets lie wholly in their part.
    let examples = |from: usize, to: usize| -> Vec<Example> {
        (from.max(WINDOW)..to.saturating_sub(HORIZON)).map(|at| example(&values, at)).collect()
    };
    let (train, pick) = (examples(0, train_end), examples(train_end, pick_end));
    Ok(Series { name, train, pick, judge: examples(pick_end, values.len()) })
}

/// `at` is the first step to be forecast.
fn example(values: &[f32], at: usize) -> Example {
    let known = &values[at.saturating_sub(SEASON_STEPS)..at];
    #[allow(clippy::cast_precision_loss)]
    let mean = known.iter().sum::<f32>() / known.len() as f32;
    let array = |from: usize| std::array::from_fn(|step| values[from + step]);
    Example {
        past: Outlook {
            window: std::array::from_fn(|step| values[at - WINDOW + step]),
            season: at.checked_sub(SEASON_STEPS).map(array),
            mean,
            median: quantile(known, 0.5),
        },
        actual: array(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forecast_without_data_says_which_folder_and_variable() {
        let folder = tempfile::tempdir().unwrap();
        let Err(error) = read_all(folder.path()) else { panic!("there are no series") };
        let told = error.to_string();
        assert!(told.contains("series") && told.contains("CODECO_DATA"), "{told}");
    }

    #[test]
    fn targets_of_a_part_lie_wholly_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.csv");
        let lines: String = (0..1_000).map(|i| format!("2014-01-01 00:00:00,{i}\n")).collect();
        std::fs::write(&path, format!("timestamp,value\n{lines}")).unwrap();
        let series = read(&path).unwrap();
        let last = |part: &[Example]| part.last().unwrap().actual[HORIZON - 1] * 599.0;
        assert!((last(&series.train) - 598.0).abs() < 0.01, "{}", last(&series.train));
        assert!((last(&series.pick) - 798.0).abs() < 0.01);
        assert!((series.judge[0].past.window[WINDOW - 1] * 599.0 - 799.0).abs() < 0.01);
        std::fs::write(&path, "timestamp,value\n2014,much\n").unwrap();
        assert!(read(&path).err().unwrap().to_string().contains("s.csv:2"));
    }
}
