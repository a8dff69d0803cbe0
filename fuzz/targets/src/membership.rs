//! Who lives.

/// A member of a small cluster, told anything by its neighbours.
pub(crate) mod ring {
    use codeco_protocol::gossip::{
        GossipMessage, Life, MEMBERS_MAX, MembershipInput, MembershipOutput, Parting, Probe, Ring, RingConfig,
    };
    use codeco_protocol::ids::MemberId;
    use codeco_protocol::units::BootTime;

    use crate::input::{Input, Seed, read_body};
    use crate::samples;

    /// Most steps of one input.
    const STEPS_MAX: usize = 256;

    fn member(byte: u8) -> codeco_protocol::ids::Identity {
        let id = u128::from(byte % 8) + 1;
        if byte >= 224 { samples::hub(id + 90) } else { samples::node(id) }
    }

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        let mut now = BootTime(1_000_000);
        let mut ring = Ring::new(RingConfig::lan(), samples::node(1), 5, 7, now);
        let mut out = Vec::new();
        for id in 1..6 {
            ring.handle(now, MembershipInput::Connected(member(id)), &mut out);
        }
        for _ in 0..STEPS_MAX {
            for fed in step(&mut input, &mut now) {
                ring.handle(now, fed, &mut out);
            }
            check(&ring, now, &mut out);
            if input.is_empty() {
                break;
            }
        }
        // It goes on, and says in the end when it is to be asked again.
        for _ in 0..40 {
            now.0 += 100_000;
            ring.handle(now, MembershipInput::Tick, &mut out);
            check(&ring, now, &mut out);
        }
    }

    fn step(input: &mut Input<'_>, now: &mut BootTime) -> Vec<MembershipInput> {
        match input.byte() % 10 {
            0 => vec![MembershipInput::Known(member(input.byte()))],
            1 => vec![MembershipInput::Connected(member(input.byte()))],
            2 => {
                let parting =
                    [Parting::Lost, Parting::Unneeded, Parting::Left][usize::from(input.byte() % 3)];
                vec![MembershipInput::Disconnected { member: member(input.byte()).id, parting }]
            }
            3 => vec![MembershipInput::DialFailed(member(input.byte()).id)],
            4 => {
                let from = member(input.byte()).id;
                read_body::<Probe>(input.piece())
                    .map(|probe| MembershipInput::Probe { from, probe })
                    .into_iter()
                    .collect()
            }
            5 | 6 => {
                let from = member(input.byte()).id;
                let Some(GossipMessage::Rumors(rumors)) = read_body(input.piece()) else { return vec![] };
                rumors.into_iter().map(|rumor| MembershipInput::Rumor { from, rumor }).collect()
            }
            7 => vec![MembershipInput::Forget(member(input.byte()).id)],
            _ => {
                now.0 = now.0.saturating_add(u64::from(input.word()) * 1_000);
                vec![MembershipInput::Tick]
            }
        }
    }

    fn check(ring: &Ring, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let members = ring.members();
        assert!(members.len() <= 2 * MEMBERS_MAX, "members are bounded");
        assert!(members.iter().all(|(identity, _)| identity.id != MemberId(1)), "nobody watches itself");
        assert!(ring.next_tick(now) >= now, "the next look is not in the past");
        assert!(ring.living_since().len() <= members.len());
        out.clear();
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let life = Life { started: 5, refutations: 0 };
        let rumors = samples::rumors(life);
        let probe = Probe::Ping { sequence: 3, heard_you: true, view: 9 };
        let each = rumors.iter().fold(Seed::default(), |seed, rumor| {
            let message = GossipMessage::Rumors(vec![rumor.clone()]);
            seed.byte(5).byte(1).message(&message).byte(8).word(300).byte(4).byte(2).message(&probe)
        });
        let all = Seed::default().byte(5).byte(1).message(&GossipMessage::Rumors(rumors));
        let away = (0..8)
            .fold(Seed::default(), |seed, n| seed.byte(2).byte(0).byte(n).byte(3).byte(n).byte(8).word(900));
        let late = (0..8).fold(all.clone(), |seed, n| seed.byte(8).word(60_000).byte(1).byte(n));
        [each, all, away, late].map(|seed| seed.0).to_vec()
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        let rumors = samples::rumors(Life { started: 5, refutations: 0 });
        let messages = rumors.into_iter().map(|rumor| GossipMessage::Rumors(vec![rumor]));
        let said = |body: Vec<u8>| {
            Seed::default().byte(5).byte(1).piece(&body).byte(8).word(900).byte(6).byte(2).piece(&body).0
        };
        messages.flat_map(|message| crate::input::extremes(&message)).map(said).collect()
    }
}
