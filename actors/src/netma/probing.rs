//! When to measure a link by a probe of our own, beside what QUIC tells for nothing: often while it is new, seldom while
//! the own point is unsure, rarely once it is sure.
//!
//! Everything goes by the pace, the period of the membership's probes: so a profile that has few bytes to spend probes
//! less here too. One probe, its answer and their acknowledgements are some 220 bytes in all. Whatever the number of
//! links, a member that is sure sends three a minute in the profile `lan`, one a minute in `metered`.

use std::collections::BTreeMap;

use codeco_protocol::ids::MemberId;
use codeco_protocol::units::{BootTime, Micros};

use super::{Link, LinkState};

/// Probes of a link that is new, one a pace.
const PROBES_FIRST: u32 = 10;
/// Probes in one look at most.
const PROBES_A_LOOK: usize = 16;
/// Paces between two probes of links that are not new, while the own point is unsure.
const PACES_UNSURE: u64 = 5;
/// And once it is sure.
const PACES_SURE: u64 = 20;
/// Probes of links that are not new which an unsure point may cost, until a new link comes: what has not helped by then
/// does not help.
const PROBES_UNSURE: u32 = 60;
/// A point that is off by at most this share is sure.
pub(super) const ERROR_SURE_PERMILLE: u16 = 250;

/// Whose turn it is.
#[derive(Debug, Clone)]
pub(super) struct Prober {
    next: BootTime,
    unsure: u32,
}

impl Prober {
    pub(super) fn new(now: BootTime) -> Self {
        Self { next: now, unsure: 0 }
    }

    /// The members to be probed now.
    pub(super) fn due(
        &mut self,
        now: BootTime,
        pace: Micros,
        error_permille: u16,
        links: &mut BTreeMap<MemberId, Link>,
    ) -> Vec<MemberId> {
        let up = links.iter_mut().filter(|(_, link)| link.state() == LinkState::Up);
        let mut turns: Vec<(u32, Option<BootTime>, MemberId, &mut Link)> =
            up.map(|(member, link)| (link.probes(), link.last_probe(), *member, link)).collect();
        // Those who have had fewest of their first ones come first, then who has waited longest.
        turns.sort_by_key(|(probes, last, member, _)| ((*probes).min(PROBES_FIRST), *last, *member));
        let mut due = Vec::new();
        for (probes, last, member, link) in turns {
            if due.len() >= PROBES_A_LOOK {
                break;
            }
            if probes < PROBES_FIRST {
                if last.is_some_and(|last| now.since(last) < pace) {
                    continue;
                }
                self.unsure = 0;
            } else if now < self.next {
                break;
            } else {
                let unsure = error_permille > ERROR_SURE_PERMILLE && self.unsure < PROBES_UNSURE;
                self.unsure = if unsure { self.unsure + 1 } else { self.unsure };
                let paces = if unsure { PACES_UNSURE } else { PACES_SURE };
                self.next = now + Micros(pace.0.saturating_mul(paces));
            }
            link.note_probe(now);
            due.push(member);
        }
        due
    }
}
