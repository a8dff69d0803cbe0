//! Free ports on loopback, chosen once and kept.

use std::net::{TcpListener, UdpSocket};

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

fn free_udp() -> Result<u16, LocalError> {
    let socket = UdpSocket::bind(loopback(0)).map_err(LocalError::Port)?;
    Ok(socket.local_addr().map_err(LocalError::Port)?.port())
}

fn free_tcp() -> Result<u16, LocalError> {
    let listener = TcpListener::bind(loopback(0)).map_err(LocalError::Port)?;
    Ok(listener.local_addr().map_err(LocalError::Port)?.port())
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
