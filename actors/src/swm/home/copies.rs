//! Copies of applications on other members, so that a home's disk is not the only one that knows of them.
//!
//! A home sends the records that stand for an application to two other members, one after every change, and counts it as
//! durable where they have said that it is on their disk. Who keeps a copy decides nothing with it: it shows that the
//! application exists, and what was wanted, when the home cannot be asked.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use codeco_protocol::ids::{AppUid, MemberId};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::Epoch;
use codeco_protocol::units::BootTime;
use codeco_protocol::wire::{self, WireMessage};

use super::foreign::NUMBER_MAX;
use super::{App, Home, HomeOutput, HomeRecord};

/// Members that keep a copy of each application.
pub const KEEPERS: usize = 2;
/// Most copies kept for others.
const COPIES_MAX: usize = 10_000;
/// Most bytes of copies kept for others.
const COPIES_BYTES_MAX: usize = 64 << 20;

/// The records that stand for an application, as they travel.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct AppRecords(pub Vec<HomeRecord>);

impl WireMessage for AppRecords {
    const KIND: u16 = 35;
    const MAX_LEN: usize = 512 << 10;
}

/// How far others keep an application.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Kept {
    /// Grows with every record of the application, also from life to life of the home.
    pub(super) revision: u64,
    /// Revision and generation that each member has on disk.
    pub(super) acked: BTreeMap<MemberId, (u64, u64)>,
    pub(super) next_send: BootTime,
}

/// A copy kept for another home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The home's right; its owner is the home.
    pub epoch: Epoch,
    /// How new it is.
    pub revision: u64,
    /// The records, as they came.
    pub records: Vec<u8>,
    /// Whether its application may be adopted, as it says itself.
    pub adoptable: super::Adoptable,
}

impl Copy {
    /// The application as it was then.
    #[must_use]
    pub fn app(&self, uid: AppUid) -> Option<App> {
        let AppRecords(records) = wire::decode(&self.records).ok()?;
        Home::app_of(uid, &records, &[])
    }
}

impl Home {
    /// Copies kept for other homes.
    pub fn copies(&self) -> impl Iterator<Item = (AppUid, &Copy)> {
        self.copies.iter().map(|(uid, copy)| (*uid, copy))
    }

    /// Whether anybody could keep a copy now.
    #[must_use]
    pub fn has_keepers(&self) -> bool {
        !self.keepers.is_empty()
    }

    /// Sends applications to those who are to keep them, until they have said so.
    pub(super) fn send_copies(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        self.drop_overtaken(now, out);
        let (resend, keepers) = (self.config.resend, &self.keepers);
        let mut due: Vec<(AppUid, Vec<MemberId>)> = Vec::new();
        for (uid, app) in self.apps.iter_mut().filter(|(_, app)| !app.retired) {
            let kept = &mut app.kept;
            if kept.next_send > now {
                continue;
            }
            // Those who have an older copy first, so that there are no more of them than must be.
            let known = keepers.iter().filter(|member| kept.acked.contains_key(member));
            let fresh = keepers.iter().filter(|member| !kept.acked.contains_key(member));
            // The home before this one hears of it in any case: it gives up by that.
            let former = app.former.iter().filter(|member| !kept.acked.contains_key(member));
            // And whoever could adopt it hears of its end.
            let ended = keepers.iter().filter(|member| app.deleting && app.kept_by.contains_key(member));
            let chosen = known.chain(fresh).take(KEEPERS).chain(former).chain(ended);
            let chosen = chosen.collect::<BTreeSet<_>>().into_iter();
            let lacking: Vec<MemberId> = chosen
                .filter(|member| kept.acked.get(member).is_none_or(|(revision, _)| *revision < kept.revision))
                .copied()
                .collect();
            if !lacking.is_empty() {
                kept.next_send = now + resend;
                due.push((*uid, lacking));
            }
        }
        for (uid, members) in due {
            self.note_keepers(uid, &members, out);
            let Some(app) = self.apps.get(&uid) else { continue };
            let (epoch, revision) = (app.epoch, app.kept.revision);
            // One that is too large stays where it is: its home says that it is durable there alone.
            let Ok(records) = wire::encode(&AppRecords(self.records_of(uid))) else { continue };
            for to in members {
                let records = records.clone();
                let message = ControlMessage::Keep { app: uid, epoch, revision, records };
                out.push(HomeOutput::Send { to, message });
            }
        }
    }

    /// A message about a copy, from any member.
    pub(super) fn handle_copy(
        &mut self,
        now: BootTime,
        from: MemberId,
        message: ControlMessage,
        out: &mut Vec<HomeOutput>,
    ) {
        use ControlMessage as M;
        match message {
            M::Keep { app, epoch, revision, records } if epoch.owner == from => {
                self.give_way(app, epoch, &records, out);
                if self.apps.get(&app).is_some_and(|own| !own.retired) {
                    // This home speaks for it under the higher epoch: it tells the other one so by what it sends.
                    self.claim(app, from, out);
                    return;
                }
                if self.was_dropped(app, epoch) {
                    return;
                }
                let known = self.copies.get(&app).map(|copy| (copy.epoch, copy.revision));
                if known.is_none_or(|known| known < (epoch, revision)) && self.takes(app, &records) {
                    self.record(HomeRecord::Copied { app, epoch, revision, records }, out);
                }
                // One that has yet to take back what was its own says so by its silence.
                let done = !self.apps.contains_key(&app);
                if let Some(copy) = self.copies.get(&app).filter(|copy| copy.epoch == epoch && done) {
                    let message = M::Kept { app, epoch, revision: copy.revision };
                    out.push(HomeOutput::Send { to: from, message });
                }
            }
            M::Kept { app, epoch, revision } => {
                if self.apps.get(&app).is_some_and(|own| own.epoch == epoch && own.former == Some(from)) {
                    self.record(HomeRecord::Succeeds { app, former: None }, out);
                }
                let Some(app) = self.apps.get_mut(&app).filter(|app| app.epoch == epoch) else { return };
                if revision > NUMBER_MAX && revision != u64::MAX {
                    return;
                }
                if app.retired || revision == u64::MAX {
                    if app.retired && revision == u64::MAX {
                        app.kept.acked.insert(from, (revision, app.generation));
                    }
                    return;
                }
                let (generation, kept) = (app.generation, &mut app.kept);
                if revision > kept.revision {
                    // Of an earlier life of this home: what is sent must be newer than that.
                    kept.revision = revision + 1;
                    kept.next_send = now;
                } else if revision == kept.revision {
                    kept.acked.insert(from, (revision, generation));
                } else {
                    let known = kept.acked.entry(from).or_default();
                    known.0 = known.0.max(revision);
                }
            }
            M::Drop { app, epoch } if epoch.owner == from => {
                if self.copies.get(&app).is_some_and(|copy| copy.epoch == epoch) {
                    self.record(HomeRecord::CopyDropped { app }, out);
                }
                self.note_dropped(app, epoch);
                // No copy has that revision: it says that there is none.
                let message = M::Kept { app, epoch, revision: u64::MAX };
                out.push(HomeOutput::Send { to: from, message });
            }
            _ => {}
        }
    }

    /// Of applications that another home speaks for: whoever was given a copy by this one is to drop it.
    fn drop_overtaken(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let mut due = Vec::new();
        for (uid, app) in self.apps.iter().filter(|(_, app)| app.retired && app.kept.next_send <= now) {
            due.push((*uid, app.epoch, self.who_does_not_know(app).collect::<Vec<_>>()));
        }
        for (app, epoch, members) in due {
            if let Some(app) = self.apps.get_mut(&app) {
                app.kept.next_send = now + self.config.resend;
            }
            for to in members {
                out.push(HomeOutput::Send { to, message: ControlMessage::Drop { app, epoch } });
            }
        }
    }

    /// Writes down who may adopt an application before they are told of it.
    fn note_keepers(&mut self, uid: AppUid, members: &[MemberId], out: &mut Vec<HomeOutput>) {
        for member in members {
            let Some(app) = self.apps.get(&uid) else { return };
            let epoch = app.epoch;
            if app.spec.context.demands.adopt_after.is_some() && app.kept_by.get(member) != Some(&epoch) {
                self.record(HomeRecord::KeptBy { app: uid, member: *member, epoch }, out);
            }
        }
    }

    /// Another member takes itself for the home of an application of this one, under a lower epoch.
    fn claim(&mut self, app: AppUid, from: MemberId, out: &mut Vec<HomeOutput>) {
        let Some(own) = self.apps.get(&app) else { return };
        if own.former != Some(from) {
            self.record(HomeRecord::Succeeds { app, former: Some(from) }, out);
        }
    }

    /// Whether a copy can be kept: it is one, and there is room.
    fn takes(&self, app: AppUid, records: &[u8]) -> bool {
        let old = self.copies.get(&app).map_or(0, |copy| copy.records.len());
        let bytes: usize = self.copies.values().map(|copy| copy.records.len()).sum();
        let room =
            (old > 0 || self.copies.len() < COPIES_MAX) && bytes - old + records.len() <= COPIES_BYTES_MAX;
        room && wire::decode::<AppRecords>(records)
            .is_ok_and(|AppRecords(records)| Home::app_of(app, &records, &[]).is_some())
    }

    /// An application is gone: those who keep a copy may drop it.
    pub(super) fn drop_copies(&self, app: AppUid, out: &mut Vec<HomeOutput>) {
        let Some(gone) = self.apps.get(&app) else { return };
        for to in gone.kept.acked.keys() {
            let message = ControlMessage::Drop { app, epoch: gone.epoch };
            out.push(HomeOutput::Send { to: *to, message });
        }
    }
}

impl App {
    /// Other members that have its present specification on disk.
    pub fn keepers(&self) -> impl Iterator<Item = MemberId> {
        let newest = self.generation;
        self.kept.acked.iter().filter(move |(_, (_, generation))| *generation >= newest).map(|(id, _)| *id)
    }

    /// As its home has told: those members have its present specification on disk.
    pub(crate) fn set_keepers(&mut self, members: &[MemberId]) {
        let newest = self.generation;
        self.kept.acked = members.iter().map(|id| (*id, (self.kept.revision, newest))).collect();
    }
}
