//! Every target on its seeds and on changes of these: the same inputs each time, but for keys and certificates.

use std::path::PathBuf;

use codeco_fuzz::{TARGETS, mutated, target};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory of the whole test process: an allocation that follows a length in an input does not fit.
const MEMORY_MAX: u64 = 1 << 30;

/// Keeps the input at hand if the target panics.
struct Input<'a> {
    name: &'a str,
    bytes: Vec<u8>,
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.input", self.name));
        let kept = std::fs::write(&file, &self.bytes);
        let (name, file) = (self.name, file.display());
        eprintln!("{name}: cargo run -p codeco-fuzz -- run {name} {file} ({kept:?})");
    }
}

fn run(name: &str) {
    let soft = getrlimit(Resource::Data);
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(MEMORY_MAX), maximum: soft.maximum });
    let target = target(name).expect("a target of that name");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty() && seeds.iter().any(|seed| seed.len() > 8), "seeds that mean something");
    let mut input = Input { name, bytes: Vec::new() };
    let extremes = (target.extremes)();
    for seed in [vec![]].iter().chain(&seeds).chain(&extremes) {
        input.bytes.clone_from(seed);
        (target.run)(&input.bytes);
    }
    let mut random = fastrand::Rng::with_seed(0x00c0_dec0);
    // Changes of changes go further than changes of seeds.
    let mut pool = seeds.clone();
    for _ in 0..target.mutations {
        // Most changes of changes mean nothing any more.
        let bases = if random.u8(..) < 64 { &pool } else { &seeds };
        let (base, other) = (random.usize(..bases.len()), random.usize(..seeds.len()));
        input.bytes = mutated(&mut random, &bases[base], &seeds[other]);
        (target.run)(&input.bytes);
        if random.u8(..) < 32 {
            let place = random.usize(..256);
            match pool.get_mut(place).filter(|_| place >= seeds.len()) {
                Some(old) => old.clone_from(&input.bytes),
                None => pool.push(input.bytes.clone()),
            }
        }
    }
}

macro_rules! tests {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            run($name);
        })*

        const TESTED: &[&str] = &[$($name,)*];
    };
}

tests! {
    first_messages_arbitrary_are_read_or_refused: "wire_hello";
    joins_arbitrary_are_read_or_refused: "wire_join";
    renewals_arbitrary_are_read_or_refused: "wire_renew";
    trust_lists_arbitrary_are_read_or_refused: "wire_trust";
    gossip_arbitrary_is_read_or_refused: "wire_gossip";
    probes_arbitrary_are_read_or_refused: "wire_probe";
    control_messages_arbitrary_are_read_or_refused: "wire_control";
    inspections_arbitrary_are_read_or_refused: "wire_inspection";
    models_arbitrary_are_read_or_refused: "wire_learning";
    relayed_packets_arbitrary_are_passed_on_or_dropped: "relay_packets";
    session_frames_arbitrary_are_read_or_refused: "session_frames";
    guard_messages_arbitrary_are_read_or_refused: "guard_messages";
    manifests_arbitrary_are_read_or_refused: "manifest";
    texts_arbitrary_are_read_or_refused: "texts";
    identities_arbitrary_are_read_or_refused: "identity_texts";
    certificates_arbitrary_are_read_or_refused: "certificates";
    private_files_arbitrary_are_read_or_refused: "private_files";
    journals_arbitrary_are_read_or_refused: "journal";
    ledger_restored_from_arbitrary_records_goes_on: "recover_ledger";
    home_restored_from_arbitrary_records_goes_on: "recover_home";
    elector_restored_from_arbitrary_records_goes_on: "recover_elector";
    ledger_told_anything_keeps_its_promises: "play_ledger";
    home_told_anything_keeps_its_word: "play_home";
    elector_told_anything_keeps_its_word: "play_elector";
    maps_told_in_any_order_end_up_the_same: "state_merge";
    membership_told_anything_goes_on: "ring";
}

#[test]
fn target_without_a_test_or_without_a_program_of_its_own_is_found() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED, "each target has a test here");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the workspace of cargo-fuzz");
    for name in &names {
        let program = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs")));
        assert!(program.is_ok_and(|text| text.contains(&format!("{name:?}"))), "fuzz/fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("name = {name:?}")), "fuzz/Cargo.toml has no {name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
}
