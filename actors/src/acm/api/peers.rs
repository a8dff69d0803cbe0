//! How many connections there are, in all and of each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Open connections by address.
#[derive(Debug, Default)]
pub(super) struct Peers {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Peers {
    /// A place for one more connection of `peer`, unless there are too many of it or in all.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, of_peer_max: usize, max: usize) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.get(&peer).copied().unwrap_or(0);
        if of_peer >= of_peer_max || open.values().sum::<usize>() >= max {
            return None;
        }
        open.insert(peer, of_peer + 1);
        Some(Place { peers: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_refused_to_a_greedy_peer_and_when_all_are_taken_until_one_is_given_back() {
        let peers = Arc::new(Peers::default());
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let first = peers.take(ip(1), 2, 3);
        let second = peers.take(ip(1), 2, 3);
        assert!(first.is_some() && second.is_some());
        assert!(peers.take(ip(1), 2, 3).is_none(), "two of one peer");
        let third = peers.take(ip(2), 2, 3);
        assert!(third.is_some() && peers.take(ip(3), 2, 3).is_none(), "three in all");
        drop((first, second, third));
        assert!(peers.open.lock().unwrap().is_empty());
    }
}
