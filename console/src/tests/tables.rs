//! Tables and explanations, as people see them.

use codeco_protocol::api::BidAnswer;

use super::fleet::{self, NOW};
use crate::render::explain::{render, why, why_not};
use crate::render::{Row, Width, table};

fn wide<R: Row>(rows: &[R]) -> String {
    let width = Width { wide: true, all_namespaces: true, paint: false };
    table(rows, NOW).render(width)
}

fn plain<R: Row>(rows: &[R]) -> String {
    table(rows, NOW).render(Width::default())
}

#[test]
fn table_of_each_kind_is_as_people_know_it() {
    insta::assert_snapshot!(wide(&[fleet::app()]), @r"
    NAMESPACE   NAME    STATUS    READY   CLUSTERS   PROFILE   AGE   GENERATION   DURABLE-ON   UID
    default     media   Running   2/2     edge-1     Latency   3m    2            3            00000000-0000-4000-8000-000000000001
    ");
    insta::assert_snapshot!(plain(&fleet::replicas()), @r"
    NAME             READY   STATUS            RESTARTS   CLUSTER   NODE       AGE
    media/origin-0   yes     Running           0          edge-1    edge-1-b   30s
    media/cache-1    yes     Running (stale)   0          edge-1    edge-1-b   30s
    ");
    insta::assert_snapshot!(plain(&fleet::nodes()), @r"
    NAME       CLUSTER   STATUS   ROLE   CPU      MEMORY      REPLICAS   VERSION   SEEN
    edge-1-a   edge-1    Ready    lead   250m/4   128Mi/8Gi   1          0.1.0     120ms
    edge-1-b   edge-1    CutOff   -      250m/4   128Mi/8Gi   1          0.1.0     120ms
    ");
    insta::assert_snapshot!(plain(&[fleet::cluster()]), @r"
    NAME     STATUS     NODES   LEAD       TERM   CPU-FREE   MEMORY-FREE   REPLICAS   SEEN
    edge-1   Degraded   1/2     edge-1-a   3      7500m      15.8Gi        2          900ms
    ");
    insta::assert_snapshot!(wide(&fleet::events()), @r"
    LAST-SEEN   TYPE      REASON           OBJECT          COUNT   MEMBER     FIRST-SEEN   MESSAGE
    40s         Normal    Placed           app/media       1       hub-1      40s          origin-0 runs on edge-1-b
    5s          Warning   ActorRestarted   actor/metrics   3       edge-1-a   65s          it panicked:  [31mboom and more
    ");
    insta::assert_snapshot!(plain(&[fleet::node_decision()]), @r"
    AGE   REPLICA          LEVEL   ACTION    CHOSEN     RUNNER-UP   REASON
    31s   media/origin-0   Node    Reserve   edge-1-b   edge-1-a    first placement
    ");
    insta::assert_snapshot!(wide(&fleet::actors()), @r"
    MEMBER     NAME      STATE     RESTARTS   MAILBOX   HANDLED   RATE     WAIT-P50   WAIT-P99   PARENT   LAST-ERROR
    edge-1-a   ledger    Running   0          0         812       12.5/s   16 µs      250 µs     root     -
    edge-1-a   metrics   GivenUp   5          7         3         0/s      -          -          root     boom
    ");
}

#[test]
fn explanation_of_a_node_shows_every_part_filter_and_age() {
    insta::assert_snapshot!(render(&fleet::node_decision(), NOW, false), @r"
    media/origin-0: which node, decided 31s ago
      action:         Reserve
      chosen:         edge-1-b (score 0.7800)
      runner-up:      edge-1-a (score 1.2600)
      why:            edge-1-b costs 0.48 less than edge-1-a; the largest difference is load: 0.2 share against 0.5 share
      reason:         first placement
      token:          1.2.3.4
      policy:         heuristic/1, profile Latency
      decision:       00000000-0000-4000-8000-00000000000d
      parts add up:   yes

      CANDIDATE   PART            RAW          NORMALIZED   WEIGHT   CONTRIBUTION   NOTE
      edge-1-b    load            0.2 share    0.6000       0.4      0.2400
                  channel delay   0.8 limits   0.9000       0.6      0.5400
                  total                                              0.7800         chosen
      edge-1-a    load            0.5 share    1.5000       0.4      0.6000
                  channel delay   0.9 limits   1.1000       0.6      0.6600
                  total                                              1.2600

      FILTER                       TOOK-OUT   CANDIDATES
      cpu: wants 250m, 100m free   1          edge-1-c

      INPUT           AGE
      node edge-1-b   120ms
    ");
}

#[test]
fn explanation_of_a_cluster_shows_bids() {
    insta::assert_snapshot!(render(&fleet::cluster_decision(), NOW, false), @r"
    media/origin-0: which cluster, decided 31s ago
      action:         Offer
      chosen:         edge-1 (score 0.8400)
      runner-up:      edge-2 (score 1.1600)
      why:            edge-1 costs 0.32 less than edge-2; the largest difference is channel delay: 0.5 limits against 0.9 limits
      reason:         first placement
      token:          1.2.3.4
      policy:         heuristic/1, profile Latency
      decision:       00000000-0000-4000-8000-00000000000d
      parts add up:   yes

      CANDIDATE   PART            RAW          NORMALIZED   WEIGHT   CONTRIBUTION   NOTE
      edge-1      load            0.3 share    0.9000       0.4      0.3600
                  channel delay   0.5 limits   0.8000       0.6      0.4800
                  total                                              0.8400         chosen
      edge-2      load            0.4 share    1.1000       0.4      0.4400
                  channel delay   0.9 limits   1.2000       0.6      0.7200
                  total                                              1.1600

      BIDDER   ANSWER   SCORE    VIEW-AGE
      edge-1   yes      0.8400   80ms
      edge-2   silent   1.1600   80ms

      INPUT           AGE
      node edge-1-b   120ms
    ");
}

#[test]
fn explanation_whose_parts_do_not_add_up_says_which() {
    let mut decision = fleet::node_decision();
    decision.candidates[0].total = Some(9.0);
    let text = render(&decision, NOW, false);
    assert!(text.contains("parts add up:   no: candidate edge-1-a: total is 9"), "{text}");
}

#[test]
fn reason_why_is_told_for_every_outcome() {
    let mut decision = fleet::node_decision();
    assert_eq!(
        why(&decision),
        "edge-1-b costs 0.48 less than edge-1-a; the largest difference is load: 0.2 share against 0.5 share"
    );
    decision.candidates[0].total = decision.candidates[1].total;
    assert_eq!(why(&decision), "edge-1-b and edge-1-a score the same, 0.78: the name decided");
    decision.candidates[0].total = Some(0.1);
    assert_eq!(
        why(&decision),
        "edge-1-a scores lower by 0.68, but was not taken; it was not asked for a bid"
    );
    (decision.candidates[0].total, decision.runner_up) = (None, None);
    assert_eq!(why(&decision), "edge-1-b was the only candidate that passed the filters");
    decision.chosen = None;
    decision.candidates.retain(|candidate| candidate.filtered_by.is_some());
    assert_eq!(why(&decision), "nobody was chosen: filters took out all 1 candidates");
    decision.candidates.clear();
    assert_eq!(why(&decision), "nobody was chosen: there was no candidate");
}

#[test]
fn reason_why_not_is_told_for_filtered_lost_refused_and_unknown_places() {
    let node = fleet::node_decision();
    assert_eq!(
        why_not(&node, "edge-1-c").unwrap(),
        "edge-1-c was taken out by a filter: cpu: wants 250m, 100m free"
    );
    let lost = why_not(&node, "edge-1-a").unwrap();
    assert!(
        lost.starts_with("edge-1-a lost to edge-1-b: score 1.2600 against 0.7800, lower is better\n  - load"),
        "{lost}"
    );
    assert_eq!(why_not(&node, "edge-9"), None);
    let mut cluster = fleet::cluster_decision();
    cluster.candidates[1].bid.as_mut().unwrap().answer = BidAnswer::No;
    assert!(why_not(&cluster, "edge-2").unwrap().contains("its bid was no"));
}
