//! Faults of a whole process or of its network, for drills and tests: only where the configuration enables them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::transport::{Impairment, Peers};
use rustix::process::{Signal, getpid, kill_process};

use crate::fabric::Commons;

/// Longest pause: whoever forgets one finds the member back.
pub const PAUSE_SECONDS_MAX: u32 = 600;
/// Between the answer and the fault, so that the answer still gets out.
const ANSWER_FIRST: Duration = Duration::from_millis(150);

/// A fault of a member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Fault {
    /// Packets between it and others are treated badly.
    Network {
        /// Which others.
        others: Others,
        /// How.
        what: Impairment,
        /// For how long.
        seconds: u32,
    },
    /// All bad treatment of packets ends.
    Heal,
    /// It stops as by SIGSTOP, and goes on after this many seconds.
    Pause {
        /// At most [`PAUSE_SECONDS_MAX`].
        seconds: u32,
    },
    /// It dies as by SIGKILL.
    Kill,
}

/// Other members, as seen from one. Who is meant is looked up when the fault begins; addresses do not change later.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Others {
    /// All of them.
    Everybody,
    /// All but those of its own cluster.
    OtherClusters,
    /// These.
    Members(Vec<MemberId>),
}

/// Carries out `fault` on this process, a moment after it has returned.
///
/// # Errors
/// What is wrong with the fault, for people. Nothing has happened then.
pub(super) fn inject(commons: &Arc<Commons>, fault: Fault) -> Result<(), String> {
    match fault {
        Fault::Heal => {
            let rules = commons.transport.heal();
            tracing::warn!(rules, "the network is treated well again");
            Ok(())
        }
        Fault::Network { others, what, seconds } => {
            let (peers, life) = (peers(commons, &others)?, Duration::from_secs(seconds.into()));
            tracing::warn!(?peers, ?what, seconds, "a bad network was asked for");
            what.check(&peers, life).map_err(|e| e.to_string())?;
            let commons = Arc::clone(commons);
            soon(move || {
                if let Err(error) = commons.transport.impair(peers, what, life) {
                    tracing::warn!(%error, "the fault was not taken");
                }
            });
            Ok(())
        }
        Fault::Pause { seconds } if seconds == 0 || seconds > PAUSE_SECONDS_MAX => {
            Err(format!("seconds: found {seconds}, expected 1 to {PAUSE_SECONDS_MAX}"))
        }
        Fault::Pause { seconds } => {
            wake_later(seconds).map_err(|e| format!("cannot arrange for the end of the pause: {e}"))?;
            soon(|| signal(Signal::STOP));
            Ok(())
        }
        Fault::Kill => {
            soon(|| signal(Signal::KILL));
            Ok(())
        }
    }
}

fn soon(fault: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(ANSWER_FIRST).await;
        fault();
    });
}

fn signal(signal: Signal) {
    if let Err(error) = kill_process(getpid(), signal) {
        tracing::error!(%error, "a signal to this very process was refused");
    }
}

/// A stopped process cannot wake itself: a child does.
fn wake_later(seconds: u32) -> std::io::Result<()> {
    let pid = getpid().as_raw_nonzero();
    let mut child = Command::new("sh")
        .args(["-c", &format!("sleep {seconds}; kill -CONT {pid}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Awaited so that it leaves no zombie; it ends by itself.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Where the members meant are: their connections' addresses, and those they spread.
fn peers(commons: &Commons, others: &Others) -> Result<Peers, String> {
    let own_cluster = commons.own.cluster();
    let addresses = |wanted: &dyn Fn(&Identity) -> bool| -> Vec<SocketAddr> {
        let mut found = BTreeSet::new();
        for linked in commons.links().values() {
            if wanted(linked.connection.identity()) {
                found.insert(linked.connection.remote_addr());
            }
        }
        commons.with_views(|views| {
            for view in views.iter().filter(|view| wanted(&view.identity)) {
                found.extend(view.member().and_then(|fact| fact.address));
            }
        });
        found.into_iter().collect()
    };
    match others {
        Others::Everybody => Ok(Peers::All),
        Others::OtherClusters if own_cluster.is_none() => Ok(Peers::All),
        Others::OtherClusters => Ok(Peers::AllBut(addresses(&|id| id.cluster() == own_cluster))),
        Others::Members(members) => {
            let found = addresses(&|id| members.contains(&id.id));
            if found.is_empty() {
                return Err("the addresses of these members are not known here".into());
            }
            Ok(Peers::Only(found))
        }
    }
}
