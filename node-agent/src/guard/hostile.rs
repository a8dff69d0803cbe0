//! What agent and guard make of arbitrary bytes on their socket: a door for `codeco-fuzz`, and for nobody else.

use bincode::{Decode, Encode};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

use super::codec::{decode, encode};
use super::messages::{Answer, FromGuard, Request, RequestBody, VERSION};
use crate::runtime::{ReplicaPhase, RunningReplica, RuntimeEvent, RuntimeEventKind};

/// Reads a stream from an agent, and the same from a guard, until it ends or does not make sense.
///
/// # Panics
/// A message that reads otherwise once it is written again.
pub fn guard_stream(bytes: &[u8]) {
    read::<Request>(bytes);
    read::<FromGuard>(bytes);
}

fn read<T: Decode<()> + Encode + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut buffer = bytes.to_vec();
    while let Ok(Some(message)) = decode::<T>(&mut buffer) {
        let Ok(mut again) = encode(&message) else { continue };
        assert_eq!(decode::<T>(&mut again), Ok(Some(message)), "a message is written as it was read");
    }
}

/// Streams as agents and guards write them.
#[must_use]
pub fn guard_samples(workload: &Workload) -> [Vec<u8>; 2] {
    let (replica, token): (ReplicaId, Token) = (workload.replica.clone(), workload.token);
    let requests = [
        RequestBody::Hello { version: VERSION },
        RequestBody::Start(Box::new(workload.clone())),
        RequestBody::Stop { replica: replica.clone(), token },
        RequestBody::List { after: Some(replica.clone()) },
        RequestBody::ExtendLease { until: BootTime(7) },
        RequestBody::Shutdown { stop_all: true },
    ];
    let requests = (1..).zip(requests).map(|(id, body)| encode(&Request { id, body }));
    let running = RunningReplica {
        workload: workload.clone(),
        phase: ReplicaPhase::Failed { message: "x".to_owned() },
        pid: Some(7),
        started_at: BootTime(3),
        restarts: 2,
    };
    let event = RuntimeEvent { replica, token, kind: RuntimeEventKind::Ready };
    let answers = [
        FromGuard::Answer { id: 1, body: Answer::Welcome { version: VERSION, instance: 9, pid: 4 } },
        FromGuard::Answer { id: 2, body: Answer::Started(Ok(())) },
        FromGuard::Listed { id: 4, replica: Box::new(running) },
        FromGuard::Answer { id: 4, body: Answer::ListEnd { more: false } },
        FromGuard::Event(event),
        FromGuard::Answer { id: 5, body: Answer::Refused("no".to_owned()) },
        FromGuard::TakenOver,
    ];
    let answers = answers.iter().map(encode);
    [requests.flatten().flatten().collect(), answers.flatten().flatten().collect()]
}
