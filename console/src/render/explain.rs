//! A decision in words and numbers: who won, why, and that the parts add up. Scores are costs: the lowest wins.

use std::fmt::Write as _;

use codeco_protocol::api::{Bid, BidAnswer, Candidate, DecisionLevel, DecisionView, ScorePart};
use codeco_protocol::units::WallTime;

use super::numbers::{age, measure, number, score, since};
use super::{Cell, Column, Fields, Table, Tone, Width, clean};

/// Everything about one decision.
pub(crate) fn render(decision: &DecisionView, now: WallTime, painted: bool) -> String {
    let level = match decision.level {
        DecisionLevel::Cluster => "which cluster",
        DecisionLevel::Node => "which node",
    };
    let replica = format!("{}/{}-{}", decision.app, decision.service, decision.index);
    let mut text = format!("{replica}: {level}, decided {} ago\n", since(decision.at, now));
    let with_total = |name: &Option<String>| {
        let name = name.clone()?;
        let total = candidate(decision, &name).and_then(|candidate| candidate.total);
        Some(total.map_or(name.clone(), |total| format!("{name} (score {})", score(total))))
    };
    let sums = match decision.check_sums() {
        Ok(()) => "yes".to_owned(),
        Err(error) => format!("no: {error}"),
    };
    let fields = Fields::default()
        .with("action", &decision.action)
        .maybe("chosen", with_total(&decision.chosen).as_ref())
        .maybe("runner-up", with_total(&runner_up(decision)).as_ref())
        .with("why", why(decision))
        .with("reason", &decision.reason)
        .maybe("token", decision.token.as_ref())
        .with("policy", format!("{}, profile {}", decision.policy, decision.profile))
        .with("decision", decision.id)
        .with("parts add up", sums);
    text.push_str(&indented(&fields.render()));
    for intent in &decision.intents {
        let _ = writeln!(text, "  intent: {}", clean(intent));
    }
    for table in [scores(decision), filters(decision), bids(decision), inputs(decision)] {
        if !table.rows.is_empty() {
            text.push('\n');
            text.push_str(&indented(&table.render(Width { paint: painted, ..Width::default() })));
        }
    }
    text
}

/// Why the winner won, in one sentence.
pub(crate) fn why(decision: &DecisionView) -> String {
    let Some(chosen) = &decision.chosen else {
        let feasible = decision.candidates.iter().filter(|candidate| candidate.total.is_some()).count();
        return match (decision.candidates.len(), feasible) {
            (0, _) => "nobody was chosen: there was no candidate".to_owned(),
            (all, 0) => format!("nobody was chosen: filters took out all {all} candidates"),
            _ => "nobody was chosen, though some candidates passed the filters".to_owned(),
        };
    };
    let Some(second) = runner_up(decision) else {
        return format!("{chosen} was the only candidate that passed the filters");
    };
    let totals = |name: &str| candidate(decision, name).and_then(|found| Some((found, found.total?)));
    let (Some((winner, won)), Some((loser, lost))) = (totals(chosen), totals(&second)) else {
        return format!("{chosen} was chosen; its score or that of {second} is not recorded");
    };
    let gap = lost - won;
    if gap < 0.0 {
        let bid = loser.bid.as_ref().map_or("; it was not asked for a bid".to_owned(), |bid| {
            format!("; its bid was {}", bid_word(bid))
        });
        return format!("{second} scores lower by {}, but was not taken{bid}", number(-gap));
    }
    if gap == 0.0 {
        return format!("{chosen} and {second} score the same, {}: the name decided", number(won));
    }
    let largest = lead_parts(winner, loser).into_iter().next();
    let because = largest.map_or_else(String::new, |lead| {
        format!("; the largest difference is {}: {} against {}", lead.name, lead.ours, lead.theirs)
    });
    format!("{chosen} costs {} less than {second}{because}", number(gap))
}

/// A part in which one candidate is better than another.
struct Lead {
    name: String,
    ours: String,
    theirs: String,
    by: f64,
}

/// The parts in which `winner` is better than `loser`, the largest difference first.
fn lead_parts(winner: &Candidate, loser: &Candidate) -> Vec<Lead> {
    let part = |of: &Candidate, name: &str| of.parts.iter().find(|part| part.name == name).cloned();
    let raw =
        |part: Option<&ScorePart>| part.map_or("nothing".to_owned(), |part| measure(part.raw, &part.unit));
    let mut names: Vec<&String> = winner.parts.iter().chain(&loser.parts).map(|part| &part.name).collect();
    names.sort();
    names.dedup();
    let mut leads: Vec<Lead> = names
        .into_iter()
        .filter_map(|name| {
            let (ours, theirs) = (part(winner, name), part(loser, name));
            let cost = |part: &Option<ScorePart>| part.as_ref().map_or(0.0, |part| part.contribution);
            let by = cost(&theirs) - cost(&ours);
            (by > 0.0).then(|| Lead {
                name: clean(name),
                ours: raw(ours.as_ref()),
                theirs: raw(theirs.as_ref()),
                by,
            })
        })
        .collect();
    leads.sort_by(|a, b| b.by.total_cmp(&a.by));
    leads
}

/// Why `name` was not chosen in `decision`. `None` if it was not looked at.
pub(crate) fn why_not(decision: &DecisionView, name: &str) -> Option<String> {
    if decision.chosen.as_deref() == Some(name) {
        return Some(format!("{name} was chosen: {}", why(decision)));
    }
    let Some(found) = candidate(decision, name) else {
        let filter = decision.filters.iter().find(|filter| filter.candidates.iter().any(|c| c == name))?;
        return Some(format!("{name} was taken out by a filter: {}", clean(&filter.reason)));
    };
    if let Some(filter) = &found.filtered_by {
        return Some(format!("{name} was taken out by a filter: {}", clean(filter)));
    }
    let refused = found.bid.as_ref().filter(|bid| bid.answer != BidAnswer::Yes);
    let refused = refused.map(|bid| format!("; its bid was {}", bid_word(bid))).unwrap_or_default();
    let winner = decision.chosen.as_deref().and_then(|chosen| candidate(decision, chosen));
    let Some((winner, (won, lost))) =
        winner.and_then(|winner| Some((winner, winner.total.zip(found.total)?)))
    else {
        return Some(format!("{name} passed the filters; {}{refused}", why(decision)));
    };
    let mut text = format!(
        "{name} lost to {}: score {} against {}, lower is better{refused}",
        winner.name,
        score(lost),
        score(won)
    );
    for lead in lead_parts(winner, found) {
        let _ = write!(
            text,
            "\n  - {}: {} against {}, costs {} more",
            lead.name,
            lead.theirs,
            lead.ours,
            number(lead.by)
        );
    }
    Some(text)
}

/// The runner-up as recorded, or the best of the rest.
fn runner_up(decision: &DecisionView) -> Option<String> {
    let rest =
        decision.candidates.iter().filter(|candidate| Some(&candidate.name) != decision.chosen.as_ref());
    let best = rest.filter_map(|candidate| Some((candidate.total?, &candidate.name)));
    let best = best.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name.clone());
    decision.runner_up.clone().or(best)
}

fn candidate<'a>(decision: &'a DecisionView, name: &str) -> Option<&'a Candidate> {
    decision.candidates.iter().find(|candidate| candidate.name == name)
}

fn bid_word(bid: &Bid) -> &'static str {
    match bid.answer {
        BidAnswer::Yes => "yes",
        BidAnswer::No => "no",
        BidAnswer::Silent => "silent",
    }
}

const SCORES: &[Column] = &[
    Column::new("CANDIDATE"),
    Column::new("PART"),
    Column::new("RAW"),
    Column::new("NORMALIZED"),
    Column::new("WEIGHT"),
    Column::new("CONTRIBUTION"),
    Column::new("NOTE"),
];

fn scores(decision: &DecisionView) -> Table {
    let mut feasible: Vec<(&Candidate, f64)> =
        decision.candidates.iter().filter_map(|candidate| Some((candidate, candidate.total?))).collect();
    feasible.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut rows = Vec::new();
    for (found, total) in feasible {
        let mut name = found.name.as_str();
        for part in &found.parts {
            rows.push(vec![
                Cell::new(name),
                Cell::new(&part.name),
                Cell::new(measure(part.raw, &part.unit)),
                Cell::new(score(part.normalized)),
                Cell::new(number(part.weight)),
                Cell::new(score(part.contribution)),
                Cell::new(if part.note.is_empty() { " " } else { &part.note }),
            ]);
            name = " ";
        }
        let (note, tone) = match &decision.chosen {
            Some(chosen) if *chosen == found.name => ("chosen", Tone::Good),
            _ => (" ", Tone::Plain),
        };
        rows.push(vec![
            Cell::new(name),
            Cell::new("total"),
            Cell::new(" "),
            Cell::new(" "),
            Cell::new(" "),
            Cell::toned(score(total), tone),
            Cell::toned(note, tone),
        ]);
    }
    Table { columns: SCORES, rows }
}

const FILTERS: &[Column] = &[Column::new("FILTER"), Column::new("TOOK-OUT"), Column::new("CANDIDATES")];

fn filters(decision: &DecisionView) -> Table {
    let row = |filter: &codeco_protocol::api::FilterCount| {
        vec![Cell::new(&filter.reason), Cell::new(filter.count), Cell::new(filter.candidates.join(", "))]
    };
    Table { columns: FILTERS, rows: decision.filters.iter().map(row).collect() }
}

const BIDS: &[Column] =
    &[Column::new("BIDDER"), Column::new("ANSWER"), Column::new("SCORE"), Column::new("VIEW-AGE")];

fn bids(decision: &DecisionView) -> Table {
    let row = |candidate: &Candidate| {
        let bid = candidate.bid.as_ref()?;
        Some(vec![
            Cell::new(&candidate.name),
            Cell::new(bid_word(bid)),
            Cell::maybe(bid.total.map(score).as_ref()),
            Cell::maybe(bid.age_ms.map(age).as_ref()),
        ])
    };
    Table { columns: BIDS, rows: decision.candidates.iter().filter_map(row).collect() }
}

const INPUTS: &[Column] = &[Column::new("INPUT"), Column::new("AGE")];

fn inputs(decision: &DecisionView) -> Table {
    let row =
        |input: &codeco_protocol::api::InputAge| vec![Cell::new(&input.name), Cell::new(age(input.age_ms))];
    Table { columns: INPUTS, rows: decision.inputs.iter().map(row).collect() }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}
