//! The scenarios that come with the program.

use super::scenario::{Scenario, ScenarioError};

macro_rules! scenarios {
    ($($name:literal,)*) => {
        /// Name and text of each.
        const ALL: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml"))),)*];
    };
}

scenarios! {
    "calm",
    "chaos",
    "empty-hub",
    "failure-60",
    "failure-10",
    "heal-100",
    "heal-10000",
}

/// Names of the scenarios that come with the program, and what each is for.
pub fn builtin() -> impl Iterator<Item = (&'static str, String)> {
    ALL.iter().map(|(name, text)| (*name, Scenario::parse(name, text).map(|s| s.about).unwrap_or_default()))
}

/// One of them; `None` if none is called so.
#[must_use]
pub fn builtin_called(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    let (name, text) = ALL.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_that_come_with_the_program_can_be_read_and_say_what_they_are_for() {
        for (name, text) in ALL {
            let scenario = Scenario::parse(name, text).unwrap_or_else(|error| panic!("{error}"));
            assert!(!scenario.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn scenario_with_a_wrong_field_is_refused_with_its_line_and_name() {
        let error = Scenario::parse("x", "[fleet]\nclusters = 2\nnode = 3\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("`node`") && error.contains("`nodes`"), "{error}");
        let error = Scenario::parse("x", "[fleet]\nclusters = 0\n").unwrap_err().to_string();
        assert!(error.contains("at least one node"), "{error}");
        let error = Scenario::parse("x", "[ends]\nhappens = [\"move\"]\n").unwrap_err().to_string();
        assert!(error.contains("ends.happens: move") && error.contains("moves"), "{error}");
    }
}
