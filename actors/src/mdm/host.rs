//! What a host is, from what its kernel says: texts in, facts out.

use codeco_protocol::units::Bytes;

/// Longest value told.
const VALUE_MAX: usize = 200;

/// What was read. A text that could not be read is absent, and so is what would follow from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readings {
    /// `/etc/os-release` (os-release(5)).
    pub os_release: Option<String>,
    /// `/proc/cpuinfo`.
    pub cpuinfo: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<String>,
    /// `/sys/class/dmi/id/sys_vendor` and `product_name`.
    pub machine: Option<String>,
    /// Name of the container engine this process runs in, if it does.
    pub container: Option<&'static str>,
    /// Release of the kernel, and the machine it is for (uname(2)).
    pub kernel: (String, String),
    /// Processors.
    pub cores: usize,
    /// All memory.
    pub memory: Bytes,
    /// Size of the file system with the state folder, and what is free of it.
    pub disk: Option<(Bytes, Bytes)>,
    /// Share of it that is free, as it is to be told, in hundredths.
    pub disk_free_percent: Option<u64>,
}

/// Facts by name, in a stable order. What is not known is not there: unknown is not empty.
#[must_use]
pub fn facts(readings: &Readings) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        let value = value.map(|value| tidy(&value)).filter(|value| !value.is_empty());
        facts.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("architecture", Some(readings.kernel.1.clone()));
    add("boot-id", readings.boot_id.clone());
    add("cores", Some(readings.cores.to_string()));
    add("cpu", readings.cpuinfo.as_deref().and_then(cpu_model));
    add("disk", readings.disk.map(|(all, _)| all.to_string()));
    add("disk-free", readings.disk_free_percent.map(|percent| format!("{percent}%")));
    add("kernel", Some(readings.kernel.0.clone()));
    add("machine", readings.machine.clone());
    add("memory", Some(readings.memory.to_string()));
    add("os", readings.os_release.as_deref().and_then(os_name));
    add("virtualisation", readings.cpuinfo.as_deref().map(|cpu| virtualisation(cpu, readings)));
    facts
}

/// One line of printable text of bounded length.
fn tidy(value: &str) -> String {
    let one_line = value.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().filter(|c| !c.is_control()).take(VALUE_MAX).collect()
}

fn os_name(os_release: &str) -> Option<String> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("ID"))
}

fn cpu_field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// x86 says `model name`, many ARM boards `Model`.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    cpu_field(cpuinfo, "model name").or_else(|| cpu_field(cpuinfo, "Model")).map(ToOwned::to_owned)
}

/// A hypervisor shows itself to x86 guests by a processor flag.
fn virtualisation(cpuinfo: &str, readings: &Readings) -> String {
    let guest = cpu_field(cpuinfo, "flags").is_some_and(|f| f.split(' ').any(|flag| flag == "hypervisor"));
    let machine = if guest { "vm" } else { "none seen" };
    match readings.container {
        Some(engine) if guest => format!("{engine} in a {machine}"),
        Some(engine) => engine.to_owned(),
        None => machine.to_owned(),
    }
}

/// The share of a disk that is free, in hundredths: what was told last, unless that is off by five or more. So it is news
/// only now and then, also at the border between two steps.
#[must_use]
pub(crate) fn free_percent(disk: Option<(Bytes, Bytes)>, told: Option<u64>) -> Option<u64> {
    let (all, free) = disk?;
    let now = free.0.saturating_mul(100).checked_div(all.0)?.min(100);
    Some(told.filter(|told| told.abs_diff(now) < 5).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings() -> Readings {
        Readings {
            os_release: Some("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n".into()),
            cpuinfo: Some(
                "processor\t: 0\nmodel name\t: Some  CPU @ 2\nflags\t\t: fpu hypervisor sse\n".into(),
            ),
            boot_id: Some("6f0e\n".into()),
            machine: None,
            container: None,
            kernel: ("6.12.1".into(), "x86_64".into()),
            cores: 4,
            memory: Bytes(8 << 30),
            disk: Some((Bytes(1_000), Bytes(499))),
            disk_free_percent: Some(49),
        }
    }

    fn of<'a>(facts: &'a [(String, String)], name: &str) -> Option<&'a str> {
        facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn host_is_told_by_what_its_kernel_says() {
        let facts = facts(&readings());
        for (name, value) in [
            ("os", "Debian GNU/Linux 13 (trixie)"),
            ("cpu", "Some CPU @ 2"),
            ("boot-id", "6f0e"),
            ("virtualisation", "vm"),
            ("memory", "8Gi"),
            ("disk-free", "49%"),
            ("architecture", "x86_64"),
        ] {
            assert_eq!(of(&facts, name), Some(value), "{name}");
        }
        assert_eq!(of(&facts, "machine"), None, "what is not known is not there");
    }

    #[test]
    fn host_that_says_little_or_nonsense_gives_few_facts_of_bounded_size() {
        let nothing = facts(&Readings { kernel: ("k".into(), "m".into()), ..Readings::default() });
        assert!(of(&nothing, "os").is_none() && of(&nothing, "virtualisation").is_none(), "{nothing:?}");
        let nonsense = Readings {
            os_release: Some(format!("PRETTY_NAME={}\u{1b}[31m", "x".repeat(100_000))),
            disk_free_percent: free_percent(Some((Bytes(0), Bytes(1))), None),
            ..readings()
        };
        let facts = facts(&nonsense);
        assert_eq!(of(&facts, "os").map(str::len), Some(VALUE_MAX));
        assert_eq!(of(&facts, "disk-free"), None);
    }

    #[test]
    fn free_share_of_a_disk_is_told_anew_only_when_it_has_changed_by_enough() {
        let told = |free, told| free_percent(Some((Bytes(1_000), Bytes(free))), told);
        assert_eq!(told(495, None), Some(49));
        assert_eq!((told(500, Some(49)), told(455, Some(49))), (Some(49), Some(49)));
        assert_eq!(told(440, Some(49)), Some(44));
        assert_eq!(free_percent(None, Some(49)), None, "unknown is not what it was");
    }

    #[test]
    fn container_in_a_virtual_machine_is_told_as_both() {
        let both = Readings { container: Some("docker"), ..readings() };
        assert_eq!(of(&facts(&both), "virtualisation"), Some("docker in a vm"));
    }
}
