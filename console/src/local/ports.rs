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
    pub(super) api: u16,
    pub(super) http: u16,
}

/// Where ports are looked for: below those the system hands to outgoing connections (32768 and up on Linux), any of which
/// could take a port between its choice and its use.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// Ports that processes started one after the other look at before they meet: two small fleets.
const STRIDE: u32 = 40;

/// The first free port from here on. Each is tried once in the life of this process, and every process begins elsewhere,
/// so that fleets started at the same time do not choose the same.
fn free(is_free: fn(u16) -> bool) -> Result<u16, LocalError> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(STRIDE) % COUNT;
    for _ in 0..COUNT {
        let at = begin.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % COUNT;
        match u16::try_from(FIRST + at) {
            Ok(port) if is_free(port) => return Ok(port),
            _ => {}
        }
    }
    Err(LocalError::Port(io::Error::from(io::ErrorKind::AddrInUse)))
}

fn free_udp() -> Result<u16, LocalError> {
    free(udp_is_free)
}

fn free_tcp() -> Result<u16, LocalError> {
    free(tcp_is_free)
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
        Ok(Self { udp: free_udp()?, api: free_tcp()?, http: free_tcp()? })
    }

    pub(super) fn are_free(&self) -> bool {
        udp_is_free(self.udp) && tcp_is_free(self.api) && tcp_is_free(self.http)
    }
}
