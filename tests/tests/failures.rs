//! Every line of `docs/failures.md` names tests, and each of them exists.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line of a table.
const COLUMNS: usize = 4;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Text and target of each link.
fn links(text: &str) -> Vec<(&str, &str)> {
    let pieces: Vec<&str> = text.split("](").collect();
    pieces
        .windows(2)
        .filter_map(|pair| {
            let (_, name) = pair[0].rsplit_once('[')?;
            let (target, _) = pair[1].split_once(')')?;
            Some((name, target))
        })
        .collect()
}

/// Whether a file has a test of that name: the attribute stands right before it.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    lines.windows(2).any(|pair| is_it(pair[1]) && pair[0].starts_with("#[") && pair[0].contains("test"))
        // Tests that a macro makes: name and target.
        || lines.iter().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": \"")))
}

/// What is wrong with a page.
fn found(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let rows = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    for row in rows.filter(|row| !row.starts_with("| What fails |")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() != COLUMNS {
            found.push(format!("{row:?} has {} columns", cells.len()));
            continue;
        }
        let tests: Vec<_> =
            links(cells[3]).into_iter().filter(|(_, target)| target.ends_with(".rs")).collect();
        if tests.is_empty() {
            found.push(format!("{:?} names no test", cells[0]));
        }
        if !["✅", "🟨", "❌", "as above"].iter().any(|mark| cells[1].contains(mark)) {
            found.push(format!("{:?} does not say what goes on", cells[0]));
        }
        for (name, target) in tests {
            match fs::read_to_string(docs().join(target)) {
                Ok(source) if has_test(&source, name) => {}
                Ok(_) => found.push(format!("{:?}: {target} has no test {name}", cells[0])),
                Err(error) => found.push(format!("{:?}: {target}: {error}", cells[0])),
            }
        }
    }
    for (_, target) in links(page).into_iter().filter(|(_, target)| !target.ends_with(".rs")) {
        if !docs().join(target).exists() {
            found.push(format!("{target} does not exist"));
        }
    }
    found
}

#[test]
fn failures_each_name_tests_that_exist() {
    let page = fs::read_to_string(docs().join("failures.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ")).count();
    assert!(rows > 30, "{rows} lines");
    assert_eq!(found(&page), Vec::<String>::new());
}

#[test]
fn failures_without_a_test_or_with_one_that_is_gone_are_found() {
    let good = "| x | ✅ y | – | [failures_each_name_tests_that_exist](../tests/tests/failures.rs) |";
    assert_eq!(found(good), Vec::<String>::new());
    for (wrong, why) in [
        ("| x | ✅ y | – | – |", "names no test"),
        ("| x | y | – | [failures_each_name_tests_that_exist](../tests/tests/failures.rs) |", "what goes on"),
        ("| x | ✅ y | – | [failures_each](../tests/tests/failures.rs) |", "has no test failures_each"),
        ("| x | ✅ y | – | [has_test](../tests/tests/failures.rs) |", "has no test has_test"),
        ("| x | ✅ y | – | [a](../tests/tests/gone.rs) |", "No such file"),
        ("| x | ✅ y | – |", "columns"),
        ("[a](gone.md)", "does not exist"),
    ] {
        let told = found(wrong).join("; ");
        assert!(told.contains(why), "{wrong}: {told}");
    }
}
