//! The accounts: every process belongs to a promise, every promise is kept, none is lost or made twice.
//!
//! [`audit`] and [`continued`] hold at any moment, also in the middle of a crash; [`balance`] and [`undecided_ends`] hold
//! once the fleet is at rest, [`resurrected`] once a deletion was complete. Each names everything it finds wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use codeco_actors::swm::ledger::LedgerRecord;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::token::Token;

use crate::books::promise;
use crate::{Books, LedgerBook, Promise, Trouble, WorkloadProcess, workloads};

/// Everything wrong now with the running fleet in `state`, by the rules that hold at any moment. Returns the books, for
/// [`continued`].
///
/// # Errors
/// [`Trouble`]: a journal cannot be read.
pub fn audit(state: &Path) -> Result<(Books, Vec<String>), Trouble> {
    let before = Books::read(state)?;
    let processes = workloads(|mark| before.node_of(mark).is_some());
    let after = Books::read(state)?;
    let mut found = unpromised(&processes, &before, &after);
    found.extend(histories(&after));
    Ok((after, found))
}

/// Processes that no journal answers for. `before` was read before the processes were looked at, `after` later: a
/// promise is written before its process starts, and closed only when its process is proven gone.
#[must_use]
pub fn unpromised(processes: &[WorkloadProcess], before: &Books, after: &Books) -> Vec<String> {
    let mut found = Vec::new();
    for process in processes {
        let WorkloadProcess { replica, token, pid, .. } = process;
        let (Some((node, old)), Some((_, new))) =
            (before.node_of(&process.guard), after.node_of(&process.guard))
        else {
            found.push(format!("process {pid} of {replica} under {token} belongs to no node of this fleet"));
            continue;
        };
        if !has(&new.committed(), replica, token) {
            found.push(format!(
                "{node} runs process {pid} of {replica} under {token}, which it never promised"
            ));
        }
        if has(&old.closed(), replica, token) {
            found.push(format!("{node} runs process {pid} of {replica} under {token}, which it had closed"));
        }
    }
    found
}

fn has(promises: &BTreeSet<Promise>, replica: &str, token: &str) -> bool {
    promises.iter().any(|promise| promise.replica == replica && promise.token.to_string() == token)
}

/// Promises made twice: of a closed token, or of one token by two nodes.
#[must_use]
pub fn histories(books: &Books) -> Vec<String> {
    let mut found = Vec::new();
    let mut makers: BTreeMap<Promise, &str> = BTreeMap::new();
    for (node, book) in &books.ledgers {
        let mut closed = BTreeSet::new();
        for record in &book.records {
            match record {
                LedgerRecord::Closed { replica, token } => {
                    closed.insert(promise(replica, *token));
                }
                LedgerRecord::Committed { replica, token, .. }
                    if closed.contains(&promise(replica, *token)) =>
                {
                    found.push(format!("{node} promised {replica} under {token} after it had closed that"));
                }
                _ => {}
            }
        }
        for promise in book.committed() {
            let (replica, token) = (promise.replica.clone(), promise.token);
            if let Some(other) = makers.insert(promise, node) {
                found.push(format!("{other} and {node} both promised {replica} under {token}"));
            }
        }
    }
    found
}

/// What was written once and is gone: every journal must begin with all that it held at an earlier look.
#[must_use]
pub fn continued(earlier: &Books, now: &Books) -> Vec<String> {
    let lost = |node: &String, old: &LedgerBook| {
        let kept = now.ledgers.get(node).is_some_and(|new| new.records.starts_with(&old.records));
        (!kept).then(|| format!("the journal of {node} has lost some of its {} records", old.records.len()))
    };
    earlier.ledgers.iter().filter_map(|(node, old)| lost(node, old)).collect()
}

/// What was ended though it is wanted and nothing newer was decided. Only of a fleet at rest: while things move, what is
/// newer may still be on its way.
#[must_use]
pub fn undecided_ends(books: &Books) -> Vec<String> {
    let mut kept: BTreeMap<&str, Token> = BTreeMap::new();
    for (replica, (token, _)) in books.ledgers.values().flat_map(|book| &book.held) {
        let newest = kept.entry(replica).or_insert(*token);
        *newest = (*newest).max(*token);
    }
    let mut found = Vec::new();
    for (node, book) in &books.ledgers {
        let closed = book.closed();
        for ended in book.committed().intersection(&closed) {
            let Promise { replica, token } = ended;
            let newer = kept.get(replica.as_str()).is_some_and(|newest| newest > token);
            if books.home.replicas.contains_key(replica) && !newer {
                found.push(format!(
                    "{node} ended {replica} under {token}: the home wants it, and nothing newer is kept"
                ));
            }
        }
    }
    found
}

/// What is left of, or was promised again to, an application whose deletion was complete at an earlier look.
#[must_use]
pub fn resurrected(earlier: &Books, now: &Books, app_uid: &str) -> Vec<String> {
    let is_of_app = |replica: &str| replica.rsplit_once('/').is_some_and(|(uid, _)| uid == app_uid);
    let mut found = Vec::new();
    for (node, book) in &now.ledgers {
        let known = earlier.ledgers.get(node).map(LedgerBook::committed).unwrap_or_default();
        let again = book.committed().into_iter().filter(|p| is_of_app(&p.replica) && !known.contains(p));
        found.extend(again.map(|p| format!("{node} promised {} of a deleted application", p.replica)));
        let held = book.held.keys().filter(|replica| is_of_app(replica));
        found.extend(held.map(|replica| format!("{node} keeps {replica} of a deleted application")));
    }
    for (cluster, mandates) in &now.leads {
        let left = mandates.keys().filter(|replica| is_of_app(replica));
        found.extend(left.map(|r| format!("the lead of {cluster} keeps {r} of a deleted application")));
    }
    let wanted = now.home.replicas.keys().filter(|replica| is_of_app(replica));
    found.extend(wanted.map(|replica| format!("the home wants {replica} of a deleted application")));
    found
}

/// Everything wrong with a fleet at rest: the home's mandates, the leads', the promises and the process groups must be
/// the same list.
#[must_use]
pub fn balance(books: &Books, processes: &[WorkloadProcess]) -> Vec<String> {
    let mut found = Vec::new();
    if books.home.leaving > 0 {
        found.push(format!("{} mandates are still to come back to the home", books.home.leaving));
    }
    let mut keepers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, book) in &books.ledgers {
        for (replica, (token, phase)) in &book.held {
            keepers.entry(replica).or_default().push(node);
            if *phase != HeldPhase::Committed {
                found.push(format!("{node} holds {replica} under {token} as {phase:?}"));
            }
            let groups: BTreeSet<u32> = processes
                .iter()
                .filter(|p| p.guard == book.mark && p.replica == *replica && p.token == token.to_string())
                .map(|process| process.group)
                .collect();
            if groups.len() != 1 {
                found
                    .push(format!("{node} promised {replica} under {token} and runs {} of it", groups.len()));
            }
        }
    }
    for (replica, (epoch, mandate)) in &books.home.replicas {
        let Some((mandate, cluster)) = mandate else {
            found.push(format!("no cluster has a mandate for {replica}"));
            continue;
        };
        if books.leads.get(cluster).and_then(|lead| lead.get(replica)) != Some(&(*epoch, *mandate)) {
            found.push(format!("the lead of {cluster} does not know mandate {} of {replica}", mandate.0));
        }
        let keepers = keepers.remove(replica.as_str()).unwrap_or_default();
        let &[keeper] = keepers.as_slice() else {
            found.push(format!("{replica} is promised by {keepers:?}, expected by one node of {cluster}"));
            continue;
        };
        let held = books.ledgers.get(keeper).and_then(|book| Some((book, book.held.get(replica)?)));
        if !held.is_some_and(|(book, (token, _))| {
            book.cluster == *cluster && token.mandate == *mandate && token.epoch == *epoch
        }) {
            found.push(format!(
                "{keeper} promised {replica} under another mandate than {} of {cluster}",
                mandate.0
            ));
        }
    }
    found.extend(
        keepers.keys().map(|replica| format!("{replica} is promised, and the home does not want it")),
    );
    for (cluster, mandates) in &books.leads {
        for replica in mandates.keys() {
            let wanted = books.home.replicas.get(replica).and_then(|(_, mandate)| mandate.as_ref());
            if wanted.is_none_or(|(_, given)| given != cluster) {
                found.push(format!(
                    "the lead of {cluster} keeps a mandate for {replica} that the home did not give"
                ));
            }
        }
    }
    for process in processes {
        let book = books.node_of(&process.guard).and_then(|(_, book)| book.held.get(&process.replica));
        if book.is_none_or(|(token, _)| token.to_string() != process.token) {
            found.push(format!(
                "process {} of {} under {} belongs to nothing that is promised",
                process.pid, process.replica, process.token
            ));
        }
    }
    found
}
