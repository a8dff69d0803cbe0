//! `codeco apply`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use codeco_protocol::api::{CodecoApp, codes, load_manifests};

use crate::client::MANIFEST_BYTES_MAX;
use crate::failure::{ExitClass, Failure};
use crate::session::Session;

/// Most files of one call.
const FILES_MAX: usize = 256;

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// File, folder with .yaml, .yml and .json files, or - for standard input. May be given several times.
    #[arg(short, long = "filename", required = true, value_name = "FILE|-|DIR")]
    files: Vec<PathBuf>,
}

impl ApplyArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        // All files are checked before the first is applied.
        let files = read_all(&self.files, session)?;
        let client = session.client()?;
        for file in files {
            for applied in client.apply(&file.name, &file.text)? {
                let (name, action, generation) = (&applied.name, &applied.action, applied.generation);
                let held = match applied.durable_on {
                    1 => "on 1 member".to_owned(),
                    count => format!("on {count} members"),
                };
                writeln!(session.stdout, "app/{name} {action} (generation {generation}, {held})")?;
                session.warn(&applied.warnings)?;
            }
        }
        Ok(())
    }
}

/// A file that was read and found right.
pub(super) struct ManifestFile {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) apps: Vec<CodecoApp>,
}

/// Reads and checks every file.
pub(super) fn read_all(paths: &[PathBuf], session: &mut Session<'_>) -> Result<Vec<ManifestFile>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            all.push(("-".to_owned(), read_text("-", session.stdin)?));
            continue;
        }
        for file in files_of(path)? {
            let name = file.display().to_string();
            let mut opened = std::fs::File::open(&file).map_err(|e| unreadable(&name, &e))?;
            all.push((name.clone(), read_text(&name, &mut opened)?));
        }
    }
    if all.len() > FILES_MAX {
        return Err(Failure::usage(format!("{} files, at most {FILES_MAX} are applied at once", all.len())));
    }
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for (name, text) in all {
        match load_manifests(&name, &text) {
            Ok(apps) => files.push(ManifestFile { name, text, apps }),
            Err(mut more) => errors.append(&mut more),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(Failure::manifests(errors)) }
}

/// The file itself, or the manifests of a folder in the order of their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let name = path.display().to_string();
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let is_manifest = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        path.is_file() && matches!(end, Some("yaml" | "yml" | "json"))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| unreadable(&name, &e))? {
        files.push(entry.map_err(|e| unreadable(&name, &e))?.path());
    }
    files.retain(is_manifest);
    files.sort();
    if files.is_empty() {
        let message = format!("{name} holds no .yaml, .yml or .json file");
        return Err(Failure::new(ExitClass::NotFound, codes::NOT_FOUND, message).about(name));
    }
    Ok(files)
}

fn read_text(name: &str, from: &mut (impl Read + ?Sized)) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|e| unreadable(name, &e))?;
    let invalid = |message: String| {
        Failure::new(ExitClass::InvalidManifest, codes::INVALID_MANIFEST, message).about(name)
    };
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(invalid(format!("{name} is larger than {MANIFEST_BYTES_MAX} bytes"))
            .next("put fewer applications into one file"));
    }
    String::from_utf8(bytes)
        .map_err(|e| invalid(format!("{name} is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    let class = match error.kind() {
        std::io::ErrorKind::NotFound => ExitClass::NotFound,
        _ => ExitClass::Error,
    };
    Failure::new(class, codes::UNREADABLE_FILE, format!("cannot read {name}: {error}")).about(name)
}
