//! TLS to the hub. A hub's certificate names no host, only a SPIFFE id, so ureq's own connector cannot judge it.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use codeco_protocol::identity::{Expected, KeyHash, TrustClock, pinned_client_config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// TLS 1.3 that believes `expected` of the authority `ca_pem`, or of one of several, and nobody else.
pub(crate) fn client_config(ca_pem: &str, expected: Expected) -> Result<Arc<ClientConfig>, String> {
    let mut pins = Vec::new();
    for ca in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let ca = ca.map_err(|e| e.to_string())?;
        pins.push(KeyHash::of_certificate(&ca).map_err(|e| e.to_string())?);
    }
    if pins.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    // The same judgement as a joining agent's: the authority of that key, and a member of it.
    let mut config = pinned_client_config(pins, TrustClock::system(), expected).map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Wraps a connection in TLS.
pub(super) struct HubTls(pub(super) Arc<ClientConfig>);

impl<In: Transport> Connector<In> for HubTls {
    type Out = HubTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<HubTransport>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        // The verifier looks at no host name, and none is sent.
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
        let mut connection = ClientConnection::new(self.0.clone(), nobody)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = StreamOwned::new(connection, socket);
        Ok(Some(HubTransport { buffers: LazyBuffers::new(input, output), stream }))
    }
}

impl fmt::Debug for HubTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubTls")
    }
}

/// A TLS connection.
pub(super) struct HubTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for HubTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for HubTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubTransport")
    }
}
