//! `codeco fault`.

use clap::{Args, Subcommand};
use codeco_hub::api::{FaultPeers, FaultRequest, FaultWish, PanicRequest};
use codeco_hub::fleet::Filter;
use codeco_protocol::api::NodeView;

use crate::client::Client;
use crate::failure::Failure;
use crate::object::{Kind, checked, name_of};
use crate::render::numbers::seconds;
use crate::session::Session;

/// Subcommands of `fault`.
#[derive(Debug, Subcommand)]
pub(crate) enum FaultCommand {
    /// Make an actor panic. Only where the member allows faults.
    Panic {
        /// actor/NAME, or just its NAME.
        #[arg(num_args = 1..=2, required = true, value_name = "actor/NAME")]
        object: Vec<String>,
        /// Member in whose process it lives.
        #[arg(long)]
        member: String,
        /// At how many messages in a row.
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// Cut members off: no packet comes in or goes out.
    Partition {
        #[command(flatten)]
        network: NetworkArgs,
        /// Cut one direction only.
        #[arg(long, value_enum)]
        only: Option<Direction>,
    },
    /// Have packets of members arrive late.
    Delay {
        #[command(flatten)]
        network: NetworkArgs,
        /// By how much, such as 50ms or 1s.
        #[arg(long, value_parser = micros, value_name = "TIME")]
        by: u64,
        /// And by up to this much more, so that packets overtake each other.
        #[arg(long, value_parser = micros, value_name = "TIME", default_value = "0ms")]
        jitter: u64,
    },
    /// Have packets of members lost.
    Loss {
        #[command(flatten)]
        network: NetworkArgs,
        /// How many, such as 10% or 0.5%.
        #[arg(long, value_parser = share, value_name = "PERCENT")]
        share: u32,
    },
    /// Stop the process of a member, as by SIGSTOP, for a while.
    Pause {
        /// CLUSTER/NODE, cluster/CLUSTER for all of its nodes, or a hub.
        target: String,
        /// For how long, such as 30s.
        #[arg(long = "for", value_parser = seconds, value_name = "TIME", default_value = "30s")]
        life: u64,
    },
    /// Kill the process of a member, as by SIGKILL.
    Kill {
        /// CLUSTER/NODE, cluster/CLUSTER for all of its nodes, or a hub.
        target: String,
    },
    /// End all bad treatment of packets at members.
    Heal {
        /// CLUSTER/NODE, cluster/CLUSTER for all of its nodes, or a hub.
        target: String,
    },
}

/// Whose network, towards whom, how long.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// CLUSTER/NODE, cluster/CLUSTER for all of its nodes, or a hub.
    target: String,
    /// Between it and these members only: CLUSTER/NODE, or hubs [default: everybody; for a cluster, all others].
    #[arg(long, value_delimiter = ',', value_name = "MEMBER")]
    from: Vec<String>,
    /// It ends by itself after so long, such as 90s or 5m.
    #[arg(long = "for", value_parser = seconds, value_name = "TIME", default_value = "60s")]
    life: u64,
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// Those that come in.
    Inbound,
    /// Those that go out.
    Outbound,
}

/// What happens to packets.
#[derive(Debug, Clone, Copy, Default)]
struct Treatment {
    inbound: bool,
    outbound: bool,
    loss_per_million: u32,
    delay_us: u64,
    jitter_us: u64,
}

impl FaultCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self {
            Self::Panic { object, member, times } => panic(session, &object, member, times),
            Self::Partition { network, only } => {
                let inbound = only != Some(Direction::Outbound);
                let outbound = only != Some(Direction::Inbound);
                network.run(session, Treatment { inbound, outbound, ..Treatment::default() }, "is cut off")
            }
            Self::Delay { network, by, jitter } => {
                let how = Treatment { delay_us: by, jitter_us: jitter, ..Treatment::default() };
                network.run(session, how, "sends late")
            }
            Self::Loss { network, share } => {
                let how = Treatment { loss_per_million: share, ..Treatment::default() };
                network.run(session, how, "loses packets")
            }
            Self::Pause { target, life } => {
                let wish = FaultWish::Pause { seconds: whole(life)? };
                inject(session, &target, |_| wish.clone(), &format!("is paused for {life} s"))
            }
            Self::Kill { target } => inject(session, &target, |_| FaultWish::Kill, "is killed"),
            Self::Heal { target } => inject(session, &target, |_| FaultWish::Heal, "is healed"),
        }
    }
}

impl NetworkArgs {
    fn run(self, session: &mut Session<'_>, how: Treatment, said: &str) -> Result<(), Failure> {
        let seconds = whole(self.life)?;
        let wish = |of_cluster: bool| FaultWish::Network {
            from: match (self.from.is_empty(), of_cluster) {
                (false, _) => FaultPeers::Members(self.from.clone()),
                (true, true) => FaultPeers::OtherClusters,
                (true, false) => FaultPeers::Everybody,
            },
            inbound: how.inbound,
            outbound: how.outbound,
            loss_per_million: how.loss_per_million,
            delay_us: how.delay_us,
            jitter_us: how.jitter_us,
            seconds,
        };
        inject(session, &self.target, wish, &format!("{said} for {seconds} s"))
    }
}

/// Injects into every member that is meant. All are tried: a cluster that is half cut off must not stay so for want of
/// an answer of one.
fn inject(
    session: &mut Session<'_>,
    target: &str,
    wish: impl Fn(bool) -> FaultWish,
    said: &str,
) -> Result<(), Failure> {
    let client = session.client()?;
    let (members, of_cluster) = members(&client, target)?;
    let mut failed = None;
    for member in members {
        let request = FaultRequest { member: member.clone(), fault: wish(of_cluster) };
        match client.fault(&request) {
            Ok(()) => writeln!(session.stdout, "{member} {said}")?,
            Err(failure) => {
                if let Some(before) = failed.replace(failure) {
                    write!(session.stderr, "{}", before.to_text())?;
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The members meant, and whether they are a whole cluster.
fn members(client: &Client, target: &str) -> Result<(Vec<String>, bool), Failure> {
    let Some(cluster) = target.strip_prefix("cluster/") else {
        return Ok((vec![target.strip_prefix("node/").unwrap_or(target).to_owned()], false));
    };
    let filter = Filter { cluster: Some(checked(cluster)?), ..Filter::default() };
    let nodes = client.list::<NodeView>("nodes", &filter)?.items;
    let members: Vec<String> = nodes
        .iter()
        .filter(|node| node.cluster.as_str() == cluster)
        .map(|node| format!("{}/{}", node.cluster, node.name))
        .collect();
    if members.is_empty() {
        return Err(Failure::not_found(format!("cluster/{cluster}")).next("codeco get clusters"));
    }
    Ok((members, true))
}

fn whole(seconds: u64) -> Result<u32, Failure> {
    u32::try_from(seconds).map_err(|_| Failure::usage(format!("--for: {seconds} s is too long")))
}

/// A short span of time in microseconds: `50ms`, `1s`, `300us`.
fn micros(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "us" | "µs" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        _ => None,
    };
    let value = digits.parse::<u64>().ok().zip(factor).and_then(|(value, factor)| value.checked_mul(factor));
    value.ok_or_else(|| format!("{text:?} is no span of time: expected such as 50ms, 1s or 300us"))
}

/// A share, in millionths: `10%`, `0.5%`.
fn share(text: &str) -> Result<u32, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    percent
        .map(|percent| (percent * 10_000.0).round() as u32)
        .ok_or_else(|| format!("{text:?} is no share: expected such as 10% or 0.5%"))
}

fn panic(session: &mut Session<'_>, object: &[String], member: String, times: u32) -> Result<(), Failure> {
    // Only actors can be meant, so their bare name will do.
    let actor = match object {
        [word] if Kind::parse(word.split('/').next().unwrap_or(word)).is_err() => word.clone(),
        words => name_of(words, Kind::Actor)?,
    };
    let request = PanicRequest { member, actor, times };
    session.client()?.panic_actor(&request)?;
    writeln!(
        session.stdout,
        "actor/{} of {} panics {}; see `codeco get events`",
        request.actor,
        request.member,
        if request.times == 1 { "once".to_owned() } else { format!("{} times", request.times) }
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_shares_are_read_in_their_units_and_refused_otherwise() {
        assert_eq!((micros("50ms"), micros("1s"), micros("300us")), (Ok(50_000), Ok(1_000_000), Ok(300)));
        assert_eq!((share("10%"), share("0.5%"), share("100%")), (Ok(100_000), Ok(5_000), Ok(1_000_000)));
        for wrong in ["", "50", "ms", "-1ms", "1h"] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "10", "%", "-1%", "101%", "nan%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
