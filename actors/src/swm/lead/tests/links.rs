//! What is reserved on links while a copy is being replaced.

use codeco_protocol::units::BitsPerSecond;
use codeco_protocol::workload::ChannelSpec;

use super::*;

const LINK: BitsPerSecond = BitsPerSecond(100);

/// The offer of a replica whose channel to another cluster wants `uplink`.
fn offer(play: &Play, index: u32, generation: u64, uplink: u64) -> M {
    let M::Offer { term, epoch, mandate, spec, node_selector, context, replaces, .. } =
        play.offer(1 + u64::from(index), generation, PartitionPolicy::Autonomous)
    else {
        unreachable!()
    };
    let channel = ChannelSpec {
        name: "link".into(),
        from: ServiceName::new("s").unwrap(),
        to_app: None,
        to: ServiceName::new("t").unwrap(),
        port: None,
        assured: true,
        bandwidth: Some(BitsPerSecond(60)),
        delay_max: None,
    };
    let context = AppContext { channels: vec![channel], ..context };
    let rules = PlaceRules { uplink: BitsPerSecond(uplink), ..Default::default() };
    let (replica, replace) = (ReplicaId { index, ..replica() }, Replace::StopFirst);
    M::Offer { term, epoch, mandate, replica, spec, node_selector, context, replace, replaces, rules }
}

fn granted(sent: &[(MemberId, M)]) -> Option<BitsPerSecond> {
    sent.iter().find_map(|(_, message)| match message {
        M::Accepted { uplink, .. } => Some(*uplink),
        _ => None,
    })
}

#[test]
fn a_copy_about_to_be_replaced_takes_part_in_what_its_replica_is_granted_of_the_uplink() {
    let mut play = Play::with_nodes();
    play.lead.config.uplink = Some(BitsPerSecond(1_000));
    for member in play.lead.members.values_mut() {
        member.facts.as_mut().unwrap().traits.link = Some(LINK);
    }
    let place = |play: &mut Play, index, generation, uplink| {
        let replica = ReplicaId { index, ..replica() };
        let offer = offer(play, index, generation, uplink);
        let (node, token) = reserve(&play.hear(HOME, offer)).expect("reserves");
        play.hear(node, M::Reserved { replica: replica.clone(), token });
        play.hear(node, M::Committed { replica: replica.clone(), token });
        let ready = M::Status { replica, token, run: RunPhase::Ready, told: Told::default() };
        (node, token, ready)
    };
    let (node, token, ready) = place(&mut play, 0, 1, 0);
    assert_eq!(node, N1);
    play.hear(N1, ready);
    let (node, new, ready) = place(&mut play, 0, 2, 0);
    assert_eq!(node, N2, "beside the old one, which serves until this one is ready");
    assert_eq!(place(&mut play, 1, 1, 60).0, N1);

    let more = offer(&play, 0, 2, 60);
    assert_eq!(
        granted(&play.hear(HOME, more.clone())),
        Some(BitsPerSecond(0)),
        "120 of 100 on the link of n1"
    );
    assert_eq!(play.lead.overbooked_links(), Vec::<String>::new());

    // The old copy goes, and with it what it would take.
    play.hear(N2, ready);
    play.hear(N1, M::Closed { replica: replica(), token, reason: ClosedReason::Stopped, free: size(900) });
    assert_eq!(granted(&play.hear(HOME, more)), Some(BitsPerSecond(60)), "{new:?}");
    assert_eq!(play.lead.overbooked_links(), Vec::<String>::new());
}
