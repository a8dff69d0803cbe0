//! The real load of this machine, from `/proc` (see proc(5)), or replayed from a file where nodes are only played.

use std::path::{Path, PathBuf};

/// Longest file of replayed loads.
const REPLAY_LEN_MAX: u64 = 1 << 20;

/// Jiffies since boot: all, and those in which the processor was busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Jiffies {
    all: u64,
    busy: u64,
}

/// Reads the load again and again.
#[derive(Debug)]
pub struct Sampler {
    before: Option<Jiffies>,
    replay: Option<PathBuf>,
}

impl Sampler {
    /// Of this machine, or of the file `replay`: one line for each step, each with the shares of processor and memory used,
    /// such as `0.25 0.5`; after the last line comes the first again.
    #[must_use]
    pub fn new(replay: Option<PathBuf>) -> Self {
        Self { before: None, replay }
    }

    /// Shares of processor (since the last call) and memory in use. `None` where that is not known: never zero.
    pub fn sample(&mut self, step: u64) -> Option<(f64, f64)> {
        match &self.replay {
            Some(path) => replayed(path, step),
            None => {
                let now = jiffies(&std::fs::read_to_string("/proc/stat").ok()?)?;
                let before = self.before.replace(now)?;
                let memory = memory(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
                Some((busy(before, now)?, memory))
            }
        }
    }
}

fn replayed(path: &Path, step: u64) -> Option<(f64, f64)> {
    if std::fs::metadata(path).ok()?.len() > REPLAY_LEN_MAX {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let at = usize::try_from(step.checked_rem(lines.len() as u64)?).ok()?;
    let mut shares = lines.get(at)?.split_whitespace().map(str::parse::<f64>);
    Some((shares.next()?.ok()?, shares.next()?.ok()?))
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. Guest time is part of user time.
fn jiffies(stat: &str) -> Option<Jiffies> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let (idle, iowait) = (*fields.get(3)?, fields.get(4).copied().unwrap_or(0));
    let all = fields.iter().sum();
    Some(Jiffies { all, busy: all - idle - iowait })
}

#[allow(clippy::cast_precision_loss)]
fn busy(before: Jiffies, now: Jiffies) -> Option<f64> {
    let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
    // The counters of some kernels go back a little.
    Some(now.busy.saturating_sub(before.busy) as f64 / all as f64)
}

#[allow(clippy::cast_precision_loss)]
fn memory(meminfo: &str) -> Option<f64> {
    let read = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let total = read("MemTotal:").filter(|total| *total > 0)?;
    Some(total.saturating_sub(read("MemAvailable:")?) as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_read_from_what_the_kernel_writes_and_is_unknown_where_it_is_not_there() {
        let before = jiffies("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        let now = jiffies("cpu  150 0 75 850 75 0 0 0 0 0\n").unwrap();
        assert_eq!(before, Jiffies { all: 1_000, busy: 150 });
        assert_eq!(busy(before, now), Some(0.5));
        assert_eq!(busy(now, now), None, "no time has passed");
        assert_eq!(memory("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n"), Some(0.75));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None);
        assert_eq!(jiffies("intr 5\n"), None);
    }

    #[test]
    fn sampler_of_this_machine_gives_shares_from_its_second_look_on() {
        let mut sampler = Sampler::new(None);
        assert_eq!(sampler.sample(0), None);
        let found = (0..1_000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            sampler.sample(0)
        });
        let (cpu, memory) = found.unwrap();
        assert!((0.0..=1.0).contains(&cpu) && (0.0..1.0).contains(&memory) && memory > 0.0);
    }

    #[test]
    fn replay_repeats_its_lines_and_what_is_no_number_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n1");
        std::fs::write(&path, "0.1 0.5\n\n0.2 0.5\nmuch 0.5\n").unwrap();
        let mut sampler = Sampler::new(Some(path.clone()));
        let seen: Vec<_> = (3..7).map(|step| sampler.sample(step)).collect();
        assert_eq!(seen, [Some((0.1, 0.5)), Some((0.2, 0.5)), None, Some((0.1, 0.5))]);
        std::fs::write(&path, "").unwrap();
        assert_eq!(sampler.sample(3), None);
    }
}
