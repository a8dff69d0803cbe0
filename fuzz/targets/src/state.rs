//! Maps of facts, spread and merged.

/// Three receivers hear maps of honest and of hostile owners, in any order, in pieces, and again. What an honest owner
/// says is the same everywhere in the end, whatever the others say.
pub(crate) mod state_merge {
    use std::collections::BTreeMap;

    use codeco_protocol::gossip::{Fact, GossipMessage, OwnState, View, Views};
    use codeco_protocol::ids::{Identity, MemberId};
    use codeco_protocol::units::{BootTime, WallTime};

    use crate::input::{Input, Seed, read_body};
    use crate::samples;

    /// Most steps of one input.
    const STEPS_MAX: usize = 256;
    /// Facts and members that a receiver may hold.
    const FACTS_MAX: usize = 8_192;
    const VIEWS_MAX: usize = 4_096;

    fn honest(n: u8) -> Identity {
        samples::node(10 + u128::from(n % 2))
    }

    fn fact(n: u8) -> Fact {
        if n.is_multiple_of(2) {
            Fact::Dialable(n.is_multiple_of(4))
        } else {
            Fact::Api(([127, 0, 0, 1], u16::from(n)).into())
        }
    }

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        let mut own = [OwnState::new(5), OwnState::new(6)];
        let mut views = [Views::default(), Views::default(), Views::default()];
        for step in 0..STEPS_MAX {
            let now = BootTime(step as u64);
            match input.byte() % 8 {
                0 | 1 => {
                    let (n, key, value) = (input.byte(), input.byte(), input.byte());
                    own[usize::from(n % 2)].set(&format!("k{}", key % 40), fact(value));
                }
                2 => {
                    let (n, key) = (input.byte(), input.byte());
                    own[usize::from(n % 2)].remove(&format!("k{}", key % 40));
                }
                3 => {
                    // A delta of an honest owner, from any version, to anybody.
                    let (n, to, from) = (input.byte(), input.byte(), u64::from(input.byte()));
                    let delta = own[usize::from(n % 2)].delta(from);
                    let _ = views[usize::from(to % 3)].apply(now, &honest(n), delta);
                }
                4 => {
                    // The same, passed on by somebody who knows it.
                    let (n, by, to, from) =
                        (input.byte(), input.byte(), input.byte(), u64::from(input.byte()));
                    let known = views[usize::from(by % 3)].get(honest(n).id);
                    if let Some(delta) = known.map(|view| view.delta(from)) {
                        let _ = views[usize::from(to % 3)].apply(now, &honest(n), delta);
                    }
                }
                5 | 6 => hostile(&mut input, now, &mut views),
                _ => {
                    let (to, who) = (input.byte(), MemberId(u128::from(input.byte() % 16)));
                    let views = &mut views[usize::from(to % 3)];
                    match input.byte() % 3 {
                        0 => views.refresh(now, who),
                        1 => views.refresh_life(now, who, 5),
                        _ => views.forget(who),
                    }
                }
            }
            if input.is_empty() {
                break;
            }
        }
        for (n, own) in (0..).zip(&own) {
            let mut ends = views.iter_mut().map(|views| caught_up(own, &honest(n), views));
            let first = ends.next();
            assert!(ends.all(|end| Some(end) == first), "all end up with the same facts");
        }
        views.iter().for_each(check);
    }

    /// What somebody else says of its own map: from any version, to any, with any facts.
    fn hostile(input: &mut Input<'_>, now: BootTime, views: &mut [Views; 3]) {
        let (who, to) = (input.byte(), input.byte());
        let owner = samples::node(u128::from(who % 4) + 2);
        let views = &mut views[usize::from(to % 3)];
        match read_body::<GossipMessage>(input.piece()) {
            Some(GossipMessage::State(delta) | GossipMessage::Relay { delta, .. }) => {
                let _ = views.brings_news(owner.id, &delta);
                let _ = views.apply(now, &owner, delta);
            }
            Some(GossipMessage::Sealed(mut sealed)) => {
                // Nobody can sign for the honest.
                sealed.owner = owner;
                let _ = views.apply_sealed(now, sealed, who % 2 == 0);
            }
            _ => {}
        }
    }

    fn caught_up(own: &OwnState, owner: &Identity, views: &mut Views) -> BTreeMap<String, Fact> {
        // Every piece brings a receiver further, so as many pieces as there are versions are enough.
        for _ in 0..=own.version() {
            let have = views.get(owner.id).map(|view| view.mark().version).unwrap_or_default();
            if have == own.version() {
                break;
            }
            views.apply(BootTime(1), owner, own.delta(have)).expect("the next piece fits");
        }
        let view = views.get(owner.id);
        let facts = view.into_iter().flat_map(View::facts);
        let facts: BTreeMap<_, _> = facts.map(|(key, fact)| (key.to_owned(), fact.clone())).collect();
        let said = own.as_view(owner, BootTime(0));
        assert_eq!(
            facts,
            said.facts().map(|(key, fact)| (key.to_owned(), fact.clone())).collect(),
            "it is the owner's"
        );
        facts
    }

    fn check(views: &Views) {
        assert!(views.iter().count() <= VIEWS_MAX, "members are bounded");
        for view in views.iter() {
            assert!(view.facts().count() <= FACTS_MAX, "facts are bounded");
            let version = view.mark().version;
            for from in [0, 1, version / 2, version.saturating_sub(1), version, u64::MAX] {
                let _ = (view.delta(from), view.sealed(from));
            }
            let _ = (view.age(BootTime(9)), view.replicas().count(), view.apps().count(), view.host());
            let _ = view.member().map(|member| member.started <= WallTime(0));
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut story = Seed::default();
        for _ in 0..60 {
            story =
                story.byte(random.u8(0..2)).byte(random.u8(..2)).byte(random.u8(..40)).byte(random.u8(..));
            story = story.byte(3).byte(random.u8(..2)).byte(random.u8(..3)).byte(random.u8(..8));
            story = story.byte(2).byte(random.u8(..2)).byte(random.u8(..40));
            story = story
                .byte(4)
                .byte(random.u8(..2))
                .byte(random.u8(..3))
                .byte(random.u8(..3))
                .byte(random.u8(..8));
        }
        let told = samples::gossip().into_iter().fold(Seed::default(), |seed, message| {
            seed.byte(5).byte(0).byte(0).message(&message).byte(5).byte(1).byte(1).message(&message)
        });
        vec![story.clone().0, told.clone().0, [story.0, told.0].concat()]
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        let said = |body: Vec<u8>| {
            Seed::default().byte(5).byte(0).byte(0).piece(&body).byte(6).byte(0).byte(0).piece(&body).0
        };
        samples::gossip().iter().flat_map(crate::input::extremes).map(said).collect()
    }
}
