//! `codeco-fuzz seeds FOLDER` writes the seeds of all targets; `codeco-fuzz run TARGET FILE…` runs inputs again.

use std::path::Path;
use std::process::ExitCode;

use codeco_fuzz::{TARGETS, target};

const USAGE: &str = "usage: codeco-fuzz seeds FOLDER | codeco-fuzz run TARGET FILE… | codeco-fuzz list";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["seeds", folder] => seeds(Path::new(folder)),
        ["run", name, ref files @ ..] => run(name, files),
        ["list"] => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Each seed in a file of its own, in a folder for each target.
fn seeds(folder: &Path) -> Result<(), String> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let file = folder.join(format!("seed-{number:02}"));
            std::fs::write(&file, seed).map_err(|e| format!("{}: {e}", file.display()))?;
        }
    }
    Ok(())
}

fn run(name: &str, files: &[&str]) -> Result<(), String> {
    let target =
        target(name).ok_or_else(|| format!("there is no target {name:?}: see `codeco-fuzz list`"))?;
    for file in files {
        let input = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
        println!("{file}: {} bytes", input.len());
        (target.run)(&input);
    }
    Ok(())
}
