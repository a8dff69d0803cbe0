//! Starts peers as processes and directs them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};

/// Longest any test waits for a line that must come; reached only by a test that fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// One certificate authority and a folder for its certificates.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        std::fs::write(folder.path().join("ca"), authority.der()).unwrap();
        Self { folder, authority }
    }

    /// Peers `ann` and `bob`. The folder goes with this stage once they have read it.
    pub(super) fn pair(&self) -> (Peer, Peer) {
        (self.peer("ann"), self.peer("bob"))
    }

    pub(super) fn peer(&self, name: &str) -> Peer {
        self.peer_calling_itself(name, name)
    }

    pub(super) fn peer_calling_itself(&self, name: &str, claimed: &str) -> Peer {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new(vec!["peer".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.folder.path().join("certificate"), certificate.der()).unwrap();
        std::fs::write(self.folder.path().join("key"), key.serialize_der()).unwrap();
        Peer::start(name, claimed, self.folder.path())
    }
}

/// A process that does what it is told, line by line.
pub(super) struct Peer {
    name: String,
    pub(super) port: u16,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    unread: Vec<String>,
    commands: u32,
}

impl Peer {
    fn start(name: &str, claimed: &str, folder: &std::path::Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["peer_process", "--exact", "--ignored", "--nocapture"])
            .env("CODECO_TEST_PEER", claimed)
            .env("CODECO_TEST_FOLDER", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take().unwrap();
        let name = name.to_owned();
        let mut peer = Self { name, port: 0, child, stdin, lines, unread: Vec::new(), commands: 0 };
        peer.port = peer.expect("listening").parse().unwrap();
        peer
    }

    /// Gives a command and returns its number.
    pub(super) fn tell(&mut self, command: &str) -> u32 {
        self.commands += 1;
        writeln!(self.stdin, "{} {command}", self.commands).unwrap();
        self.commands
    }

    /// Waits for the outcome of a command.
    pub(super) fn outcome(&mut self, command: u32) -> String {
        self.expect(&format!("#{command}"))
    }

    pub(super) fn ask(&mut self, command: &str) -> String {
        let command = self.tell(command);
        self.outcome(command)
    }

    /// Asks until the answer contains `wanted`, for what no event tells.
    pub(super) fn ask_until(&mut self, command: &str, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(command);
            if answer.contains(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{} never answered {wanted:?}, but {answer}", self.name);
            std::thread::yield_now();
        }
    }

    pub(super) fn counters(&mut self) -> String {
        self.ask("counters")
    }

    /// Opens a session with `other` and waits until both say it is up.
    pub(super) fn dial(&mut self, other: &mut Peer) {
        other.tell(&format!("expect {}", self.name));
        self.tell(&format!("dial {} {}", other.port, other.name));
        self.expect(&format!("attached {}", other.name));
        other.expect(&format!("attached {}", self.name));
    }

    /// Waits for a line that starts like this and returns the rest; other lines are kept for later.
    pub(super) fn expect(&mut self, start: &str) -> String {
        let is_it = |line: &String| {
            line.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let found = self.unread.iter().position(is_it).map(|at| self.unread.remove(at));
        let line = found.unwrap_or_else(|| {
            loop {
                let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                    panic!("{} never said {start:?}, but {:?}", self.name, self.unread);
                };
                if is_it(&line) {
                    break line;
                }
                self.unread.push(line);
            }
        });
        line[start.len()..].trim_start().to_owned()
    }

    /// As by SIGKILL: no goodbye.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
