//! The three deciders: restored from whatever their journals say, and told whatever others say.

mod elector;
mod home;
mod ledger;

use codeco_protocol::ids::MemberId;
use codeco_protocol::messages::{ControlBatch, ControlMessage};
use codeco_protocol::units::BootTime;
use codeco_protocol::wire::WireMessage;

use crate::input::{Input, Seed, extremes, read_body};
use crate::samples;

pub(crate) use elector::{play_elector, recover_elector};
pub(crate) use home::{play_home, recover_home};
pub(crate) use ledger::{play_ledger, recover_ledger};

/// Most steps of one input.
const STEPS_MAX: usize = 128;

/// Members that speak: the one that is played, and five others.
fn member(byte: u8) -> MemberId {
    MemberId(u128::from(byte % 6) + 1)
}

/// Messages of one step.
fn messages(input: &mut Input<'_>) -> Vec<ControlMessage> {
    read_body::<ControlBatch>(input.piece()).map(|batch| batch.messages).unwrap_or_default()
}

/// Time passes: by some milliseconds, or by a long time.
fn pass(now: &mut BootTime, input: &mut Input<'_>) {
    let step = input.word();
    let millis = if step > 60_000 { u64::from(step) * 1_000 } else { u64::from(step) };
    now.0 = now.0.saturating_add(millis * 1_000);
}

/// Records, each in a piece of its own.
fn records<R: WireMessage + std::fmt::Debug>(data: &[u8]) -> Vec<R> {
    let mut input = Input::new(data);
    let mut records = Vec::new();
    while !input.is_empty() && records.len() < 256 {
        records.extend(read_body::<R>(input.piece()));
    }
    records
}

/// All of these records, with one of them at its ends.
fn extreme_records<R: WireMessage>(all: &[R]) -> Vec<Vec<u8>> {
    let whole = |records: &[R]| records.iter().fold(Seed::default(), Seed::message);
    let each = |at: usize| {
        extremes(&all[at]).into_iter().map(move |body| {
            let seed = whole(&all[..at]).piece(&body);
            all[at + 1..].iter().fold(seed, Seed::message).0
        })
    };
    (0..all.len()).flat_map(each).collect()
}

/// Some of these messages, one after the other and each of member 2, with one of them at its ends; after each comes `then`.
fn extreme_stories(before: &Seed, all: &[ControlMessage], then: &dyn Fn(Seed) -> Seed) -> Vec<Vec<u8>> {
    let said = |seed: Seed, message: &ControlMessage| {
        then(seed.byte(0).byte(1).message(&samples::batch(vec![message.clone()])))
    };
    let each = |at: usize| {
        extremes(&samples::batch(vec![all[at].clone()])).into_iter().map(move |body| {
            let seed = all[..at].iter().fold(before.clone(), said);
            let seed = then(seed.byte(0).byte(1).piece(&body));
            all[at + 1..].iter().fold(seed, said).0
        })
    };
    (0..all.len()).flat_map(each).collect()
}
