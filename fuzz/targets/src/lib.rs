//! Arbitrary bytes for everything that reads bytes from outside: one function for each reader, which must neither panic
//! nor take more time or memory than its input is worth, whatever that is.
//!
//! The functions run in two ways (`docs/fuzzing.md`): under cargo-fuzz, for hours, and in this crate's own test, for
//! seconds, on seeds that the project makes itself and on changes of these.

mod cores;
mod files;
#[cfg(test)]
mod floods;
mod guard;
mod identity;
mod input;
mod membership;
mod mutate;
mod samples;
mod session;
mod state;
mod text;
mod wire;

pub use mutate::{INPUT_MAX, mutated};

/// A reader, and inputs it understands.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name, also of its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Reads.
    pub run: fn(&[u8]),
    /// Makes inputs that mean something.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes more of them, with each number in them at its ends; where numbers are added to.
    pub extremes: fn() -> Vec<Vec<u8>>,
    /// Changed inputs in this crate's own test: some seconds in a debug build.
    pub mutations: u32,
}

macro_rules! targets {
    (@extremes $target:ident::$name:ident) => { Vec::new };
    (@extremes $target:ident::$name:ident $extremes:ident) => { $target::$name::$extremes };
    ($($name:ident in $module:path, $mutations:literal $($extremes:ident)?;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$({
            use $module as module;
            Target {
                name: stringify!($name),
                run: module::$name::run,
                seeds: module::$name::seeds,
                extremes: targets!(@extremes module::$name $($extremes)?),
                mutations: $mutations,
            }
        },)*];
    };
}

targets! {
    wire_hello in crate::wire, 100_000;
    wire_join in crate::wire, 30_000;
    wire_renew in crate::wire, 15_000;
    wire_trust in crate::wire, 30_000;
    wire_gossip in crate::wire, 50_000 extremes;
    wire_probe in crate::wire, 200_000;
    wire_control in crate::wire, 50_000 extremes;
    wire_inspection in crate::wire, 50_000 extremes;
    wire_learning in crate::wire, 100_000;
    relay_packets in crate::session, 100_000;
    session_frames in crate::session, 200_000;
    guard_messages in crate::guard, 50_000;
    manifest in crate::text, 400;
    texts in crate::text, 60_000;
    identity_texts in crate::identity, 60_000;
    certificates in crate::identity, 6_000;
    private_files in crate::files, 20_000;
    journal in crate::files, 30_000;
    recover_ledger in crate::cores, 12_000 extremes;
    recover_home in crate::cores, 3_000 extremes;
    recover_elector in crate::cores, 8_000 extremes;
    play_ledger in crate::cores, 5_000 extremes;
    play_home in crate::cores, 800 extremes;
    play_elector in crate::cores, 1_200 extremes;
    state_merge in crate::state, 400 extremes;
    ring in crate::membership, 1_200 extremes;
}

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs a target by name.
///
/// # Panics
/// What the target finds, or that there is none of that name.
pub fn run(name: &str, data: &[u8]) {
    match target(name) {
        Some(target) => (target.run)(data),
        None => panic!("there is no target {name:?}"),
    }
}
