//! Three sites that only reach the hub: two members of one cluster, and a second cluster. Each site is a network namespace
//! of its own; the hub's has a leg in each and forwards no IP packet. Through the hub's relay they see each other anyway,
//! elect and follow a lead, and decide; the hub has no part in their connections.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use codeco_hub::process::{ADMIN_FILE, AdminAccess};
use codeco_protocol::api::{DoctorView, LinkStatus, LinkView, List, NodeView, Verdict};
use codeco_tests::until;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");

/// Name of the node, its cluster.
const SITES: [(&str, &str); 3] = [("a", "west"), ("b", "west"), ("c", "east")];

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.map_err(|e| format!("the command ip: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Namespaces `P-hub` and `P-0` …; site n has 10.77.n.2, the hub 10.77.n.1. They go with this.
struct Sites {
    prefix: String,
}

impl Sites {
    fn build() -> Result<Self, String> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let sites = Self { prefix: format!("cdc{}x{number}", std::process::id()) };
        let hub = sites.space("hub");
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link set lo up"))?;
        for at in 0..SITES.len() {
            let site = sites.space(&at.to_string());
            ip(&format!("netns add {site}"))?;
            ip(&format!("-n {hub} link add s{at} type veth peer name uplink netns {site}"))?;
            ip(&format!("-n {hub} addr add 10.77.{at}.1/24 dev s{at}"))?;
            ip(&format!("-n {hub} link set s{at} up"))?;
            ip(&format!("-n {site} link set lo up"))?;
            ip(&format!("-n {site} addr add 10.77.{at}.2/24 dev uplink"))?;
            ip(&format!("-n {site} link set uplink up"))?;
        }
        for at in 0..SITES.len() {
            // Packets to other sites leave and are lost, as in a firewall, instead of being refused at home.
            ip(&format!("-n {} route add default via 10.77.{at}.1", sites.space(&at.to_string())))?;
        }
        sites.forward(false).map(|()| sites)
    }

    /// Whether the hub's namespace forwards packets, so that sites reach each other.
    fn forward(&self, forwards: bool) -> Result<(), String> {
        let script = format!("echo {} >/proc/sys/net/ipv4/ip_forward", u8::from(forwards));
        match self.command("hub", "sh").args(["-c", &script]).output().map(|output| output.status.success()) {
            Ok(true) => Ok(()),
            _ => Err("forwarding cannot be switched in a network namespace".into()),
        }
    }

    fn space(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn command(&self, space: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(space), program]).stdin(Stdio::null());
        command
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        for name in ["hub", "0", "1", "2"] {
            let _ = ip(&format!("netns del {}", self.space(name)));
        }
    }
}

/// The processes in their namespaces.
struct Fleet {
    processes: Vec<Child>,
    sites: Sites,
    folder: TempDir,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Fleet {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn begin(&mut self, space: &str, name: &str, arguments: &[&str], token: Option<&str>) {
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        let state = self.path(name);
        let mut command = self.sites.command(space, CODECO);
        command.args(arguments).args(["--name", name, "--state"]).arg(&state);
        command.env("CODECO_JOIN", token.unwrap_or_default()).stdout(log.try_clone().unwrap()).stderr(log);
        if token.is_none() {
            command.env_remove("CODECO_JOIN");
        }
        self.processes.push(command.spawn().unwrap());
    }

    /// The command, run in a namespace, for a member's API there.
    fn ask(&self, space: &str, server: &str, arguments: &[&str]) -> Output {
        let access: AdminAccess =
            serde_json::from_slice(&std::fs::read(self.path("hub").join(ADMIN_FILE)).unwrap()).unwrap();
        // Agents answer as members of the fleet, beside a hub that is not there.
        let hub = if space == "hub" { server } else { "https://127.0.0.1:9" };
        let context = serde_json::json!({
            "current": "test",
            "contexts": [{"name": "test", "server": hub, "ca": access.ca, "token": access.token,
                          "members": [server]}],
        });
        let path = self.path(&format!("context-{space}.yaml"));
        codeco_protocol::identity::write_private(&path, context.to_string().as_bytes()).unwrap();
        let mut command = self.sites.command(space, CODECO);
        command.args(arguments).env("CODECO_CONFIG", &path).env_remove("CODECO_CONTEXT").output().unwrap()
    }

    fn codeco(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.ask("hub", "https://127.0.0.1:7443", arguments);
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn get<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, String> {
        let text = self.codeco(&["get", kind, "-o", "json"])?;
        serde_json::from_str::<List<T>>(&text).map(|list| list.items).map_err(|e| e.to_string())
    }

    /// A sample of a member's metrics.
    fn metric(&self, space: &str, http: u16, sample: &str) -> Result<f64, String> {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{http} && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        );
        let output = self.sites.command(space, "bash").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).ok_or_else(|| format!("no {sample} in {text}"))
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["hub", "a", "b", "c"] {
            let log = std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("-- {name}\n{}\n", lines[lines.len().saturating_sub(25)..].join("\n"));
        }
        text
    }

    fn until<T>(&self, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        until(what, look).unwrap_or_else(|trouble| panic!("{trouble:?}\n{}", self.logs()))
    }
}

fn start(sites: Sites) -> Fleet {
    let folder = TempDir::with_prefix("codeco-relay-").unwrap();
    let mut fleet = Fleet { processes: Vec::new(), sites, folder };
    fleet.begin("hub", "hub", &["hub", "--listen", "0.0.0.0:7300"], None);
    fleet.until("the hub answers", || fleet.codeco_if_ready());
    for (at, (name, cluster)) in SITES.iter().enumerate() {
        let mut arguments = vec!["token", "create", "--cluster", cluster];
        if *name != "b" {
            arguments.push("--founds");
        }
        let token = fleet.until("a join token", || fleet.codeco(&arguments));
        let (hub, listen) = (format!("10.77.{at}.1:7300"), format!("10.77.{at}.2:7400"));
        let mut arguments =
            vec!["agent", "--hub", &hub, "--listen", &listen, "--runtime", "simulated", "--cpu", "4"];
        arguments.extend(["--memory", "4Gi"]);
        if *name == "a" {
            arguments.push("--dial-out-only");
        }
        fleet.begin(&at.to_string(), name, &arguments, Some(token.trim()));
        if *name != "b" {
            // Whoever founds the electorate is there before others of its cluster.
            fleet.until("the founder is ready", || fleet.ready(name));
        }
    }
    fleet
}

impl Fleet {
    fn codeco_if_ready(&self) -> Result<String, String> {
        if !Path::exists(&self.path("hub").join(ADMIN_FILE)) {
            return Err("no admin.json yet".into());
        }
        self.codeco(&["get", "nodes"])
    }

    fn ready(&self, name: &str) -> Result<(), String> {
        let nodes = self.get::<NodeView>("nodes")?;
        let ready = nodes.iter().any(|node| node.name.as_str() == name && node.ready);
        if ready { Ok(()) } else { Err(format!("{nodes:?}")) }
    }

    /// The link between two members, as the first sees it, if it is up.
    fn link(&self, from: &str, to: &str) -> Result<LinkView, String> {
        let links = self.get::<LinkView>("links")?;
        let found =
            links.iter().find(|link| link.from == from && link.to == to && link.status == LinkStatus::Up);
        found.cloned().ok_or_else(|| format!("{from} to {to}: {links:#?}"))
    }
}

/// `None` where network namespaces cannot be had and tests may be skipped.
fn sites_or_skip() -> Option<Sites> {
    match Sites::build() {
        Ok(sites) => Some(sites),
        Err(missing) if std::env::var_os("CODECO_NO_SKIP").is_some_and(|value| value == "1") => {
            panic!("network namespaces are needed: {missing}")
        }
        Err(missing) => {
            let _ = writeln!(std::io::stderr(), "skipped: network namespaces are needed: {missing}");
            None
        }
    }
}

#[test]
fn members_that_only_reach_the_hub_see_each_other_through_it_and_without_it_just_their_own_cluster() {
    let Some(sites) = sites_or_skip() else { return };
    let mut fleet = start(sites);

    // b gets its lease from a, its lead: by an actor session whose two ends prove themselves to each other.
    fleet.until("b is ready", || fleet.ready("b"));
    for (from, to) in [("west/a", "west/b"), ("west/b", "west/a")] {
        let link = fleet.until("members of one cluster are linked", || fleet.link(from, to));
        assert_eq!(link.via.as_deref(), Some("hub"), "{link:?}");
        assert!(link.mtu.is_none_or(|mtu| mtu >= 1_200), "{link:?}");
    }
    // The leads of both clusters, of which one declares that nobody can dial it.
    let between = fleet.until("the leads are linked", || fleet.link("west/a", "east/c"));
    assert_eq!(between.via.as_deref(), Some("hub"), "{between:?}");
    let direct = fleet.until("the hub is linked", || fleet.link("west/a", "hub"));
    assert_eq!(direct.via, None);

    let table = fleet.codeco(&["get", "links"]).unwrap();
    assert!(table.contains("measured via hub"), "{table}");
    let doctor: DoctorView =
        serde_json::from_slice(&fleet.ask("hub", "https://127.0.0.1:7443", &["doctor", "-o", "json"]).stdout)
            .unwrap();
    let of_a = doctor.checks.iter().find(|check| check.member == "west/a" && check.check == "relays");
    let of_a = of_a.unwrap_or_else(|| panic!("{:#?}", doctor.checks));
    assert_eq!(of_a.verdict, Verdict::Ok, "{of_a:?}");
    assert!(of_a.found.contains("west/b via hub"), "{of_a:?}");

    // The hub passes packets on, and is an end of three connections: its own.
    let forwarded = fleet.metric("hub", 7301, "codeco_relay_packets_total{result=\"forwarded\"}").unwrap();
    assert!(forwarded > 50.0, "{forwarded}");
    assert!((fleet.metric("hub", 7301, "codeco_links").unwrap() - 3.0).abs() < 0.1);
    assert!(fleet.metric("0", 7401, "codeco_links_relayed").unwrap() > 1.9);
    let explained = fleet.ask("0", "https://127.0.0.1:7402", &["explain", "app/none"]);
    let said = String::from_utf8_lossy(&explained.stderr).into_owned();
    assert!(!said.contains("can only dial out"), "{said}");

    // Without the hub nobody relays between sites.
    fleet.processes[0].kill().unwrap();
    fleet.processes[0].wait().unwrap();
    let said = fleet.until("a says what it reaches", || {
        let explained = fleet.ask("0", "https://127.0.0.1:7402", &["explain", "app/none"]);
        let said = String::from_utf8_lossy(&explained.stderr).into_owned();
        if said.contains("reaches just its own cluster west;") { Ok(said) } else { Err(said) }
    });
    assert!(said.contains("--relay"), "{said}");

    // Back with what it had, it relays again, and members find each other anew.
    fleet.begin("hub", "hub", &["hub", "--listen", "0.0.0.0:7300"], None);
    let link = fleet.until("members are linked again", || fleet.link("west/b", "west/a"));
    assert_eq!(link.via.as_deref(), Some("hub"));
}

#[test]
fn way_that_opens_later_is_used_instead_of_the_relay() {
    let Some(sites) = sites_or_skip() else { return };
    let fleet = start(sites);
    fleet.until("b is ready", || fleet.ready("b"));
    let link = fleet.until("members of one cluster are linked", || fleet.link("west/a", "west/b"));
    assert_eq!(link.via.as_deref(), Some("hub"));
    let relayed = "codeco_relay_packets_total{result=\"sent\"}";
    assert!(fleet.metric("0", 7401, relayed).unwrap() > 10.0);

    fleet.sites.forward(true).unwrap();
    // The direct way is tried after a minute, and then two minutes later.
    let began = Instant::now();
    loop {
        let vias: Vec<_> = [("west/a", "west/b"), ("west/b", "west/a"), ("west/a", "east/c")]
            .map(|(from, to)| fleet.link(from, to).map(|link| link.via))
            .into();
        if vias.iter().all(|via| *via == Ok(None)) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(400), "{vias:?}\n{}", fleet.logs());
        std::thread::sleep(Duration::from_millis(500));
    }
    fleet.until("b is still ready", || fleet.ready("b"));
}
