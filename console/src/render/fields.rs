//! Blocks of `Name:   value`, as `describe` prints them.

use super::clean;

/// Named values, aligned.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// With one more value; nothing is shown as `-`.
    #[allow(clippy::needless_pass_by_value, reason = "numbers and formatted texts are passed as they are")]
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        let value = clean(&value.to_string());
        self.0.push((name, if value.is_empty() { "-".to_owned() } else { value }));
        self
    }

    /// With a value that there need not be.
    pub(crate) fn maybe<T: ToString>(self, name: &'static str, value: Option<&T>) -> Self {
        self.with(name, value.map(ToString::to_string).unwrap_or_default())
    }

    /// The lines.
    pub(crate) fn render(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        self.0.iter().map(|(name, value)| format!("{:<width$}   {value}\n", format!("{name}:"))).collect()
    }
}
