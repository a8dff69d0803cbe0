//! Agents of Debian's `serf`, as its package configures them.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Instant, SystemTime};

use super::{DEADLINE, Error, Event, PAUSE, Side, What};

/// Agents of the second half of a partition run as this user, by which the firewall tells them apart.
const OTHER_USER: u32 = 65_534;
const FIRST_PORT: usize = 20_000;

/// A cluster of serf agents.
pub(super) struct Serf {
    agents: Vec<Option<Child>>,
    events: Receiver<Event>,
    tell: Sender<Event>,
    /// From this member on, agents belong to the other user.
    half: usize,
}

impl Serf {
    pub(super) fn new(nodes: usize) -> Self {
        let (tell, events) = channel();
        Self { agents: (0..nodes).map(|_| None).collect(), events, tell, half: nodes / 2 }
    }
}

/// Two ports for each agent, below those of outgoing connections.
fn gossip_port(at: usize) -> usize {
    FIRST_PORT + 2 * at
}

/// The others give up when there is nobody to join.
fn await_listening(port: usize) -> Result<(), Error> {
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, u16::try_from(port)?)).is_err() {
        if Instant::now() > deadline {
            return Err("serf does not listen".into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// `EventMemberFailed: m7 127.0.0.1`, and the member.
fn read(line: &str) -> Option<(What, usize)> {
    let (_, event) = line.split_once("serf: EventMember")?;
    let (kind, rest) = event.split_once(": ")?;
    let what = match kind {
        "Failed" => What::Dead,
        "Join" => What::Alive,
        _ => return None,
    };
    Some((what, rest.split_whitespace().next()?.strip_prefix('m')?.parse().ok()?))
}

impl Side for Serf {
    fn name(&self) -> &'static str {
        "serf"
    }

    fn start(&mut self, at: usize) -> Result<(), Error> {
        let mut command = Command::new("serf");
        command
            .arg("agent")
            .arg(format!("-node=m{at}"))
            .arg(format!("-bind=127.0.0.1:{}", gossip_port(at)))
            .arg(format!("-rpc-addr=127.0.0.1:{}", gossip_port(at) + 1))
            .arg("-log-level=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/");
        if at > 0 {
            command.arg(format!("-join=127.0.0.1:{}", gossip_port(0)));
        }
        if at >= self.half {
            command.uid(OTHER_USER);
        }
        let mut child = command.spawn().map_err(|e| format!("serf: {e}"))?;
        let stdout = child.stdout.take().ok_or("serf has no output")?;
        let tell = self.tell.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let now = SystemTime::now();
                if let Some((what, about)) = read(&line)
                    && tell.send(Event { at: now, observer: at, about, what }).is_err()
                {
                    return;
                }
            }
        });
        self.agents[at] = Some(child);
        if at == 0 {
            await_listening(gossip_port(0))?;
        }
        Ok(())
    }

    fn kill(&mut self, at: usize) -> Result<(), Error> {
        if let Some(mut child) = self.agents[at].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn pids(&self) -> Vec<u32> {
        self.agents.iter().flatten().map(Child::id).collect()
    }

    fn await_rest(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<Event>, Error> {
        Ok(self.events.try_iter().collect())
    }

    fn cut_in_half(&self) -> Vec<String> {
        let ports = |range: std::ops::Range<usize>| {
            range.map(|at| gossip_port(at).to_string()).collect::<Vec<_>>().join(", ")
        };
        let (first, second) = (ports(0..self.half), ports(self.half..self.agents.len()));
        ["udp", "tcp"]
            .into_iter()
            .flat_map(|kind| {
                [
                    format!("meta skuid {OTHER_USER} {kind} dport {{ {first} }}"),
                    format!("meta skuid != {OTHER_USER} {kind} dport {{ {second} }}"),
                ]
            })
            .collect()
    }
}

impl Drop for Serf {
    fn drop(&mut self) {
        for mut child in self.agents.iter_mut().filter_map(Option::take) {
            // It is going away either way.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_serf_are_read_from_its_log() {
        let failed = "    2026/11/24 13:00:00 [INFO] serf: EventMemberFailed: m7 127.0.0.1";
        assert_eq!(read(failed), Some((What::Dead, 7)));
        assert_eq!(read("[INFO] serf: EventMemberJoin: m12 127.0.0.1"), Some((What::Alive, 12)));
        assert_eq!(read("[INFO] serf: EventMemberLeave: m12 127.0.0.1"), None);
        assert_eq!(read("[INFO] agent: Received event: member-failed"), None);
    }
}
