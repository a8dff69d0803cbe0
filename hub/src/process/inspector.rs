//! What the hub answers to members: fresh certificates for the identity they have proven.

use std::time::Duration;

use async_trait::async_trait;
use codeco_actors::acm::apps::page;
use codeco_actors::acm::home::HomeRef;
use codeco_actors::fabric::{InspectRequest, Inspector, LinksMessage};
use codeco_actors::supervision::ChildRef;
use codeco_actors::swm::actor::ask;
use codeco_protocol::identity::{Registrar, TrustClock, Validity};
use codeco_protocol::ids::Identity;

pub(super) struct HubInspector {
    pub(super) registrar: Registrar,
    pub(super) clock: TrustClock,
    pub(super) life: Duration,
    pub(super) home: HomeRef,
    pub(super) own: Identity,
    pub(super) links: ChildRef<LinksMessage>,
}

#[async_trait]
impl Inspector for HubInspector {
    async fn answer(&self, from: &Identity, request: InspectRequest) -> Result<Vec<u8>, String> {
        match request {
            // Role and cluster come from the certificate of the connection, never from the request.
            InspectRequest::Renew { signing_request } => {
                let validity = Validity::starting(self.clock.now(), self.life);
                let ca = self.registrar.ca();
                let issued = ca.issue(&signing_request, from, validity).map_err(|e| e.to_string())?;
                Ok(issued.der)
            }
            InspectRequest::Apps(after) => {
                let asked = ask(&self.home, move |home, _, _| page(home, after)).await;
                let pages = asked.map_err(|e| e.to_string())?;
                codeco_protocol::wire::encode(&pages).map_err(|e| e.to_string())
            }
            InspectRequest::Forget(member) if *from == self.own => self
                .links
                .send(LinksMessage::Forget(member))
                .map(|()| Vec::new())
                .map_err(|e| format!("{e:?}")),
            _ => Err("hubs answer questions of people through their API".into()),
        }
    }
}
