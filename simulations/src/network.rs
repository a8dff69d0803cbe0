//! The network: loses, repeats, holds up and cuts, message by message.

use std::collections::BTreeSet;

/// What a seed's network is like while faults last.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss: f64,
    repeat: f64,
    hold_up: f64,
    delay_max: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    weather: Weather,
    cuts: BTreeSet<(usize, usize)>,
}

/// What becomes of one message.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// Delays after which copies arrive.
    pub(crate) arrivals: Vec<u64>,
    pub(crate) cut: bool,
    pub(crate) held_up: bool,
}

impl Network {
    pub(crate) fn new(rng: &mut fastrand::Rng) -> Self {
        let weather = Weather {
            loss: rng.f64() * rng.f64() * 0.3,
            repeat: rng.f64() * 0.1,
            hold_up: rng.f64() * rng.f64() * 0.05,
            delay_max: rng.u64(1_000..120_000),
        };
        Self { weather, cuts: BTreeSet::new() }
    }

    /// From now on messages arrive once and soon.
    pub(crate) fn clear_up(&mut self) {
        self.weather = Weather { loss: 0.0, repeat: 0.0, hold_up: 0.0, delay_max: 20_000 };
        self.cuts.clear();
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    pub(crate) fn heal(&mut self, from: usize, to: usize) {
        self.cuts.remove(&(from, to));
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// What becomes of a message between two machines.
    pub(crate) fn fate(&self, from: usize, to: usize, rng: &mut fastrand::Rng) -> Fate {
        let mut fate = Fate::default();
        if from == to {
            fate.arrivals.push(rng.u64(10..500));
            return fate;
        }
        if self.is_cut(from, to) {
            fate.cut = true;
            return fate;
        }
        if rng.f64() >= self.weather.loss {
            fate.arrivals.push(self.delay(rng, &mut fate.held_up));
        }
        while fate.arrivals.len() < 3 && rng.f64() < self.weather.repeat {
            fate.arrivals.push(self.delay(rng, &mut fate.held_up));
        }
        fate
    }

    fn delay(&self, rng: &mut fastrand::Rng, held_up: &mut bool) -> u64 {
        let usual = rng.u64(200..=self.weather.delay_max);
        if rng.f64() < self.weather.hold_up {
            *held_up = true;
            return usual + rng.u64(500_000..12_000_000);
        }
        usual
    }
}
