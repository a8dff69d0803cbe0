//! Numbers for members. Ids are long, so what is kept of a member is kept by the number it has here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::graph::{Graph, halves, mix};
use crate::ids::MemberId;

/// Graphs kept for others: views of members differ for moments only.
const GRAPHS_MAX: usize = 16;

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Room for numbers below `len`.
    pub(super) fn with_room(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn holds(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(super) fn put(&mut self, at: usize, held: bool) {
        if at / 64 >= self.0.len() {
            self.0.resize(at / 64 + 1, 0);
        }
        let (word, bit) = (&mut self.0[at / 64], 1 << (at % 64));
        *word = if held { *word | bit } else { *word & !bit };
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.0.iter().zip(0_u32..).filter(|(word, _)| **word != 0);
        words.flat_map(|(word, at)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| 64 * at + bit)
        })
    }
}

/// Who has which number.
#[derive(Debug, Clone)]
pub(super) struct Roster {
    ids: Vec<MemberId>,
    /// Open addressing: numbers plus one, at the hash of their ids or the next free place; 0 is free. At least half are
    /// free.
    index: Vec<u32>,
}

impl Roster {
    /// Numbers in the order given.
    pub(super) fn new(ids: Vec<MemberId>) -> Self {
        let mut roster = Self { ids, index: Vec::new() };
        roster.build_index();
        roster
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, at: u32) -> MemberId {
        self.ids[at as usize]
    }

    pub(super) fn find(&self, id: MemberId) -> Option<u32> {
        let mut place = self.place(id);
        loop {
            let at = self.index[place].checked_sub(1)?;
            if self.id(at) == id {
                return Some(at);
            }
            place = (place + 1) & (self.index.len() - 1);
        }
    }

    pub(super) fn add(&mut self, id: MemberId) -> u32 {
        self.ids.push(id);
        let at = self.last();
        if 2 * self.ids.len() > self.index.len() {
            self.build_index();
        } else {
            self.note(at);
        }
        at
    }

    /// Gives a number to another member.
    pub(super) fn replace(&mut self, at: u32, id: MemberId) {
        self.ids[at as usize] = id;
        self.build_index();
    }

    fn last(&self) -> u32 {
        u32::try_from(self.ids.len() - 1).unwrap_or(u32::MAX)
    }

    fn place(&self, id: MemberId) -> usize {
        let [high, low] = halves(id);
        #[allow(clippy::cast_possible_truncation)]
        let hash = mix(high ^ mix(low)) as usize;
        hash & (self.index.len() - 1)
    }

    fn note(&mut self, at: u32) {
        let mut place = self.place(self.id(at));
        while self.index[place] != 0 {
            place = (place + 1) & (self.index.len() - 1);
        }
        self.index[place] = at + 1;
    }

    fn build_index(&mut self) {
        self.index = vec![0; (4 * self.ids.len()).next_power_of_two().max(16)];
        for at in 0..=self.last() {
            self.note(at);
        }
    }
}

/// What rings of one process may have in common: the same members, and graphs over them. A simulation of many is small and
/// fast with it; nothing behaves otherwise than without.
#[derive(Debug)]
pub struct Shared {
    pub(super) roster: Arc<Roster>,
    graphs: Mutex<VecDeque<Arc<Graph>>>,
}

impl Shared {
    /// For rings of these members.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = MemberId>) -> Self {
        let roster = Arc::new(Roster::new(members.into_iter().collect()));
        Self { roster, graphs: Mutex::default() }
    }

    /// The graph over `living`, made now if nobody has asked for it lately.
    pub(super) fn graph(&self, living: &Bits, rings: u64, mesh_max: usize) -> Arc<Graph> {
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(graph) = graphs.iter().find(|graph| graph.is_over(living, rings, mesh_max)) {
            return Arc::clone(graph);
        }
        let graph = Arc::new(Graph::over(&self.roster, living, rings, mesh_max));
        graphs.truncate(GRAPHS_MAX - 1);
        graphs.push_front(Arc::clone(&graph));
        graph
    }
}
