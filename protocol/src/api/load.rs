//! Manifests from the text of a file: YAML with any number of documents, or JSON.

use std::collections::BTreeSet;

use super::error::ManifestError;
use super::locate::line_of;
use super::manifest::CodecoApp;
use super::read::app::read_app;
use super::read::{Node, Path, Report};
use super::tree::{Chunk, TreeError, parse, split};

/// Most bytes of one file.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most documents of one file.
pub const FILE_DOCUMENTS_MAX: usize = 64;
/// Most errors told of one file.
pub const FILE_ERRORS_MAX: usize = 64;

/// Most bytes read again to tell the lines of errors; errors after that come without.
const SEARCH_BYTES_MAX: usize = 1024 * 1024;

/// Reads every application of a file. `file_name` appears in messages, and `.json` at its end says what is in it.
///
/// # Errors
/// Everything wrong that could be found, in the order of the file. Either all documents are right or none is
/// returned.
pub fn load_manifests(file_name: &str, text: &str) -> Result<Vec<CodecoApp>, Vec<ManifestError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let whole = |found: String, expected: String| ManifestError {
        file: file_name.to_owned(),
        document: 0,
        line: None,
        field: String::new(),
        found,
        expected,
        hint: None,
    };
    if text.len() > FILE_BYTES_MAX {
        let most = FILE_BYTES_MAX / 1024 / 1024;
        return Err(vec![whole(format!("{} bytes", text.len()), format!("at most {most} MiB"))]);
    }
    let json = is_json(file_name, text);
    let chunks = if json { vec![Chunk { text, lines_before: 0 }] } else { split(text) };
    if chunks.len() > FILE_DOCUMENTS_MAX {
        let found = format!("{} documents", chunks.len());
        return Err(vec![whole(found, format!("at most {FILE_DOCUMENTS_MAX}"))]);
    }
    let mut file = File {
        name: file_name,
        json,
        apps: Vec::new(),
        errors: Vec::new(),
        search_bytes: SEARCH_BYTES_MAX,
        seen: BTreeSet::new(),
    };
    for chunk in &chunks {
        if file.errors.len() >= FILE_ERRORS_MAX {
            break;
        }
        file.read(*chunk);
    }
    if file.documents() == 0 {
        file.errors.push(whole("no document".to_owned(), "at least one CodecoApp".to_owned()));
    }
    file.errors.truncate(FILE_ERRORS_MAX);
    if file.errors.is_empty() { Ok(file.apps.into_iter().flatten().collect()) } else { Err(file.errors) }
}

/// JSON is nearly YAML, but tabs may indent it and its own parser says more.
fn is_json(file_name: &str, text: &str) -> bool {
    let named = file_name.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case("json"));
    let looks = || text.trim_start().starts_with('{');
    named || (looks() && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

struct File<'a> {
    name: &'a str,
    json: bool,
    /// One per document with content; `None` where it was wrong.
    apps: Vec<Option<CodecoApp>>,
    errors: Vec<ManifestError>,
    /// Bytes that may still be read again to find lines.
    search_bytes: usize,
    /// Namespace and name of those before.
    seen: BTreeSet<(String, String)>,
}

impl File<'_> {
    fn documents(&self) -> usize {
        self.apps.len()
    }

    fn read(&mut self, chunk: Chunk<'_>) {
        let report = Report::default();
        let tree = match parse(chunk.text, self.json, &report) {
            Ok(tree) if tree.is_null() => return,
            Ok(tree) => tree,
            Err(error) => {
                self.apps.push(None);
                let error = self.syntax(chunk, error);
                self.errors.push(error);
                return;
            }
        };
        let app = read_app(&Node::root(&tree, &report));
        let identity = (app.metadata.namespace.clone(), app.metadata.name.clone());
        if !identity.1.is_empty() && !self.seen.insert(identity) {
            let found = format!("{:?} a second time", app.metadata.name);
            let path = Path::root().key("metadata").key("name");
            report.add(&path, found, "one document for each application", None);
        }
        let problems = report.into_problems();
        self.apps.push(problems.is_empty().then_some(app));
        let number = self.number();
        let mut errors: Vec<ManifestError> = problems
            .into_iter()
            .map(|problem| ManifestError {
                file: self.name.to_owned(),
                document: number,
                line: self.line(chunk, &problem.path),
                field: problem.path.to_string(),
                found: problem.found,
                expected: problem.expected,
                hint: problem.hint,
            })
            .collect();
        errors.sort_by_key(|error| error.line.unwrap_or(u64::MAX));
        self.errors.append(&mut errors);
    }

    fn line(&mut self, chunk: Chunk<'_>, path: &Path) -> Option<u64> {
        if self.json {
            return None;
        }
        // Each search reads the document again.
        self.search_bytes = self.search_bytes.checked_sub(chunk.text.len())?;
        line_of(chunk.text, path).map(|line| line + chunk.lines_before)
    }

    fn number(&self) -> u32 {
        u32::try_from(self.documents()).unwrap_or(u32::MAX)
    }

    fn syntax(&self, chunk: Chunk<'_>, error: TreeError) -> ManifestError {
        let language = if self.json { "JSON" } else { "YAML" };
        let (line, found, expected, hint) = match error {
            TreeError::Syntax { message, line } => {
                (line, format!("text that is not {language}: {message}"), language.to_owned(), None)
            }
            TreeError::Tab { line } => {
                let hint = "YAML does not allow tabs there".to_owned();
                (Some(line), "a tab in the indentation".to_owned(), "spaces".to_owned(), Some(hint))
            }
            TreeError::Limit { found, expected } => (None, found, expected, None),
        };
        ManifestError {
            file: self.name.to_owned(),
            document: self.number(),
            line: line.map(|line| line + chunk.lines_before),
            field: String::new(),
            found,
            expected,
            hint,
        }
    }
}
