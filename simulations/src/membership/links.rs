//! Connections of one host: few, so a sorted row of them, with the number of each.

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<(u32, u64)>);

impl Links {
    fn find(&self, other: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&other, |(at, _)| *at)
    }

    pub(super) fn get(&self, other: u32) -> Option<u64> {
        self.find(other).ok().map(|at| self.0[at].1)
    }

    pub(super) fn put(&mut self, other: u32, link: u64) {
        match self.find(other) {
            Ok(at) => self.0[at].1 = link,
            Err(at) => self.0.insert(at, (other, link)),
        }
    }

    pub(super) fn remove(&mut self, other: u32) {
        if let Ok(at) = self.find(other) {
            self.0.remove(at);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().copied()
    }
}
