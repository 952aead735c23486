//! Medians and ratios of many runs, and the table of them.

use std::fmt::Write;

use serde::Serialize;

use super::{Comparison, Trial};
use crate::report::Report;

/// One case on one target.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The case's name.
    pub case: &'static str,
    /// The target's name.
    pub target: String,
    /// Runs that gave a result.
    pub runs: usize,
    /// Runs that did not.
    pub failures: usize,
    /// Messages per second.
    pub rate: Option<Spread>,
    /// The median rate over the baseline's: more is better.
    pub rate_ratio: Option<f64>,
    /// The router's CPU microseconds per message.
    pub cpu: Option<Spread>,
    /// The median CPU time over the baseline's: less is better.
    pub cpu_ratio: Option<f64>,
    /// Median round trip in microseconds.
    pub p50: Option<Spread>,
    /// The median of p50 over the baseline's: less is better.
    pub p50_ratio: Option<f64>,
    /// 99th percentile of the round trip in microseconds.
    pub p99: Option<Spread>,
    /// Share of the messages sent that were lost.
    pub lost: f64,
}

/// The median of several runs, and their range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Spread { median, min, max })
    }
}

/// Summarizes trials by case and target, both in the order of their first trial.
pub fn summarize(trials: &[Trial], baseline: &str) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = Vec::new();
    for Trial { case, target, .. } in trials {
        if !summaries
            .iter()
            .any(|summary| summary.case == *case && summary.target == *target)
        {
            summaries.push(summary(trials, case, target));
        }
    }
    let baselines: Vec<Summary> = summaries
        .iter()
        .filter(|summary| summary.target == baseline)
        .cloned()
        .collect();
    for summary in &mut summaries {
        if let Some(base) = baselines.iter().find(|base| base.case == summary.case) {
            summary.rate_ratio = ratio(summary.rate, base.rate);
            summary.cpu_ratio = ratio(summary.cpu, base.cpu);
            summary.p50_ratio = ratio(summary.p50, base.p50);
        }
    }
    summaries
}

fn summary(trials: &[Trial], case: &'static str, target: &str) -> Summary {
    let trials: Vec<&Trial> = trials
        .iter()
        .filter(|trial| trial.case == case && trial.target == target)
        .collect();
    let reports: Vec<&Report> = trials
        .iter()
        .filter_map(|trial| trial.report.as_ref())
        .collect();
    let spread =
        |value: fn(&Report) -> Option<f64>| Spread::of(reports.iter().filter_map(|r| value(r)));
    let total = |value: fn(&Report) -> u64| reports.iter().map(|r| value(r)).sum::<u64>();
    let sent = total(|report| report.messages.sent);
    Summary {
        case,
        target: target.to_owned(),
        runs: reports.len(),
        failures: trials.len() - reports.len(),
        rate: spread(|report| Some(report.messages_per_second)),
        rate_ratio: None,
        cpu: spread(|report| report.router?.cpu_us_per_message),
        cpu_ratio: None,
        p50: spread(|report| Some(report.latency?.p50)),
        p50_ratio: None,
        p99: spread(|report| Some(report.latency?.p99)),
        lost: total(|report| report.messages.lost) as f64 / sent.max(1) as f64,
    }
}

fn ratio(value: Option<Spread>, base: Option<Spread>) -> Option<f64> {
    let (value, base) = (value?.median, base?.median);
    (base > 0.0).then(|| value / base)
}

/// The table, with medians, ranges and ratios to the baseline.
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    let baseline = &comparison.baseline;
    out.push_str(
        "| case | router | messages/s (range) | rate × | CPU µs/message (range) | CPU × | ",
    );
    out.push_str("round trip p50 µs | p50 × | p99 µs | lost | failed |\n");
    out.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for summary in &comparison.summaries {
        let Summary {
            case,
            target,
            runs,
            failures,
            lost,
            ..
        } = summary;
        let columns = [
            case.to_string(),
            target.clone(),
            spread(summary.rate, 0),
            times(summary.rate_ratio),
            spread(summary.cpu, 3),
            times(summary.cpu_ratio),
            median(summary.p50),
            times(summary.p50_ratio),
            median(summary.p99),
            format!("{:.1} %", lost * 100.0),
            format!("{failures} of {}", runs + failures),
        ];
        writeln!(out, "| {} |", columns.join(" | ")).expect("strings take everything");
    }
    let processors = comparison.processors;
    write!(
        out,
        "\nMedians; × against {baseline}; {processors} processors.\n"
    )
    .expect("strings take everything");
    out
}

fn spread(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        Some(Spread { median, min, max }) => {
            format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
        }
        None => "–".to_owned(),
    }
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.1}", spread.median))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use clap::Parser;

    fn trial(target: &str, case: &'static str, rate: Option<f64>) -> Trial {
        let options = Options::parse_from(["router-bench"]);
        let report = rate.map(|rate| Report {
            messages_per_second: rate,
            ..Report::new(&options)
        });
        let error = rate.is_none().then(|| "stalled".to_owned());
        Trial {
            target: target.into(),
            case,
            round: 0,
            report,
            error,
        }
    }

    #[test]
    fn medians_are_compared_with_the_baseline() {
        let rates = [
            ("a", 10.0),
            ("b", 30.0),
            ("b", 90.0),
            ("a", 30.0),
            ("a", 20.0),
        ];
        let trials: Vec<Trial> = rates
            .map(|(target, rate)| trial(target, "case", Some(rate)))
            .into_iter()
            .collect();
        let summaries = summarize(&trials, "a");
        assert_eq!(
            summaries[0].rate,
            Some(Spread {
                median: 20.0,
                min: 10.0,
                max: 30.0
            })
        );
        assert_eq!(summaries[1].rate.unwrap().median, 60.0);
        assert_eq!(summaries[1].rate_ratio, Some(3.0));
    }

    #[test]
    fn failures_are_counted_and_shown() {
        let trials = [trial("a", "one", None), trial("a", "two", Some(5.0))];
        let comparison = Comparison {
            processors: 2,
            baseline: "a".into(),
            summaries: summarize(&trials, "a"),
            trials: trials.to_vec(),
        };
        assert!(!comparison.is_complete());
        let table = markdown(&comparison);
        assert!(
            table.contains("| one | a | – | – |") && table.contains("1 of 1"),
            "{table}"
        );
        assert!(table.contains("| two | a | 5 (5–5) | 1.00 |"), "{table}");
    }
}
