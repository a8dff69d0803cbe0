//! The API server of a member, and what becomes of those it refuses.

use std::sync::Arc;
use std::time::Duration;

use codeco_protocol::api::EventType;
use codeco_protocol::identity::CredentialsSlot;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::api::{ApiServer, ApiTokens, Limits, Refusals, Refused, tls_config};
use super::fleet::Fleet;
use crate::evidence::Note;
use crate::process::{Member, Metric, MetricKind};

/// Answers people at `listener` until `stop` says so. Whom it refuses becomes an event and is counted.
///
/// # Errors
/// If TLS cannot be set up, which is a bug.
pub fn serve_api(
    member: &Arc<Member>,
    listener: TcpListener,
    slot: Arc<CredentialsSlot>,
    fleet: Arc<dyn Fleet>,
    tokens: Arc<ApiTokens>,
    mut stop: watch::Receiver<bool>,
) -> Result<(JoinHandle<()>, Arc<Refusals>), rustls::Error> {
    let (refusals, refused) = Refusals::new();
    let refusals = Arc::new(refusals);
    tokio::spawn(note_api_refusals(refused, Arc::clone(&refusals), Arc::clone(member)));
    let name = member.commons.own.cluster().map_or(member.name.clone(), |c| format!("{c}/{}", member.name));
    let server =
        ApiServer::new(tls_config(slot)?, fleet, tokens, Arc::clone(&refusals), Limits::default(), name);
    let stopped = async move {
        // A dropped sender means the same.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    Ok((tokio::spawn(server.serve(listener, stopped)), refusals))
}

/// How many were refused, and why.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn refusals_metric(refusals: &Refusals) -> Metric {
    let counts = refusals.counts().into_iter();
    Metric {
        name: "api_refusals",
        help: "API requests and connections refused.",
        kind: MetricKind::Counter,
        samples: counts.map(|(reason, n)| (vec![("reason", reason.word().to_owned())], n as f64)).collect(),
    }
}

/// Each refusal becomes an event when it is first seen; what repeats it within a minute only raises its count.
async fn note_api_refusals(
    mut refused: mpsc::Receiver<Refused>,
    refusals: Arc<Refusals>,
    member: Arc<Member>,
) {
    let tell = |refusal: Refused, times: u64| {
        let who = refusal.name.as_deref().map_or(String::new(), |name| format!(" as {name}"));
        let note = Note {
            kind: EventType::Warning,
            reason: "RequestRefused",
            object_kind: "Peer",
            object: refusal.peer.to_string(),
            message: format!("{}{who}: {}", refusal.reason.word(), refusal.route),
        };
        member.events.tell_times(note, times);
    };
    let mut look = tokio::time::interval(Duration::from_secs(1));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            refusal = refused.recv() => match refusal {
                Some(refusal) => {
                    let times = refusal.unreported + 1;
                    tell(refusal, times);
                }
                None => return,
            },
            _ = look.tick() => {
                for repeat in refusals.take_repeats() {
                    let times = repeat.unreported;
                    tell(repeat, times);
                }
            }
        }
    }
}
