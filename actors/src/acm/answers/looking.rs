//! Looking at the network and at the health of members, and faults for drills.

use std::sync::Arc;
use std::time::Instant;

use codeco_protocol::api::{CheckUp, CheckView, DoctorView, LinkView, Verdict, codes};
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::MemberId;
use codeco_protocol::transport::{Impairment, PeerConnection};
use codeco_protocol::units::{Micros, WallTime};
use futures::future::join_all;

use super::fleet::{MemberFleet, error};
use crate::acm::api::{FaultPeers, FaultWish};
use crate::acm::fleet::{ApiError, Filter};
use crate::clock::{boot_now, wall_now};
use crate::fabric::{InspectRequest, inspect};
use crate::netma::{Place, estimates};
use crate::process::{Fault, Others, check_up};

/// A clock that is off by more than this confuses people; certificates bear ten times as much.
const SKEW_MS: (i64, i64) = (1_000, 60_000);

impl MemberFleet {
    /// This member as people call it.
    pub(super) fn own_name(&self) -> String {
        match self.member.commons.own.cluster() {
            Some(cluster) => format!("{cluster}/{}", self.member.name),
            None => self.member.name.clone(),
        }
    }

    /// Whether a question is about this very member.
    fn asks_own(&self, filter: &Filter) -> bool {
        let cluster = filter.cluster.as_ref().is_none_or(|c| self.member.commons.own.cluster() == Some(c));
        let node = filter.node.as_ref().is_none_or(|n| n.as_str() == self.member.name);
        cluster && node && (filter.node.is_none() || self.member.commons.own.cluster().is_some())
    }

    /// Links as their near ends have measured them, and estimates for pairs that nobody has.
    pub(super) async fn links_now(&self, filter: &Filter) -> (Vec<LinkView>, Vec<String>) {
        let (mut links, mut warnings) = self.ask_nodes::<LinkView>(filter, InspectRequest::Links).await;
        // Who has just joined may be known to the member asked by its identity alone.
        let names = self.member_names();
        for link in &mut links {
            if let Some(name) = names.get(&link.to) {
                link.to.clone_from(name);
            }
        }
        if self.asks_own(filter) {
            let own = self.own_name();
            links.retain(|link| link.from != own);
            links.extend(self.member.network.links(&own));
        }
        let (estimated, left_out) = estimates(&self.places(filter), &links);
        if left_out > 0 {
            warnings.push(format!("{left_out} more pairs were never measured: name a cluster or a node"));
        }
        links.extend(estimated);
        links.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        (links, warnings)
    }

    /// Members that live, with the points they spread.
    fn places(&self, filter: &Filter) -> Vec<Place> {
        let (commons, now) = (&self.member.commons, boot_now());
        let own = Place {
            name: self.own_name(),
            point: Some(self.member.network.coordinate()),
            age_ms: 0,
            wanted: self.asks_own(filter),
        };
        let mut places = commons.with_views(|views| {
            let others = views.iter().filter_map(|view| {
                let name = &view.member()?.name;
                let cluster = view.identity.cluster();
                let lives =
                    matches!(commons.liveness(view.identity.id), Some(Liveness::Alive | Liveness::Suspect));
                let wanted = filter.cluster.as_ref().is_none_or(|c| cluster == Some(c))
                    && filter.node.as_ref().is_none_or(|n| cluster.is_some() && n.as_str() == name.as_str());
                lives.then(|| Place {
                    name: cluster.map_or_else(|| name.clone(), |c| format!("{c}/{name}")),
                    point: commons.point(view.identity.id),
                    age_ms: view.age(now).0 / 1_000,
                    wanted,
                })
            });
            others.collect::<Vec<_>>()
        });
        places.retain(|place| place.name != own.name);
        places.push(own);
        places.sort_by(|a, b| a.name.cmp(&b.name));
        places
    }

    /// Has every member that is meant look after itself.
    pub(super) async fn doctor_now(&self, filter: &Filter) -> DoctorView {
        let own = self.own_name();
        let own_checks = async {
            if !self.asks_own(filter) {
                return Vec::new();
            }
            let mut checks = check_up(&self.member).await.checks;
            checks.iter_mut().for_each(|check| check.member.clone_from(&own));
            checks
        };
        let mut warnings = Vec::new();
        let mut questions = Vec::new();
        for node in self.nodes_now(filter) {
            let name = format!("{}/{}", node.cluster, node.name);
            match self.member.commons.link(node.id) {
                _ if name == own => {}
                Some(link) => questions.push(ask_for_check_up(link, name)),
                None => warnings.push(format!("node {name} is not connected: not included")),
            }
        }
        let (mut checks, answers) = tokio::join!(own_checks, join_all(questions));
        for answer in answers {
            match answer {
                Ok(of_node) => checks.extend(of_node),
                Err(warning) => warnings.push(warning),
            }
        }
        DoctorView { now: wall_now(), hubs: self.hub_addresses(), checks, warnings }
    }

    /// Where hubs can be dialled: this one, if it is one, and those it knows.
    fn hub_addresses(&self) -> Vec<String> {
        let commons = &self.member.commons;
        let own = commons.own.is_hub().then(|| commons.address()).flatten();
        let configured = self.member.hubs.get().into_iter().flatten().copied();
        let mut all: Vec<String> = own.into_iter().chain(configured).map(|a| a.to_string()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Injects a fault into a member: a node by its name, or the process that answers.
    pub(super) async fn inject(&self, member: String, wish: FaultWish) -> Result<(), ApiError> {
        let refused = |why: String| {
            error(409, codes::FAULT_REFUSED, Some(format!("member/{member}")), why, "nothing was done")
        };
        let fault = self.fault(&wish)?;
        if member == self.member.name || member == self.own_name() {
            return self.faults.inject(fault).map_err(refused);
        }
        let (id, name) = self.find_node(&member)?;
        let link = self.member.commons.link(id);
        let Some(link) = link else {
            return Err(refused(format!(
                "node {name} is not connected; a fault of its network ends by itself"
            )));
        };
        let answer = inspect(&link, &InspectRequest::Fault(fault)).await;
        answer.map(|_| ()).map_err(|e| refused(format!("node {name}: {e}")))
    }

    fn fault(&self, wish: &FaultWish) -> Result<Fault, ApiError> {
        Ok(match wish {
            FaultWish::Kill => Fault::Kill,
            FaultWish::Heal => Fault::Heal,
            FaultWish::Pause { seconds } => Fault::Pause { seconds: *seconds },
            FaultWish::Network {
                from,
                inbound,
                outbound,
                loss_per_million,
                delay_us,
                jitter_us,
                seconds,
            } => {
                let others = match from {
                    FaultPeers::Everybody => Others::Everybody,
                    FaultPeers::OtherClusters => Others::OtherClusters,
                    FaultPeers::Members(names) => Others::Members(
                        names.iter().map(|name| self.find_member(name)).collect::<Result<_, _>>()?,
                    ),
                };
                let what = Impairment {
                    cut_inbound: *inbound,
                    cut_outbound: *outbound,
                    loss_per_million: *loss_per_million,
                    delay: Micros(*delay_us),
                    jitter: Micros(*jitter_us),
                };
                Fault::Network { others, what, seconds: *seconds }
            }
        })
    }

    /// A node, or a hub by its name.
    fn find_member(&self, name: &str) -> Result<MemberId, ApiError> {
        if name == self.member.name || name == self.own_name() {
            return Ok(self.member.commons.own.id);
        }
        let hub = self.member.commons.with_views(|views| {
            let mut hubs = views.iter().filter(|view| view.identity.is_hub());
            hubs.find(|view| view.member().is_some_and(|fact| fact.name == name)).map(|view| view.identity.id)
        });
        hub.map_or_else(|| self.find_node(name).map(|(id, _)| id), Ok)
    }
}

async fn ask_for_check_up(link: Arc<PeerConnection>, name: String) -> Result<Vec<CheckView>, String> {
    let (asked, wall) = (Instant::now(), wall_now());
    let bytes = inspect(&link, &InspectRequest::Doctor)
        .await
        .map_err(|e| format!("node {name}: {e}: not included"))?;
    let CheckUp { now, mut checks } = serde_json::from_slice(&bytes)
        .map_err(|e| format!("node {name}: its answer cannot be read ({e}): not included"))?;
    let took = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    checks.push(clock(now, wall, took));
    for check in &mut checks {
        check.member.clone_from(&name);
    }
    Ok(checks)
}

/// The clock of one that said `theirs` at some time between `asked` and `took` milliseconds later.
fn clock(theirs: WallTime, asked: WallTime, took: u64) -> CheckView {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    // It said so at the end of its checks: nothing is known but that this was in between.
    let (ahead, behind) = (
        signed(theirs.0).saturating_sub(signed(asked.0.saturating_add(took))),
        signed(asked.0).saturating_sub(signed(theirs.0)),
    );
    let off = ahead.max(behind).max(0);
    let verdict = match off {
        off if off >= SKEW_MS.1 => Verdict::Failed,
        off if off >= SKEW_MS.0 => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let found = match (off, ahead > behind) {
        (0, _) => "agrees".to_owned(),
        (off, true) => format!("at least {off} ms ahead"),
        (off, false) => format!("at least {off} ms behind"),
    };
    CheckView::new(
        "clock",
        verdict,
        "asked for its wall clock, and compared it with that of the asker",
        found,
    )
    .next("set it, by NTP or by hand: certificates and logs are judged by it; leases are not")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_off_only_by_what_the_time_of_asking_cannot_explain() {
        let found = |theirs: u64| clock(WallTime(theirs), WallTime(1_000_000), 500);
        assert_eq!(found(1_000_400).found, "agrees");
        assert_eq!(found(1_000_000).verdict, Verdict::Ok);
        assert_eq!(found(1_002_500).found, "at least 2000 ms ahead");
        assert_eq!(found(1_002_500).verdict, Verdict::Warning);
        let of_1970 = found(0);
        assert_eq!(
            (of_1970.verdict, of_1970.found.as_str()),
            (Verdict::Failed, "at least 1000000 ms behind")
        );
    }
}
