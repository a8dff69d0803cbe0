//! Examples for training: a past, as a node has told it, and what came after it.

use std::collections::{BTreeMap, VecDeque};

use codeco_actors::pdlc::outlook::Outlook;
use codeco_protocol::gossip::{HORIZON, LoadFact, WINDOW};
use codeco_protocol::ids::MemberId;

/// Examples kept; the oldest go first. About 4 MiB.
pub(super) const EXAMPLES_MAX: usize = 20_000;
/// Nodes whose summaries are taken.
const NODES_MAX: usize = 4_096;

/// One example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Example {
    /// Where the forecast starts from.
    pub past: Outlook,
    /// What came.
    pub actual: [f32; HORIZON],
}

#[derive(Debug, Default)]
struct Node {
    newest: u64,
    pasts: VecDeque<(u64, [Outlook; 2])>,
}

/// See the module. Bounded.
#[derive(Debug)]
pub struct Dataset {
    step_ms: u32,
    nodes: BTreeMap<MemberId, Node>,
    examples: VecDeque<Example>,
    seen: u64,
}

impl Dataset {
    /// Without examples. Only summaries in steps of this length are taken.
    #[must_use]
    pub fn new(step_ms: u32) -> Self {
        Self { step_ms, nodes: BTreeMap::new(), examples: VecDeque::new(), seen: 0 }
    }

    /// Takes a summary. What is out of range, of another step, or not news is left out.
    pub fn take(&mut self, node: MemberId, fact: &LoadFact) {
        let full = self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node);
        if full || fact.check().is_err() || fact.step_ms != self.step_ms {
            return;
        }
        let (Some(cpu), Some(memory)) = (Outlook::of(&fact.cpu), Outlook::of(&fact.memory)) else { return };
        let known = self.nodes.entry(node).or_default();
        if fact.newest <= known.newest {
            return;
        }
        known.newest = fact.newest;
        let now = [cpu, memory];
        while let Some((made, pasts)) = known.pasts.front().copied() {
            if made + HORIZON as u64 > fact.newest {
                break;
            }
            known.pasts.pop_front();
            for (past, now) in pasts.into_iter().zip(&now) {
                if let Some(actual) = came(now, made, fact.newest) {
                    self.examples.push_back(Example { past, actual });
                    self.seen += 1;
                }
            }
        }
        known.pasts.push_back((fact.newest, now));
        if known.pasts.len() > HORIZON + 1 {
            known.pasts.pop_front();
        }
        while self.examples.len() > EXAMPLES_MAX {
            self.examples.pop_front();
        }
    }

    /// Forgets the pasts of nodes that are gone; what they have taught stays.
    pub fn retain_nodes(&mut self, is_there: impl Fn(MemberId) -> bool) {
        self.nodes.retain(|node, _| is_there(*node));
    }

    /// Examples kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Examples ever seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Nodes that are known.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// For training, and the newest one in `one_in` for validation: what is validated on comes after what was trained on.
    #[must_use]
    pub fn split(&self, one_in: usize) -> (Vec<Example>, Vec<Example>) {
        let first = self.examples.len() - self.examples.len() / one_in.max(1);
        let all: Vec<Example> = self.examples.iter().copied().collect();
        (all[..first].to_vec(), all[first..].to_vec())
    }
}

/// What came in the steps after `made`, as a window that ends with `newest` shows it.
fn came(now: &Outlook, made: u64, newest: u64) -> Option<[f32; HORIZON]> {
    let back = usize::try_from(newest.checked_sub(made + 1)?).ok()?;
    let first = (WINDOW - 1).checked_sub(back)?;
    now.window.get(first..first + HORIZON)?.try_into().ok()
}
