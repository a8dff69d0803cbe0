use std::collections::{BTreeMap, VecDeque};

use codeco_protocol::election::PAGE_BYTES_MAX;
use codeco_protocol::ids::ClusterName;

use super::record::{snapshot_records, to_pages};
use super::*;
use crate::swm::lead::{LeadNote, LeadRecord};

const LATENCY: Micros = Micros::from_millis(2);

fn id(n: u128) -> MemberId {
    MemberId(n)
}

fn voter(n: u128) -> Voter {
    Voter { member: id(n), incarnation: Incarnation(n) }
}

fn three() -> Electorate {
    let two = Electorate::of_one(voter(1)).with(voter(2), Role::Member).unwrap();
    two.with(voter(3), Role::Member).unwrap()
}

/// Electors with their disks, and letters between them on their way.
struct Net {
    now: BootTime,
    config: BTreeMap<MemberId, ElectorConfig>,
    electors: BTreeMap<MemberId, Elector>,
    disks: BTreeMap<MemberId, Vec<ElectionRecord>>,
    letters: VecDeque<(BootTime, MemberId, MemberId, ControlMessage)>,
    notes: Vec<(MemberId, ElectorOutput)>,
    cut: Vec<MemberId>,
}

impl Net {
    /// All of the electorate, each with the same records.
    fn of(electorate: &Electorate, records: &[LeadRecord]) -> Self {
        let mut net = Self {
            now: BootTime(1_000_000),
            config: BTreeMap::new(),
            electors: BTreeMap::new(),
            disks: BTreeMap::new(),
            letters: VecDeque::new(),
            notes: Vec::new(),
            cut: Vec::new(),
        };
        for (voter, _) in electorate.voters() {
            let lead =
                LeadConfig::new(voter.member, ClusterName::new("east").unwrap(), LeaseConfig::default());
            let mut disk = vec![ElectionRecord::Life(voter.incarnation)];
            disk.extend(snapshot_records(Position::default(), electorate, records.to_vec()));
            net.disks.insert(voter.member, disk);
            let seed = u64::try_from(voter.member.0).unwrap();
            net.config.insert(voter.member, ElectorConfig::new(lead, 0, seed));
            net.start(voter.member);
        }
        net
    }

    fn start(&mut self, member: MemberId) {
        let disk = &self.disks[&member];
        let recovered = Elector::recover(self.config[&member].clone(), disk, Incarnation(99), self.now);
        let (elector, out) = recovered.unwrap();
        self.electors.insert(member, elector);
        self.carry(member, out);
    }

    fn feed(&mut self, member: MemberId, input: ElectorInput) {
        let Some(elector) = self.electors.get_mut(&member) else { return };
        let mut out = Vec::new();
        elector.handle(self.now, input, &mut out);
        self.carry(member, out);
    }

    fn carry(&mut self, member: MemberId, out: Vec<ElectorOutput>) {
        for output in out {
            match output {
                ElectorOutput::Journal(record) => self.disks.get_mut(&member).unwrap().push(record),
                ElectorOutput::Send { to, message } => {
                    self.letters.push_back((self.now + LATENCY, member, to, message));
                }
                other => self.notes.push((member, other)),
            }
        }
    }

    /// Lets `span` pass in steps of a millisecond.
    fn pass(&mut self, span: Micros) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Micros::from_millis(1);
            while self.letters.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((_, from, to, message)) = self.letters.pop_front() else { break };
                if !self.cut.contains(&from) && !self.cut.contains(&to) {
                    self.feed(to, ElectorInput::Message { from, message });
                }
            }
            let members: Vec<MemberId> = self.electors.keys().copied().collect();
            for member in members {
                self.feed(member, ElectorInput::Tick);
            }
            let leads = self.leads();
            assert!(leads.len() <= 1, "{leads:?}");
        }
    }

    fn leads(&self) -> Vec<MemberId> {
        self.electors
            .iter()
            .filter(|(_, elector)| elector.leads(self.now))
            .map(|(member, _)| *member)
            .collect()
    }

    fn lead(&self) -> MemberId {
        let leads = self.leads();
        assert_eq!(leads.len(), 1, "{leads:?}");
        leads[0]
    }

    fn took_office(&self, member: MemberId) -> usize {
        let is = |output: &ElectorOutput| {
            matches!(output, ElectorOutput::Lead(LeadOutput::Note(LeadNote::TookOffice(_))))
        };
        self.notes.iter().filter(|(of, output)| *of == member && is(output)).count()
    }
}

#[test]
fn elector_that_votes_alone_leads_at_once_and_again_after_a_restart() {
    let mut net = Net::of(&Electorate::of_one(voter(1)), &[]);
    net.feed(id(1), ElectorInput::Tick);
    assert_eq!(net.lead(), id(1));
    let term = net.electors[&id(1)].lead().term();
    net.start(id(1));
    net.feed(id(1), ElectorInput::Tick);
    assert_eq!(net.lead(), id(1));
    assert!(net.electors[&id(1)].lead().term() > term, "another life, another term");
}

#[test]
fn elector_of_three_one_leads_and_its_death_makes_another_lead_that_knows_its_records() {
    let known = LeadRecord::WaitedOut { node: id(7), term: Term { number: 1, owner: id(1) } };
    let mut net = Net::of(&three(), &[known]);
    net.pass(Micros::from_secs(3));
    let first = net.lead();
    let (term, snapshot) = {
        let lead = net.electors[&first].lead();
        (lead.term(), lead.snapshot())
    };
    assert!(snapshot.iter().any(|record| matches!(record, LeadRecord::WaitedOut { .. })), "{snapshot:?}");
    net.electors.remove(&first);
    net.pass(net.config[&first].lead.lease.duration);
    let second = net.lead();
    assert!(second != first && net.electors[&second].lead().term() > term);
    let kept = net.electors[&second].lead().snapshot();
    assert!(kept.iter().any(|record| matches!(record, LeadRecord::WaitedOut { .. })), "{kept:?}");
    assert_eq!(net.took_office(second), 1);

    // Who comes back follows.
    net.start(first);
    net.pass(Micros::from_secs(6));
    assert_eq!(net.lead(), second);
    let (ours, theirs) = (net.electors[&first].last(), net.electors[&second].last());
    assert_eq!(ours, theirs, "it has every record");
}

#[test]
fn elector_without_a_majority_never_leads_and_what_it_decides_never_leaves() {
    let mut net = Net::of(&three(), &[]);
    net.pass(Micros::from_secs(3));
    let lead = net.lead();
    net.cut = three().voters().map(|(voter, _)| voter.member).filter(|member| *member != lead).collect();
    let took = net.took_office(lead);
    net.pass(Micros::from_secs(10));
    assert_eq!(net.leads(), vec![]);
    assert_eq!(net.took_office(lead), took);
    net.cut.clear();
    net.pass(Micros::from_secs(4));
    assert_eq!(net.leads().len(), 1);
}

#[test]
fn elector_that_returns_from_a_cut_deposes_no_healthy_lead() {
    let mut net = Net::of(&three(), &[]);
    net.pass(Micros::from_secs(3));
    let lead = net.lead();
    let term = net.electors[&lead].lead().term();
    let other = three().voters().map(|(voter, _)| voter.member).find(|member| *member != lead).unwrap();
    net.cut = vec![other];
    net.pass(Micros::from_secs(8));
    net.cut.clear();
    net.pass(Micros::from_secs(8));
    assert_eq!((net.lead(), net.electors[&lead].lead().term()), (lead, term));
}

#[test]
fn electors_whose_leads_fall_one_after_the_other_wait_longer_each_time_until_one_stays() {
    let mut net = Net::of(&three(), &[]);
    net.pass(Micros::from_secs(20));
    let succeed = |net: &mut Net| {
        let (lead, began) = (net.lead(), net.now);
        net.cut = vec![lead];
        while net.leads().iter().all(|other| *other == lead) {
            net.pass(Micros::from_millis(10));
            assert!(net.now.since(began) < Micros::from_secs(10), "somebody stands in the end");
        }
        net.cut.clear();
        net.pass(Micros::from_millis(200));
        net.now.since(began)
    };
    let waits: Vec<Micros> = (0..8).map(|_| succeed(&mut net)).collect();
    assert!(waits[1].0 < 2 * waits[0].0, "one failure is nothing unusual: {waits:?}");
    assert!(waits[7].0 > 2 * waits[0].0, "{waits:?}");
    net.pass(Micros::from_secs(20));
    let calm = succeed(&mut net);
    assert!(calm.0 < 2 * waits[0].0, "{calm} after a calm term, at first {waits:?}");
}

#[test]
fn elector_whose_disk_is_lost_answers_for_no_earlier_life() {
    let mut net = Net::of(&three(), &[]);
    net.pass(Micros::from_secs(3));
    let lead = net.lead();
    let other = three().voters().map(|(voter, _)| voter.member).find(|member| *member != lead).unwrap();
    net.disks.insert(other, Vec::new());
    net.start(other);
    assert_ne!(net.electors[&other].life(), Incarnation(other.0));
    // Now both of the others are needed.
    let third = three().voters().map(|(voter, _)| voter.member).find(|m| *m != lead && *m != other).unwrap();
    net.electors.remove(&third);
    net.pass(Micros::from_secs(10));
    assert_eq!(net.leads(), vec![], "one voter, and one that is none");
    net.feed(lead, ElectorInput::Impose { version: 7, term: Term::default() });
    net.pass(Micros::from_secs(1));
    assert_eq!(net.lead(), lead, "by an operator's word");
    let electorate = net.electors[&lead].electorate().unwrap();
    assert_eq!((electorate.version(), electorate.size()), (8, 1));
}

#[test]
fn elector_journal_and_its_snapshot_stand_for_the_same_state() {
    let mut net = Net::of(&three(), &[]);
    net.pass(Micros::from_secs(3));
    for (member, elector) in &net.electors {
        let (from_disk, from_snapshot) =
            (Written::read(&net.disks[member]).unwrap(), Written::read(&elector.snapshot()).unwrap());
        assert_eq!(from_disk.life, from_snapshot.life);
        assert_eq!((from_disk.promised, from_disk.last), (from_snapshot.promised, from_snapshot.last));
        assert_eq!(from_disk.electorate, from_snapshot.electorate);
        let lead = |records: &[LeadRecord]| Lead::recover(net.config[member].lead.clone(), records);
        assert_eq!(lead(&from_disk.records), lead(&from_snapshot.records));
    }
}

#[test]
fn elector_takes_long_snapshots_in_pages_and_a_torn_one_counts_for_nothing() {
    let records: Vec<LeadRecord> = (0..6_000)
        .map(|n| LeadRecord::WaitedOut { node: id(1_000 + n), term: Term { number: 1, owner: id(1) } })
        .collect();
    let pages = to_pages(&three(), records.clone());
    assert!(pages.len() > 2 && pages.iter().all(|page| page.len() <= PAGE_BYTES_MAX));
    let mut net = Net::of(&three(), &records);
    net.pass(Micros::from_secs(4));
    let lead = net.lead();
    for (member, elector) in &net.electors {
        assert_eq!(elector.last(), net.electors[&lead].last(), "{member:?}");
        assert_eq!(elector.lead().snapshot(), net.electors[&lead].lead().snapshot());
    }
    let mut torn = vec![ElectionRecord::Life(Incarnation(1))];
    torn.extend(snapshot_records(Position::default(), &three(), records));
    torn.remove(2);
    assert_eq!(Written::read(&torn).unwrap().electorate, None);
}

#[test]
fn elector_refuses_a_snapshot_whose_electorate_is_impossible() {
    let twice = Electorate::told(
        3,
        [(voter(1), Role::Member), (Voter { incarnation: Incarnation(8), ..voter(1) }, Role::Member)],
    );
    let pages = to_pages(&twice, Vec::new());
    assert!(matches!(record::from_pages(&pages), Err(PageError::Electorate(_))));
    let witnesses = Electorate::told(3, [(voter(1), Role::Witness)]);
    assert!(matches!(record::from_pages(&to_pages(&witnesses, Vec::new())), Err(PageError::Electorate(_))));
    assert!(matches!(record::from_pages(&[vec![1, 2, 3]]), Err(PageError::Wire(_))));
}

#[test]
fn elector_whose_voters_claim_more_records_than_there_can_be_goes_on() {
    let mut net = Net::of(&three(), &[]);
    net.pass(Micros::from_secs(3));
    let lead = net.lead();
    let term = net.electors[&lead].lead().term();
    let other = three().voters().map(|(voter, _)| voter).find(|voter| voter.member != lead).unwrap();
    let last = Position { term, sequence: u64::MAX };
    let stored = ElectionMessage::Stored { life: other.incarnation, last };
    net.feed(lead, ElectorInput::Message { from: other.member, message: ControlMessage::Election(stored) });
    net.pass(Micros::from_secs(3));
    assert_eq!((net.lead(), net.electors[&lead].lead().term()), (lead, term));
}

#[test]
fn elector_that_votes_alone_leads_again_whatever_term_a_node_has_heard_of() {
    for number in [Term::HEARSAY_MAX, Term::HEARSAY_MAX + 1, u64::MAX] {
        let mut net = Net::of(&Electorate::of_one(voter(1)), &[]);
        net.feed(id(1), ElectorInput::Tick);
        let highest = Term { number, owner: id(2) };
        net.feed(id(1), ElectorInput::Message { from: id(2), message: ControlMessage::Stale { highest } });
        net.pass(Micros::from_secs(8));
        assert_eq!(net.lead(), id(1));
        let term = net.electors[&id(1)].lead().term();
        assert_eq!(term > highest, number == Term::HEARSAY_MAX, "{term} after {highest}");
    }
}
