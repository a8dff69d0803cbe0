//! Metrics in the text format of Prometheus.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up; its name gets the suffix `_total`.
    Counter,
}

/// One metric with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name, without the prefix `codeco_`.
    pub name: &'static str,
    /// What it says, with its unit.
    pub help: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Labels and value of each sample. One without labels is the only one.
    pub samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// Gives the metrics at the moment of asking.
pub type Samples = std::sync::Arc<dyn Fn() -> Vec<Metric> + Send + Sync>;

struct Source(Samples);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in (self.0)() {
            let kind = match metric.kind {
                MetricKind::Gauge => ConstGauge::new(0.0_f64).metric_type(),
                MetricKind::Counter => ConstCounter::new(0.0_f64).metric_type(),
            };
            let mut descriptor = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (labels, value) in &metric.samples {
                if labels.is_empty() {
                    encode(metric.kind, *value, descriptor)?;
                    break;
                }
                encode(metric.kind, *value, descriptor.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode(kind: MetricKind, value: f64, encoder: MetricEncoder<'_>) -> fmt::Result {
    match kind {
        MetricKind::Gauge => ConstGauge::new(value).encode(encoder),
        MetricKind::Counter => ConstCounter::new(value).encode(encoder),
    }
}

/// The metrics as text.
#[must_use]
pub fn render(samples: &Samples) -> String {
    let mut registry = Registry::with_prefix("codeco");
    registry.register_collector(Box::new(Source(samples.clone())));
    let mut text = String::new();
    // Writing to a string cannot fail; a failing encoder leaves what it has written.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_type_labels_and_suffix() {
        let samples: Samples = std::sync::Arc::new(|| {
            vec![
                Metric {
                    name: "links",
                    help: "Connections open",
                    kind: MetricKind::Gauge,
                    samples: vec![(vec![], 3.0)],
                },
                Metric {
                    name: "refusals",
                    help: "Connections refused",
                    kind: MetricKind::Counter,
                    samples: vec![(vec![("reason", "foreign-ca".into())], 2.0)],
                },
            ]
        });
        let text = render(&samples);
        assert!(text.contains("# TYPE codeco_links gauge"), "{text}");
        assert!(text.contains("codeco_links 3.0"), "{text}");
        assert!(text.contains("codeco_refusals_total{reason=\"foreign-ca\"} 2.0"), "{text}");
    }
}
