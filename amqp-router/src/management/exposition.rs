//! Figures as Prometheus reads them (its text format, version 0.0.4).

use std::fmt::{Display, Write};

/// A text of metric families, in the order in which they are written.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

/// What kind of figures a family has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Metric {
    Counter,
    Gauge,
    Histogram,
}

/// One family: samples are added to it.
pub(crate) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family; each name once.
    pub(crate) fn family(&mut self, metric: Metric, name: &'static str, help: &str) -> Family<'_> {
        let text = &mut self.0;
        let kind = match metric {
            Metric::Counter => "counter",
            Metric::Gauge => "gauge",
            Metric::Histogram => "histogram",
        };
        debug_assert!(
            !text.contains(&format!("# TYPE {name} ")),
            "{name} is there twice"
        );
        let _ = writeln!(text, "# HELP {name} {help}");
        let _ = writeln!(text, "# TYPE {name} {kind}");
        Family { text, name }
    }

    /// A family of one gauge.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(Metric::Gauge, name, help).sample(&[], value);
    }

    /// A family of one counter.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(Metric::Counter, name, help).sample(&[], value);
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.write("", labels, value);
    }

    /// The samples of a histogram: how many were at most each of `bounds`, and above.
    pub(crate) fn histogram(&mut self, bounds: &[&str], counts: &[u64], sum: f64) {
        let mut total = 0;
        for (bound, count) in bounds.iter().chain(&["+Inf"]).zip(counts) {
            total += count;
            self.write("_bucket", &[("le", bound)], total);
        }
        self.write("_sum", &[], sum);
        self.write("_count", &[], total);
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (number, (label, text)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_their_type_and_samples() {
        let mut exposition = Exposition::default();
        exposition.gauge("up", "Whether it is.", 1);
        let mut family = exposition.family(Metric::Counter, "seen_total", "What was seen.");
        family.sample(&[("name", "a\"b\\c\nd"), ("way", "in")], 7);
        family.sample(&[("name", ""), ("way", "out")], 8);
        assert_eq!(
            exposition.into_text(),
            "# HELP up Whether it is.\n# TYPE up gauge\nup 1\n\
             # HELP seen_total What was seen.\n# TYPE seen_total counter\n\
             seen_total{name=\"a\\\"b\\\\c\\nd\",way=\"in\"} 7\n\
             seen_total{name=\"\",way=\"out\"} 8\n"
        );
    }

    #[test]
    fn histograms_add_up() {
        let mut exposition = Exposition::default();
        let mut family = exposition.family(Metric::Histogram, "h", "H.");
        family.histogram(&["0.1", "1"], &[2, 0, 3], 4.5);
        let text = exposition.into_text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "h_bucket{le=\"0.1\"} 2",
                "h_bucket{le=\"1\"} 2",
                "h_bucket{le=\"+Inf\"} 5",
                "h_sum 4.5",
                "h_count 5"
            ]
        );
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn a_family_is_there_once() {
        let mut exposition = Exposition::default();
        exposition.gauge("up", "U.", 1);
        exposition.gauge("up", "U.", 1);
    }
}
