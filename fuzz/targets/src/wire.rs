//! Messages, kind by kind.

use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::gossip::{GossipMessage, Probe};

use crate::input::{extremes_of, read, seeds_of};
use crate::samples;

/// First messages of connections.
pub(crate) mod wire_hello {
    use super::{read, seeds_of};
    use codeco_protocol::identity::JoinToken;

    pub(crate) fn run(data: &[u8]) {
        let _ = codeco_protocol::hostile::hello(data);
        let _ = codeco_protocol::wire::kind_of(data);
        let _ = read::<JoinToken>(data);
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let mut seeds = vec![
            vec![1, 0, 0, 0, 2, 0, 0, 0, 1, 1],
            vec![2, 0, 0, 0, 1, 0, 0, 0, 1],
            vec![1, 0, 0, 0, 4, 0, 0, 0, 0xfb, 0, 1, 7],
        ];
        seeds.extend(seeds_of(&crate::samples::join_token()));
        seeds
    }
}

/// Becoming a member.
pub(crate) mod wire_join {
    use super::{read, samples, seeds_of};
    use codeco_protocol::identity::{Ca, JoinReply, JoinRequest};

    pub(crate) fn run(data: &[u8]) {
        if let Some(request) = read::<JoinRequest>(data) {
            let _ = Ca::check_request(&request.signing_request);
        }
        if let Some(JoinReply::Granted(grant) | JoinReply::Founder(grant)) = read::<JoinReply>(data) {
            let _ =
                codeco_protocol::identity::Credentials::new(samples::key(), &grant.certificate, &grant.ca);
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let mut seeds = seeds_of(&samples::join_request());
        samples::join_replies().iter().for_each(|reply| seeds.extend(seeds_of(reply)));
        seeds
    }
}

/// Fresh certificates.
pub(crate) mod wire_renew {
    use super::{read, samples, seeds_of};
    use codeco_protocol::identity::{Ca, LocalIssuer, MemberKey, RenewReply, RenewRequest};

    pub(crate) fn run(data: &[u8]) {
        if let Some(request) = read::<RenewRequest>(data) {
            let _ = Ca::check_request(&request.signing_request);
        }
        if let Some(RenewReply::Granted(grant)) = read::<RenewReply>(data) {
            let _ = grant.credentials(samples::key());
            if grant.made_issuer.is_some()
                && let Ok(key) = MemberKey::generate()
            {
                let _ = LocalIssuer::granted(key, &grant);
            }
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let mut seeds = seeds_of(&samples::renew_request());
        samples::renew_replies().iter().for_each(|reply| seeds.extend(seeds_of(reply)));
        seeds
    }
}

/// Whom to trust.
pub(crate) mod wire_trust {
    use super::{read, samples, seeds_of};
    use codeco_protocol::identity::{SignedTrust, TrustList};

    pub(crate) fn run(data: &[u8]) {
        let _ = read::<TrustList>(data);
        let Some(signed) = read::<SignedTrust>(data) else { return };
        let trust = samples::trust();
        let before = trust.version();
        match trust.adopt(&signed) {
            // Whatever passes was signed by the authority, so it is the sample itself.
            Ok(true) => assert_eq!(Some(&signed), Some(samples::signed_trust()), "nobody else can sign"),
            Ok(false) | Err(_) => assert_eq!(trust.version(), before, "what is not taken changes nothing"),
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let mut seeds = seeds_of(samples::signed_trust());
        seeds.extend(samples::signed_trust().read().iter().flat_map(seeds_of));
        seeds
    }
}

/// Gossip, with the checks of what comes out of it.
pub(crate) mod wire_gossip {
    use super::{Coordinate, GossipMessage, extremes_of, read, samples, seeds_of};

    pub(crate) fn run(data: &[u8]) {
        match read::<GossipMessage>(data) {
            Some(GossipMessage::Sealed(sealed)) => {
                let fits = sealed.verify(samples::DOMAIN, samples::key().public_key()).is_ok();
                assert!(!fits || sealed.delta.facts.len() == sealed.seals.len(), "one seal for each fact");
            }
            Some(GossipMessage::Point(point)) => {
                let other = Coordinate { position: [1, 2, 3], height: 4, error_permille: 5 };
                let estimate = point.estimate(&other);
                assert!(
                    estimate.is_none() || point.checked().is_some(),
                    "no estimate from a point out of bounds"
                );
            }
            Some(GossipMessage::Hints(hints)) => hints.iter().for_each(|hint| {
                let _ = hint.is_somewhere();
            }),
            _ => {}
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        samples::gossip().iter().flat_map(seeds_of).collect()
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        samples::gossip().iter().flat_map(extremes_of).collect()
    }
}

/// Probes.
pub(crate) mod wire_probe {
    use super::{Probe, read, seeds_of};

    pub(crate) fn run(data: &[u8]) {
        let _ = read::<Probe>(data);
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let probes = [
            Probe::Ping { sequence: 300, heard_you: true, view: 70_000 },
            Probe::Pong { sequence: 300, view: u32::MAX },
            Probe::Echo { nonce: 9 },
            Probe::Echoed { nonce: 9 },
        ];
        probes.iter().flat_map(seeds_of).collect()
    }
}

/// Control messages.
pub(crate) mod wire_control {
    use super::{extremes_of, read, samples, seeds_of};
    use codeco_protocol::messages::{ControlBatch, ControlMessage};

    pub(crate) fn run(data: &[u8]) {
        let Some(batch) = read::<ControlBatch>(data) else { return };
        for message in &batch.messages {
            let _ = message.addressee();
            if let ControlMessage::Bid { lines, .. } = message {
                // Shown to people as they come.
                lines.iter().flat_map(|line| &line.obstacles).for_each(|(_, obstacle)| {
                    let _ = obstacle.to_string();
                });
            }
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        samples::control().into_iter().flat_map(|message| seeds_of(&samples::batch(vec![message]))).collect()
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        let messages = samples::control().into_iter();
        messages.flat_map(|message| extremes_of(&samples::batch(vec![message]))).collect()
    }
}

/// Questions about a process, and the answers.
pub(crate) mod wire_inspection {
    use super::{extremes_of, read, samples, seeds_of};
    use codeco_actors::acm::apps::AppPages;
    use codeco_actors::fabric::{InspectReply, InspectRequest};

    pub(crate) fn run(data: &[u8]) {
        let _ = (read::<InspectRequest>(data), read::<InspectReply>(data));
        let pages = read::<AppPages>(data).unwrap_or_default();
        for page in &pages.apps {
            let Some(app) = page.app() else { continue };
            assert!(app.keepers().count() <= page.keepers.len(), "no keepers beyond those told");
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let mut seeds: Vec<_> = samples::questions().iter().flat_map(seeds_of).collect();
        seeds.extend(seeds_of(&InspectReply(Ok(vec![7; 9]))));
        seeds.extend(seeds_of(&InspectReply(Err("no".to_owned()))));
        for records in [samples::app_records(), samples::home_records(), samples::nested_copies(400)] {
            seeds.extend(seeds_of(&samples::app_pages(records)));
        }
        seeds
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        extremes_of(&samples::app_pages(samples::app_records()))
    }
}

/// Loads, models, and gates.
pub(crate) mod wire_learning {
    use super::{GossipMessage, read, samples, seeds_of};
    use codeco_actors::pdlc::forecaster::Forecaster;
    use codeco_protocol::gossip::{Fact, ModelFact, Weights};

    pub(crate) fn run(data: &[u8]) {
        if let Some(weights) = read::<Weights>(data) {
            let _ = Forecaster::new(weights.values);
        }
        let model = read::<ModelFact>(data);
        model.iter().for_each(judge);
        let Some(GossipMessage::State(delta)) = read::<GossipMessage>(data) else { return };
        for (.., fact) in delta.facts {
            match fact {
                Some(Fact::Load(load)) => drop(load.check()),
                Some(Fact::Model(model)) => judge(&model),
                Some(Fact::Gate(gate)) => drop(gate.check()),
                _ => {}
            }
        }
    }

    fn judge(model: &ModelFact) {
        let _ = model.check();
        if let Ok(forecaster) = Forecaster::decode(model) {
            assert!(forecaster.values().iter().all(|value| value.is_finite()), "weights are numbers");
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let mut seeds = seeds_of(&samples::weights());
        seeds.extend(seeds_of(&samples::model()));
        seeds.extend(seeds_of(&samples::learning_gossip()));
        seeds
    }
}
