//! The bars in `bench/bars.toml`.

use std::str::FromStr;

use serde::Deserialize;

/// One bar.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bar {
    /// Subcommand.
    pub(crate) bench: String,
    /// What is measured.
    pub(crate) case: String,
    /// Which figure of it.
    pub(crate) metric: String,
    /// What it is compared with.
    pub(crate) reference: String,
    /// Largest ratio to the reference that passes.
    pub(crate) ratio_max: f64,
    /// Ratio aimed for; shown, not required.
    pub(crate) stretch: Option<f64>,
}

/// All bars.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bars {
    bar: Vec<Bar>,
}

impl FromStr for Bars {
    type Err = toml::de::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        toml::from_str(text)
    }
}

impl Bars {
    /// The bars this binary was built with.
    ///
    /// # Errors
    /// When the file does not parse; a test sees to it that it does.
    pub(crate) fn built_in() -> Result<Self, toml::de::Error> {
        include_str!("../bars.toml").parse()
    }

    /// The bar of one row.
    #[must_use]
    pub(crate) fn find(&self, bench: &str, case: &str, metric: &str, reference: &str) -> Option<&Bar> {
        let matches = |bar: &&Bar| {
            bar.bench == bench && bar.case == case && bar.metric == metric && bar.reference == reference
        };
        self.bar.iter().find(matches)
    }

    /// How many bars a subcommand has.
    #[must_use]
    pub(crate) fn count(&self, bench: &str) -> usize {
        self.bar.iter().filter(|bar| bar.bench == bench).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_bars_are_readable_and_none_is_there_twice() {
        let bars = Bars::built_in().unwrap();
        for bar in &bars.bar {
            assert_eq!(bars.find(&bar.bench, &bar.case, &bar.metric, &bar.reference), Some(bar));
        }
    }

    #[test]
    fn misspelt_field_is_refused() {
        assert!("[[bar]]\nbenhc = \"x\"".parse::<Bars>().is_err());
    }
}
