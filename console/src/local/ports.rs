//! Free ports on loopback, chosen once and kept.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::{LocalError, loopback};

/// Addresses, kept so that a second start uses the same.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) hub: Option<HubPorts>,
    pub(super) agents: Vec<AgentPorts>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct HubPorts {
    pub(super) udp: u16,
    pub(super) api: u16,
    pub(super) http: u16,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AgentPorts {
    pub(super) udp: u16,
    pub(super) http: u16,
}

/// Ports to choose from: below those that systems give to outgoing connections (32768 and above on Linux), because a
/// port of that range can be taken by anybody between the choice and its use.
const CHOICE: std::ops::Range<u32> = 20_000..32_000;
/// Ports of one process lie next to each other, those of two processes apart.
const APART: u32 = 97;
/// Tries before it is said that no port is free.
const TRIES_MAX: u32 = 1_000;

/// A free port that this process has not been given before.
fn choose(is_free: impl Fn(u16) -> bool) -> Result<u16, LocalError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(APART);
    for _ in 0..TRIES_MAX {
        let step = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = CHOICE.start + step % (CHOICE.end - CHOICE.start);
        if let Some(port) = u16::try_from(port).ok().filter(|port| is_free(*port)) {
            return Ok(port);
        }
    }
    Err(LocalError::Port(io::ErrorKind::AddrInUse.into()))
}

fn free_udp() -> Result<u16, LocalError> {
    choose(udp_is_free)
}

fn free_tcp() -> Result<u16, LocalError> {
    choose(tcp_is_free)
}

fn udp_is_free(port: u16) -> bool {
    UdpSocket::bind(loopback(port)).is_ok()
}

fn tcp_is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

impl HubPorts {
    pub(super) fn choose() -> Result<Self, LocalError> {
        Ok(Self { udp: free_udp()?, api: free_tcp()?, http: free_tcp()? })
    }

    pub(super) fn are_free(&self) -> bool {
        udp_is_free(self.udp) && tcp_is_free(self.api) && tcp_is_free(self.http)
    }
}

impl AgentPorts {
    pub(super) fn choose() -> Result<Self, LocalError> {
        Ok(Self { udp: free_udp()?, http: free_tcp()? })
    }

    pub(super) fn are_free(&self) -> bool {
        udp_is_free(self.udp) && tcp_is_free(self.http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_chosen_are_all_different_and_skip_those_in_use() {
        let taken = choose(|_| true).unwrap();
        let in_use = |port: u16| port.is_multiple_of(2);
        let mut chosen: Vec<u16> = (0..200).map(|_| choose(|port| !in_use(port)).unwrap()).collect();
        assert!(
            chosen.iter().all(|port| !in_use(*port) && *port != taken && CHOICE.contains(&u32::from(*port)))
        );
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 200);
        assert!(choose(|_| false).is_err(), "and it ends when none is free");
    }
}
