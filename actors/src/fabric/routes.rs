//! When a member is dialled directly, and when through a relay.
//!
//! Directly first. After two failures in a row both ways are tried by turns, whichever has failed less often first; what
//! has worked goes on being used. While a member is connected through a relay, the direct way is tried again, rarely:
//! after a minute, then after twice as long each time, up to an hour. A member that can only be reached from inside its
//! site may well reach us: so the first such try follows at once where there was none yet.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use codeco_protocol::ids::MemberId;
use codeco_protocol::units::{BootTime, Micros};

/// Direct tries in a row that must fail before a relay is asked.
const DIRECT_TRIES: u32 = 2;
/// Relays asked one after the other in one try.
pub(super) const RELAYS_PER_TRY: usize = 2;
/// Between a relayed connection and the first direct try, if there was none before.
const UPGRADE_SOON: Micros = Micros::from_millis(500);
/// Between direct tries beside a relayed connection: the shortest, and the longest.
const UPGRADE_FIRST: Micros = Micros::from_secs(60);
const UPGRADE_LAST: Micros = Micros::from_secs(3_600);
/// Members remembered at most; whoever is forgotten is tried directly first.
const MEMBERS_MAX: usize = 4_096;

/// A way to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its own address.
    Direct,
    /// A relay.
    Relayed,
}

#[derive(Debug, Clone, Copy, Default)]
struct Route {
    direct_failures: u32,
    relay_failures: u32,
    /// When to try the direct way beside a relayed connection, and how long after that again.
    upgrade: Option<(BootTime, Micros)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Routes {
    members: BTreeMap<MemberId, Route>,
}

impl Routes {
    /// The way to try next; `None` if there is none. `addressed`: it is known where the member can be dialled; `relays`:
    /// how many relays there are.
    pub(super) fn choose(&self, member: MemberId, addressed: bool, relays: usize) -> Option<Way> {
        let route = self.members.get(&member).copied().unwrap_or_default();
        match (addressed, relays > 0) {
            (false, false) => None,
            (false, true) => Some(Way::Relayed),
            (true, false) => Some(Way::Direct),
            (true, true) => {
                let direct =
                    route.direct_failures < DIRECT_TRIES || route.relay_failures >= route.direct_failures;
                Some(if direct { Way::Direct } else { Way::Relayed })
            }
        }
    }

    /// Of `relays`, the best first, those to ask now: each try that has failed begins further down the list.
    pub(super) fn pick(&self, member: MemberId, relays: &[MemberId]) -> Vec<MemberId> {
        let failed = self.members.get(&member).map_or(0, |route| route.relay_failures) as usize;
        let first = failed.saturating_mul(RELAYS_PER_TRY).checked_rem(relays.len()).unwrap_or(0);
        relays.iter().cycle().skip(first).take(relays.len().min(RELAYS_PER_TRY)).copied().collect()
    }

    fn route(&mut self, member: MemberId) -> &mut Route {
        if self.members.len() >= MEMBERS_MAX && !self.members.contains_key(&member) {
            self.members.clear();
        }
        self.members.entry(member).or_default()
    }

    /// Nobody was reached that way.
    pub(super) fn failed(&mut self, member: MemberId, way: Way) {
        let route = self.route(member);
        let failures = match way {
            Way::Direct => &mut route.direct_failures,
            Way::Relayed => &mut route.relay_failures,
        };
        *failures = failures.saturating_add(1);
    }

    /// The member is connected that way.
    pub(super) fn connected(&mut self, now: BootTime, member: MemberId, way: Way) {
        if way == Way::Direct {
            self.members.remove(&member);
            return;
        }
        let route = self.route(member);
        route.relay_failures = 0;
        if route.upgrade.is_none() {
            let wait = if route.direct_failures == 0 { UPGRADE_SOON } else { UPGRADE_FIRST };
            route.upgrade = Some((now + wait, UPGRADE_FIRST));
        }
    }

    /// Whether the direct way is to be tried now beside a relayed connection. If so, it is not again for a while.
    pub(super) fn upgrade_due(&mut self, now: BootTime, member: MemberId) -> bool {
        let Some(route) = self.members.get_mut(&member) else { return false };
        let Some((due, again)) = route.upgrade.filter(|(due, _)| *due <= now) else { return false };
        debug_assert!(due <= now);
        route.upgrade = Some((now + again, Micros((again.0 * 2).min(UPGRADE_LAST.0))));
        true
    }

    /// A member is removed for good.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.members.remove(&member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: MemberId = MemberId(1);
    const R: [MemberId; 3] = [MemberId(11), MemberId(12), MemberId(13)];

    #[test]
    fn member_is_dialled_directly_twice_then_by_turns_and_by_what_there_is() {
        let mut routes = Routes::default();
        let mut ways = Vec::new();
        for _ in 0..8 {
            let way = routes.choose(M, true, 1).unwrap();
            ways.push(way);
            routes.failed(M, way);
        }
        use Way::{Direct as D, Relayed as R};
        assert_eq!(ways, [D, D, R, R, D, R, D, R]);
        assert_eq!(routes.choose(M, true, 0), Some(D), "nobody relays");
        assert_eq!(routes.choose(M, false, 1), Some(R), "nobody knows where it is");
        assert_eq!(routes.choose(M, false, 0), None);
    }

    #[test]
    fn way_that_has_worked_is_used_again_until_it_fails() {
        let mut routes = Routes::default();
        for _ in 0..2 {
            routes.failed(M, Way::Direct);
        }
        routes.failed(M, Way::Relayed);
        routes.connected(BootTime(0), M, Way::Relayed);
        assert_eq!(routes.choose(M, true, 1), Some(Way::Relayed));
        routes.connected(BootTime(0), M, Way::Direct);
        assert_eq!(routes.choose(M, true, 1), Some(Way::Direct));
        routes.failed(M, Way::Direct);
        assert_eq!(routes.choose(M, true, 1), Some(Way::Direct));
    }

    #[test]
    fn direct_way_beside_a_relayed_connection_is_tried_soon_if_it_never_was_and_ever_more_rarely() {
        let mut routes = Routes::default();
        assert!(!routes.upgrade_due(BootTime(u64::MAX), M), "not connected at all");
        routes.connected(BootTime(0), M, Way::Relayed);
        let (mut now, mut tries) = (BootTime(0), Vec::new());
        while now < BootTime(0) + Micros::from_secs(4 * 3_600) {
            if routes.upgrade_due(now, M) {
                tries.push(now.0 / 1_000_000);
                routes.connected(now, M, Way::Relayed);
            }
            now = now + Micros::from_millis(500);
        }
        assert_eq!(tries, [0, 60, 180, 420, 900, 1_860, 3_780, 7_380, 10_980]);

        let mut failed = Routes::default();
        failed.failed(M, Way::Direct);
        failed.connected(BootTime(0), M, Way::Relayed);
        assert!(!failed.upgrade_due(BootTime(59_000_000), M) && failed.upgrade_due(BootTime(60_000_000), M));
    }

    #[test]
    fn relays_are_asked_from_the_best_and_all_of_them_in_the_end() {
        let mut routes = Routes::default();
        assert_eq!(routes.pick(M, &R), [R[0], R[1]]);
        routes.failed(M, Way::Relayed);
        assert_eq!(routes.pick(M, &R), [R[2], R[0]]);
        assert_eq!(routes.pick(M, &R[..1]), [R[0]]);
        assert!(routes.pick(M, &[]).is_empty());
        for _ in 0..100 {
            routes.failed(M, Way::Relayed);
            assert_eq!(routes.pick(M, &R).len(), 2);
        }
    }

    #[test]
    fn routes_are_bounded() {
        let mut routes = Routes::default();
        for member in 0..3 * MEMBERS_MAX as u128 {
            routes.failed(MemberId(member), Way::Direct);
            assert!(routes.members.len() <= MEMBERS_MAX);
        }
    }
}
