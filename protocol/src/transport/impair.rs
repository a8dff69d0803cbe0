//! What a bad network does to packets, done on purpose: cuts, loss, delay. For drills and tests; a process that was not
//! started with faults enabled has none of it, and pays nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use quinn::AsyncUdpSocket;
use quinn::udp::Transmit;

use crate::units::Micros;

/// Most rules at once.
pub(super) const RULES_MAX: usize = 64;
/// Most addresses in one rule.
pub(super) const ADDRESSES_MAX: usize = 1_024;
/// Longest delay, jitter included.
pub const DELAY_MAX: Micros = Micros::from_secs(10);
/// Longest life of a rule: a drill that nobody ends, ends by itself.
pub const RULE_LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Most packets waiting for their delay to pass; what is more is lost, as in a router.
const WAITING_MAX: usize = 16_384;
const MILLION: u32 = 1_000_000;

/// To whom a rule applies.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Peers {
    /// To everybody.
    All,
    /// To these addresses.
    Only(Vec<SocketAddr>),
    /// To everybody but these addresses.
    AllBut(Vec<SocketAddr>),
}

/// What happens to the packets between this process and its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Impairment {
    /// Nothing comes in.
    pub cut_inbound: bool,
    /// Nothing goes out.
    pub cut_outbound: bool,
    /// Of a million packets, in each direction, so many are lost.
    pub loss_per_million: u32,
    /// What goes out is late by this.
    pub delay: Micros,
    /// And by up to this more, so that packets overtake each other.
    pub jitter: Micros,
}

/// Why a rule was not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpairError {
    /// The process was not started with faults enabled.
    #[error("faults are not enabled on this member; start it with --faults")]
    Disabled,
    /// A value out of its range.
    #[error("{field}: found {found}, expected {expected}")]
    Invalid {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
}

impl Impairment {
    /// A cut in both directions.
    pub const CUT: Self = Self {
        cut_inbound: true,
        cut_outbound: true,
        loss_per_million: 0,
        delay: Micros(0),
        jitter: Micros(0),
    };

    /// Whether a rule of this kind would be taken where faults are enabled.
    ///
    /// # Errors
    /// [`ImpairError::Invalid`].
    pub fn check(&self, peers: &Peers, life: Duration) -> Result<(), ImpairError> {
        let invalid =
            |field, found: String, expected: String| Err(ImpairError::Invalid { field, found, expected });
        if self.loss_per_million > MILLION {
            return invalid(
                "loss",
                self.loss_per_million.to_string(),
                format!("0 to {MILLION} of a million"),
            );
        }
        let late = self.delay.0.saturating_add(self.jitter.0);
        if late > DELAY_MAX.0 {
            return invalid("delay", format!("{late} µs with jitter"), format!("at most {} µs", DELAY_MAX.0));
        }
        if life.is_zero() || life > RULE_LIFE_MAX {
            return invalid("for", format!("{} s", life.as_secs()), "above 0 s, at most a day".into());
        }
        match peers {
            Peers::Only(list) | Peers::AllBut(list) if list.len() > ADDRESSES_MAX => {
                invalid("peers", list.len().to_string(), format!("at most {ADDRESSES_MAX}"))
            }
            _ => Ok(()),
        }
    }
}

impl Peers {
    fn contains(&self, peer: SocketAddr) -> bool {
        match self {
            Self::All => true,
            Self::Only(list) => list.contains(&peer),
            Self::AllBut(list) => !list.contains(&peer),
        }
    }
}

#[derive(Debug)]
struct Rule {
    peers: Peers,
    what: Impairment,
    until: Instant,
}

/// What is to become of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    Lost,
    Late(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

#[derive(Debug)]
struct State {
    rules: Vec<Rule>,
    rng: fastrand::Rng,
}

impl State {
    fn fate(&mut self, peer: SocketAddr, direction: Direction, now: Instant) -> Fate {
        self.rules.retain(|rule| rule.until > now);
        let mut late = Micros(0);
        for Rule { what, .. } in self.rules.iter().filter(|rule| rule.peers.contains(peer)) {
            let cut = if direction == Direction::In { what.cut_inbound } else { what.cut_outbound };
            if cut || self.rng.u32(0..MILLION) < what.loss_per_million {
                return Fate::Lost;
            }
            if direction == Direction::Out {
                late = Micros(late.0 + what.delay.0 + self.rng.u64(0..=what.jitter.0));
            }
        }
        if late.0 == 0 { Fate::Passes } else { Fate::Late(Duration::from_micros(late.0.min(DELAY_MAX.0))) }
    }
}

/// The rules of one endpoint.
#[derive(Debug)]
pub(super) struct Impairments {
    enabled: bool,
    any: AtomicBool,
    waiting: Arc<AtomicUsize>,
    state: Mutex<State>,
}

impl Impairments {
    /// No rules yet; none will ever be taken unless `enabled`. The seed chooses which packets are lost.
    pub(super) fn new(enabled: bool, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            enabled,
            any: AtomicBool::new(false),
            waiting: Arc::default(),
            state: Mutex::new(State { rules: Vec::new(), rng: fastrand::Rng::with_seed(seed) }),
        })
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule that ends by itself after `life`.
    pub(super) fn add(&self, peers: Peers, what: Impairment, life: Duration) -> Result<(), ImpairError> {
        if !self.enabled {
            return Err(ImpairError::Disabled);
        }
        what.check(&peers, life)?;
        let mut state = self.state();
        if state.rules.len() >= RULES_MAX {
            return Err(ImpairError::Invalid {
                field: "rules",
                found: format!("{RULES_MAX} already"),
                expected: "fewer: heal first".into(),
            });
        }
        state.rules.push(Rule { peers, what, until: Instant::now() + life });
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// Drops all rules; returns how many there were.
    pub(super) fn heal(&self) -> usize {
        let mut state = self.state();
        self.any.store(false, Ordering::Release);
        let now = Instant::now();
        std::mem::take(&mut state.rules).iter().filter(|rule| rule.until > now).count()
    }

    fn fate(&self, peer: SocketAddr, direction: Direction) -> Fate {
        if !self.any.load(Ordering::Acquire) {
            return Fate::Passes;
        }
        let mut state = self.state();
        let fate = state.fate(peer, direction, Instant::now());
        if state.rules.is_empty() {
            self.any.store(false, Ordering::Release);
        }
        fate
    }

    /// Whether what has come from `peer` is to be thrown away.
    pub(super) fn loses(&self, peer: SocketAddr) -> bool {
        self.fate(peer, Direction::In) == Fate::Lost
    }

    /// Whether what goes to `peer` is to be thrown away.
    pub(super) fn loses_outbound(&self, peer: SocketAddr) -> bool {
        self.fate(peer, Direction::Out) == Fate::Lost
    }

    /// Whether this was taken care of: lost, or to be sent later. Call it inside a tokio runtime.
    pub(super) fn takes(&self, socket: &Arc<dyn AsyncUdpSocket>, transmit: &Transmit<'_>) -> bool {
        let wait = match self.fate(transmit.destination, Direction::Out) {
            Fate::Passes => return false,
            Fate::Lost => return true,
            Fate::Late(wait) => wait,
        };
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return true;
        }
        let (socket, waiting) = (Arc::clone(socket), Arc::clone(&self.waiting));
        let Transmit { destination, ecn, segment_size, src_ip, contents } = *transmit;
        let contents = contents.to_vec();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // A full socket loses it: QUIC repeats what matters.
            let _ =
                socket.try_send(&Transmit { destination, ecn, segment_size, src_ip, contents: &contents });
            waiting.fetch_sub(1, Ordering::Relaxed);
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
    const B: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn cut_loses_what_it_names_and_nothing_else_until_healed() {
        let net = Impairments::new(true, 1);
        net.add(Peers::AllBut(vec![A]), Impairment::CUT, MINUTE).unwrap();
        assert!(net.loses(B) && !net.loses(A));
        assert_eq!(net.fate(B, Direction::Out), Fate::Lost);
        assert_eq!(net.heal(), 1);
        assert!(!net.loses(B));
    }

    #[test]
    fn cut_of_one_direction_lets_the_other_pass() {
        let net = Impairments::new(true, 1);
        let deaf = Impairment { cut_inbound: true, ..Impairment::default() };
        net.add(Peers::Only(vec![B]), deaf, MINUTE).unwrap();
        assert!(net.loses(B));
        assert_eq!(net.fate(B, Direction::Out), Fate::Passes);
    }

    #[test]
    fn loss_is_near_its_rate_and_the_same_for_a_seed() {
        let lost = |seed| {
            let net = Impairments::new(true, seed);
            let lossy = Impairment { loss_per_million: 100_000, ..Impairment::default() };
            net.add(Peers::All, lossy, MINUTE).unwrap();
            (0..10_000).filter(|_| net.loses(A)).collect::<Vec<_>>()
        };
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
        assert!((900..1_100).contains(&lost(7).len()), "{}", lost(7).len());
    }

    #[test]
    fn rule_ends_by_itself() {
        let net = Impairments::new(true, 1);
        net.add(Peers::All, Impairment::CUT, MINUTE).unwrap();
        let later = Instant::now() + MINUTE;
        assert_eq!(net.state().fate(A, Direction::In, later), Fate::Passes);
        assert!(net.state().rules.is_empty());
    }

    #[test]
    fn rule_out_of_range_or_without_permission_is_refused() {
        let refused =
            |what: Impairment, life| Impairments::new(true, 1).add(Peers::All, what, life).unwrap_err();
        let loss = Impairment { loss_per_million: MILLION + 1, ..Impairment::default() };
        assert_eq!(
            refused(loss, MINUTE).to_string(),
            "loss: found 1000001, expected 0 to 1000000 of a million"
        );
        let late = Impairment { delay: DELAY_MAX, jitter: Micros(1), ..Impairment::default() };
        assert!(refused(late, MINUTE).to_string().starts_with("delay: found 10000001 µs"));
        assert!(refused(Impairment::CUT, Duration::ZERO).to_string().starts_with("for: found 0 s"));
        let disabled = Impairments::new(false, 1).add(Peers::All, Impairment::CUT, MINUTE);
        assert_eq!(disabled, Err(ImpairError::Disabled));
    }
}
