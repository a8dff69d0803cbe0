//! Resource vectors: what a node has, what a replica takes.

use std::collections::BTreeMap;
use std::fmt;

use bincode::{Decode, Encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, MilliCpu};

/// Most extended resources (`vendor.example/device`) one vector may name.
pub const EXTENDED_MAX: usize = 16;

/// An amount of each resource. Missing extended resources count as zero of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// Processor time in thousandths of a core.
    pub cpu: MilliCpu,
    /// Memory in bytes.
    pub memory: Bytes,
    /// Extended resources by full name, in whole units.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<String, u64>,
}

impl Resources {
    /// Processor and memory only.
    #[must_use]
    pub fn new(cpu: MilliCpu, memory: Bytes) -> Self {
        Self { cpu, memory, extended: BTreeMap::new() }
    }

    /// Whether every amount is at most that of `other`.
    #[must_use]
    pub fn fits_in(&self, other: &Resources) -> bool {
        self.shortage_in(other).is_none()
    }

    /// The first resource of which `free` has too little, with wanted and free amounts, for people.
    #[must_use]
    pub fn shortage_in(&self, free: &Resources) -> Option<String> {
        if self.cpu > free.cpu {
            return Some(format!("cpu: wants {}, {} free", self.cpu, free.cpu));
        }
        if self.memory > free.memory {
            return Some(format!("memory: wants {}, {} free", self.memory, free.memory));
        }
        self.extended.iter().find_map(|(name, wanted)| {
            let left = free.extended.get(name).copied().unwrap_or(0);
            (*wanted > left).then(|| format!("{name}: wants {wanted}, {left} free"))
        })
    }

    /// The sum.
    #[must_use]
    pub fn plus(&self, other: &Resources) -> Resources {
        let mut sum = self.clone();
        sum.cpu += other.cpu;
        sum.memory += other.memory;
        for (name, amount) in &other.extended {
            let entry = sum.extended.entry(name.clone()).or_default();
            *entry = entry.saturating_add(*amount);
        }
        sum
    }

    /// The difference; what would go below zero is zero.
    #[must_use]
    pub fn minus(&self, other: &Resources) -> Resources {
        let mut rest = self.clone();
        rest.cpu = rest.cpu.saturating_sub(other.cpu);
        rest.memory = rest.memory.saturating_sub(other.memory);
        for (name, amount) in &other.extended {
            if let Some(entry) = rest.extended.get_mut(name) {
                *entry = entry.saturating_sub(*amount);
            }
        }
        rest
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu {}, memory {}", self.cpu, self.memory)?;
        for (name, amount) in &self.extended {
            write!(f, ", {name} {amount}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(cpu: u64, memory: u64, gpus: u64) -> Resources {
        let mut r = Resources::new(MilliCpu(cpu), Bytes(memory));
        r.extended.insert("example.com/gpu".into(), gpus);
        r
    }

    #[test]
    fn resources_that_do_not_fit_name_the_first_short_one() {
        let free = Resources::new(MilliCpu(1_000), Bytes(1 << 30));
        assert!(Resources::new(MilliCpu(1_000), Bytes(1 << 30)).fits_in(&free));
        assert_eq!(gpu(1, 1, 1).shortage_in(&free).as_deref(), Some("example.com/gpu: wants 1, 0 free"));
        assert_eq!(gpu(2_000, 1, 1).shortage_in(&free).as_deref(), Some("cpu: wants 2, 1 free"));
    }

    #[test]
    fn resources_added_and_taken_away_are_the_same_again() {
        let a = gpu(500, 10, 2);
        let b = gpu(250, 20, 1);
        assert_eq!(a.plus(&b).minus(&b), a);
    }
}
