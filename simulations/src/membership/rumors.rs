//! Rumors on their way, each kept once for all whom one member tells it.

use codeco_protocol::gossip::Rumor;

/// Stands for a rumor on its way to one member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said(u32);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rumors {
    /// With how many are still to hear it.
    all: Vec<(Rumor, u32)>,
    free: Vec<u32>,
    last: Option<u32>,
}

impl Rumors {
    /// One more is told.
    pub(super) fn say(&mut self, rumor: Rumor) -> Said {
        if let Some(last) = self.last
            && self.all[last as usize].0 == rumor
        {
            self.all[last as usize].1 += 1;
            return Said(last);
        }
        let at = self.free.pop().unwrap_or_else(|| u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        if at as usize == self.all.len() {
            self.all.push((rumor, 1));
        } else {
            self.all[at as usize] = (rumor, 1);
        }
        self.last = Some(at);
        Said(at)
    }

    /// It arrives.
    pub(super) fn take(&mut self, said: Said) -> Rumor {
        let (rumor, waiting) = &mut self.all[said.0 as usize];
        if *waiting > 1 {
            *waiting -= 1;
            return rumor.clone();
        }
        let rumor = std::mem::replace(rumor, Rumor::Dead(Vec::new()));
        self.free(said);
        rumor
    }

    /// It never does.
    pub(super) fn drop(&mut self, said: Said) {
        let (rumor, waiting) = &mut self.all[said.0 as usize];
        *waiting -= 1;
        if *waiting == 0 {
            *rumor = Rumor::Dead(Vec::new());
            self.free(said);
        }
    }

    fn free(&mut self, Said(at): Said) {
        self.free.push(at);
        if self.last == Some(at) {
            self.last = None;
        }
    }
}
