//! The network between machines: who reaches whom, how long that takes, and what gets lost.

use super::scenario::NetShape;

/// A set of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Side(Vec<u64>);

impl Side {
    pub(crate) fn of(machines: usize, members: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = vec![0; machines.div_ceil(64)];
        for at in members {
            bits[at / 64] |= 1 << (at % 64);
        }
        Self(bits)
    }

    pub(crate) fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

/// What gets through nothing of: from one side to the other.
#[derive(Debug, Clone)]
struct Cut {
    id: u64,
    from: Side,
    to: Side,
}

#[derive(Debug)]
pub(crate) struct Net {
    shape: NetShape,
    /// The site of each machine: those of a cluster are in one place.
    sites: Vec<u32>,
    /// One way between two sites, in microseconds.
    between: Vec<Vec<u32>>,
    cuts: Vec<Cut>,
    next_cut: u64,
    /// Packets lost, of a million, while it storms.
    pub(crate) loss: u32,
    /// Messages repeated, of a million.
    pub(crate) repeat: u32,
    /// Messages held up for seconds, of a million.
    pub(crate) hold_up: u32,
}

pub(crate) const MILLION: u32 = 1_000_000;
/// A packet that is lost is sent again after this long, and so on, twice as long each time.
const RESEND: u64 = 60_000;
/// Until so many times.
const TRIES: u32 = 4;
/// A letter that takes longer is given up.
const CALL_TIMEOUT: u64 = 1_000_000;

impl Net {
    pub(crate) fn new(shape: NetShape, sites: Vec<u32>, places: &[(f64, f64)]) -> Self {
        let between =
            places.iter().map(|a| places.iter().map(|b| shape.delay_between(*a, *b)).collect()).collect();
        Self {
            shape,
            sites,
            between,
            cuts: Vec::new(),
            next_cut: 0,
            loss: shape.loss_per_million,
            repeat: 0,
            hold_up: 0,
        }
    }

    /// From now on everything arrives.
    pub(crate) fn clear_up(&mut self) {
        self.cuts.clear();
        (self.loss, self.repeat, self.hold_up) = (self.shape.loss_per_million, 0, 0);
    }

    pub(crate) fn cut(&mut self, from: Side, to: Side) -> u64 {
        self.next_cut += 1;
        self.cuts.push(Cut { id: self.next_cut, from, to });
        self.next_cut
    }

    pub(crate) fn heal(&mut self, id: u64) -> bool {
        let before = self.cuts.len();
        self.cuts.retain(|cut| cut.id != id);
        self.cuts.len() != before
    }

    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        !self.cuts.iter().any(|cut| cut.from.has(from) && cut.to.has(to))
    }

    /// One way, without what may be lost.
    pub(crate) fn delay(&self, from: usize, to: usize, rng: &mut fastrand::Rng) -> u64 {
        let (a, b) = (self.sites[from] as usize, self.sites[to] as usize);
        let base = u64::from(self.between[a][b]);
        base + rng.u64(self.shape.delay_us.0..=self.shape.delay_us.1)
    }

    pub(crate) fn loses(&self, rng: &mut fastrand::Rng) -> bool {
        self.loss > 0 && rng.u32(0..MILLION) < self.loss
    }

    /// How long something takes that is sent again until it arrives.
    pub(crate) fn stream(&self, from: usize, to: usize, rng: &mut fastrand::Rng) -> u64 {
        let (mut span, mut again) = (self.delay(from, to, rng), RESEND);
        while self.loses(rng) {
            span += again;
            again = (again * 2).min(RESEND << TRIES);
        }
        span
    }

    /// The same of a letter, which may be held up besides. `None`: nobody waits for it any more.
    pub(crate) fn letter(&self, from: usize, to: usize, rng: &mut fastrand::Rng) -> Option<u64> {
        let mut span = self.stream(from, to, rng);
        if span > CALL_TIMEOUT {
            return None;
        }
        if self.hold_up > 0 && rng.u32(0..MILLION) < self.hold_up {
            span += rng.u64(500_000..12_000_000);
        }
        Some(span)
    }

    pub(crate) fn repeats(&self, rng: &mut fastrand::Rng) -> bool {
        self.repeat > 0 && rng.u32(0..MILLION) < self.repeat
    }
}
