//! What is passed on over one connection of the maps of others.
//!
//! In a cluster of many, each member hears of each change over every connection it has. So what travels over all of them is
//! only how far a map is known; the map itself is asked for, of one who has offered it and, if that one does not deliver,
//! of the next (lazy push, as in Leitão, Pereira, Rodrigues, «Epidemic Broadcast Trees», SRDS 2007). Owners push their own
//! changes to everybody they are connected to.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::gossip::{LIST_MAX, Mark};
use codeco_protocol::ids::MemberId;
use codeco_protocol::units::{BootTime, Micros};

/// Whoever was asked is given so long before another one is asked.
const DELIVERS_WITHIN: Micros = Micros::from_millis(400);
/// One that was asked and has not delivered is not asked again before this, if others have the same.
const AGAIN_AFTER: Micros = Micros::from_secs(2);
/// Times that one offer is asked for. It comes again with the next change, and with the next connection.
const TRIES_MAX: u32 = 4;

/// What the other end has offered, and we lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offered {
    mark: Mark,
    tries: u32,
    next: BootTime,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Passing {
    /// How far the other end knows each map, or was offered it; `None` until it has said so.
    known: Option<BTreeMap<MemberId, Mark>>,
    /// What it has asked for, and was not sent yet.
    wanted: BTreeSet<MemberId>,
    offered: BTreeMap<MemberId, Offered>,
}

impl Passing {
    /// How far the other end knows each map; `None` until it has said so.
    pub fn known(&self) -> Option<&BTreeMap<MemberId, Mark>> {
        self.known.as_ref()
    }

    /// The other end knows these maps so far.
    pub fn has(&mut self, marks: impl IntoIterator<Item = (MemberId, Mark)>) {
        let known = self.known.get_or_insert_default();
        for (owner, mark) in marks {
            if known.len() < LIST_MAX || known.contains_key(&owner) {
                known.insert(owner, mark);
            }
        }
    }

    /// The other end has these maps so far, and `lacks` says of which we do not.
    pub fn is_offered(
        &mut self,
        now: BootTime,
        marks: Vec<(MemberId, Mark)>,
        lacks: impl Fn(MemberId, Mark) -> bool,
    ) {
        for (owner, mark) in &marks {
            if lacks(*owner, *mark) && (self.offered.len() < LIST_MAX || self.offered.contains_key(owner)) {
                let offered = Offered { mark: *mark, tries: 0, next: now };
                self.offered.entry(*owner).and_modify(|known| known.mark = *mark).or_insert(offered);
            }
        }
        self.has(marks);
    }

    /// The other end wants these maps from there on.
    pub fn is_asked(&mut self, marks: Vec<(MemberId, Mark)>) {
        self.wanted.extend(marks.iter().map(|(owner, _)| *owner));
        self.has(marks);
    }

    /// What was asked for, once.
    pub fn take_wanted(&mut self) -> BTreeSet<MemberId> {
        std::mem::take(&mut self.wanted)
    }

    /// What may be asked for now: whoever asks says so by [`Self::asked`]. `lacks`: whether it is still news.
    pub fn due(&mut self, now: BootTime, lacks: impl Fn(MemberId, Mark) -> bool, due: &mut Vec<MemberId>) {
        self.offered.retain(|owner, offered| {
            if !lacks(*owner, offered.mark) || offered.tries >= TRIES_MAX {
                return false;
            }
            if offered.next <= now {
                due.push(*owner);
                offered.next = now + DELIVERS_WITHIN;
            }
            true
        });
    }

    /// These are asked for.
    pub fn asked(&mut self, owners: &[MemberId]) {
        for owner in owners {
            if let Some(offered) = self.offered.get_mut(owner) {
                offered.tries += 1;
                if offered.tries >= TRIES_MAX {
                    self.offered.remove(owner);
                }
            }
        }
    }

    /// When [`Self::due`] has something next.
    pub fn next_ask(&self) -> Option<BootTime> {
        self.offered.values().map(|offered| offered.next).min()
    }
}

/// Whom this process asks for which map: of several who offer the same, one at a time.
#[derive(Debug, Default)]
pub struct Asking {
    asked: BTreeMap<MemberId, (MemberId, BootTime)>,
}

impl Asking {
    /// Whether `peer` may be asked for the map of `owner`; if so, it is.
    pub fn may(&mut self, now: BootTime, owner: MemberId, peer: MemberId) -> bool {
        if let Some((asked, at)) = self.asked.get(&owner) {
            let patience = if *asked == peer { AGAIN_AFTER } else { DELIVERS_WITHIN };
            if now.since(*at) < patience {
                return false;
            }
        }
        if self.asked.len() >= LIST_MAX {
            self.asked.retain(|_, (_, at)| now.since(*at) < AGAIN_AFTER);
        }
        self.asked.insert(owner, (peer, now));
        true
    }

    /// It has been delivered.
    pub fn delivered(&mut self, owner: MemberId) {
        self.asked.remove(&owner);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const OWNER: MemberId = MemberId(7);
    const A: MemberId = MemberId(1);
    const B: MemberId = MemberId(2);

    const fn ms(millis: u64) -> BootTime {
        BootTime(millis * 1_000)
    }

    fn asks(
        passing: &mut Passing,
        now: BootTime,
        lacks: impl Fn(MemberId, Mark) -> bool,
        may: impl Fn(MemberId) -> bool,
    ) -> Vec<MemberId> {
        let mut due = Vec::new();
        passing.due(now, lacks, &mut due);
        due.retain(|owner| may(*owner));
        passing.asked(&due);
        due
    }

    fn mark(version: u64) -> Mark {
        Mark { incarnation: 1, version }
    }

    #[test]
    fn map_offered_by_two_is_asked_for_of_one_and_of_the_other_only_if_that_one_does_not_deliver() {
        let (mut a, mut b) = (Passing::default(), Passing::default());
        let asking = RefCell::new(Asking::default());
        let ask = |passing: &mut Passing, now: BootTime, peer| {
            asks(passing, now, |_, _| true, |owner| asking.borrow_mut().may(now, owner, peer))
        };
        a.is_offered(ms(0), vec![(OWNER, mark(3))], |_, _| true);
        b.is_offered(ms(10), vec![(OWNER, mark(3))], |_, _| true);
        assert_eq!(ask(&mut a, ms(10), A), [OWNER]);
        assert_eq!(ask(&mut b, ms(10), B), []);
        assert_eq!(b.next_ask(), Some(ms(410)));
        assert_eq!(ask(&mut b, ms(410), B), [OWNER], "the first has had its time");
        assert_eq!(ask(&mut a, ms(420), A), []);
        // It has come.
        assert_eq!(asks(&mut a, ms(900), |_, _| false, |_| true), []);
        assert_eq!(a.next_ask(), None);
    }

    #[test]
    fn offer_that_is_never_kept_is_given_up() {
        let mut passing = Passing::default();
        passing.is_offered(ms(0), vec![(OWNER, mark(u64::MAX))], |_, _| true);
        let asks = (0..100).map(|step| asks(&mut passing, ms(step * 500), |_, _| true, |_| true).len());
        assert_eq!(asks.sum::<usize>(), TRIES_MAX as usize);
        assert_eq!(passing.next_ask(), None);
    }

    #[test]
    fn one_that_offers_and_does_not_deliver_cannot_keep_others_from_being_asked() {
        let mut asking = Asking::default();
        assert!(asking.may(ms(0), OWNER, A));
        assert!(!asking.may(ms(399), OWNER, B));
        assert!(!asking.may(ms(400), OWNER, A), "others first");
        assert!(asking.may(ms(400), OWNER, B));
        asking.delivered(OWNER);
        assert!(asking.may(ms(401), OWNER, A));
    }

    #[test]
    fn asker_is_sent_once_what_it_asked_for_from_where_it_is() {
        let mut passing = Passing::default();
        assert!(passing.known().is_none(), "it has not said how far it is");
        passing.is_offered(ms(0), vec![(OWNER, mark(9))], |_, _| false);
        passing.is_asked(vec![(OWNER, mark(2))]);
        assert_eq!(passing.known().unwrap()[&OWNER], mark(2));
        assert_eq!(passing.take_wanted(), BTreeSet::from([OWNER]));
        assert!(passing.take_wanted().is_empty());
        assert_eq!(asks(&mut passing, ms(0), |_, _| true, |_| true), [], "we had it");
    }
}
