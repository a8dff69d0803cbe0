//! Reading what the kernel says.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use codeco_protocol::gossip::{HOST_ITEMS_MAX, HostFact};
use codeco_protocol::units::Bytes;

use super::host::{Readings, facts, free_percent};

/// Between two looks.
pub const LOOK_SECONDS: u32 = 30;
/// Most bytes read of one file.
const FILE_MAX: usize = 64 << 10;

/// Looks at the host.
#[derive(Debug, Default)]
pub struct Looker {
    /// Whose file system is measured.
    pub state: PathBuf,
    /// Name of the runtime.
    pub runtime: String,
    /// Data sources that people have declared.
    pub data_sources: Vec<(String, String)>,
    /// Share of the disk that was last told to be free, in hundredths.
    pub told_free: Mutex<Option<u64>>,
}

impl Looker {
    /// Looks once. Blocks for a moment.
    #[must_use]
    pub fn look(&self) -> HostFact {
        let mut readings = read(&self.state);
        let mut told = self.told_free.lock().unwrap_or_else(PoisonError::into_inner);
        readings.disk_free_percent = free_percent(readings.disk, *told);
        *told = readings.disk_free_percent;
        drop(told);
        let mut found = facts(&readings);
        found.push(("runtime".to_owned(), self.runtime.clone()));
        found.truncate(HOST_ITEMS_MAX);
        let data_sources = self.data_sources.iter().take(HOST_ITEMS_MAX).cloned().collect();
        // The runtimes there are start programs of the host: they keep no images.
        HostFact { found, data_sources, images: None, every_seconds: LOOK_SECONDS }
    }
}

fn read(state: &Path) -> Readings {
    let uname = rustix::system::uname();
    let info = rustix::system::sysinfo();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let disk = rustix::fs::statvfs(state).ok().map(|stat| {
        let size = |blocks: u64| Bytes(blocks.saturating_mul(stat.f_frsize));
        (size(stat.f_blocks), size(stat.f_bavail))
    });
    let machine: Vec<String> = ["sys_vendor", "product_name"]
        .iter()
        .filter_map(|name| file(&format!("/sys/class/dmi/id/{name}")))
        .map(|text| text.trim().to_owned())
        .collect();
    let container = if Path::new("/.dockerenv").exists() {
        Some("docker")
    } else {
        Path::new("/run/.containerenv").exists().then_some("podman")
    };
    Readings {
        os_release: file("/etc/os-release"),
        cpuinfo: file("/proc/cpuinfo"),
        boot_id: file("/proc/sys/kernel/random/boot_id"),
        machine: (!machine.is_empty()).then(|| machine.join(" ")),
        container,
        kernel: (text(uname.release()), text(uname.machine())),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        memory: Bytes(info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)))),
        disk,
        disk_free_percent: None,
    }
}

/// The beginning of a file.
fn file(path: &str) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_MAX as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
