//! From what the API answers to rows, and to everything about one of them.

use std::collections::BTreeMap;

use codeco_protocol::api::{ActorState, ActorView, LinkStatus};
use codeco_protocol::ids::ClusterName;
use codeco_protocol::units::{Micros, WallTime};

use super::state::{Data, View};
use crate::render::numbers::{age, millis, number};
use crate::render::{Cell, Column, Row, Tone, Width, explain, table};

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// What it is about; never that of another row.
    pub(super) key: String,
    pub(super) cells: Vec<Cell>,
    /// Whether it heads those after it.
    pub(super) heads: bool,
}

fn line(key: String, cells: Vec<Cell>) -> Line {
    Line { key, cells, heads: false }
}

/// Titles of the columns of a view.
pub(super) fn titles(view: View) -> &'static [&'static str] {
    match view {
        View::Fleet => &["NAME", "STATUS", "ROLE", "CPU", "MEMORY", "REPLICAS", "LINKS", "SLOWEST", "SEEN"],
        View::Actors => {
            &["ACTOR", "STATE", "MAILBOX", "WAIT-P50", "WAIT-P99", "RATE", "RESTARTS", "LAST-ERROR"]
        }
        View::Apps => &["NAME", "STATUS", "READY", "CLUSTER", "NODE", "RESTARTS", "AGE"],
        View::Decisions => &["AGE", "REPLICA", "LEVEL", "ACTION", "CHOSEN", "RUNNER-UP", "REASON"],
    }
}

/// The rows of a view, in order.
pub(super) fn lines(data: &Data, now: WallTime) -> Vec<Line> {
    match data.view {
        View::Fleet => fleet(data),
        View::Actors => actors(&data.actors),
        View::Apps => apps(data, now),
        View::Decisions => decisions(data, now),
    }
}

fn fleet(data: &Data) -> Vec<Line> {
    let mut lines = Vec::new();
    for cluster in &data.clusters {
        let tone = if cluster.nodes_ready == cluster.nodes { Tone::Good } else { Tone::Bad };
        let cells = vec![
            Cell::new(&cluster.name),
            Cell::toned(format!("{:?}", cluster.status), tone),
            Cell::new(format!("{}/{} ready", cluster.nodes_ready, cluster.nodes)),
            Cell::new(format!("{} free", cluster.free.cpu)),
            Cell::new(format!("{} free", cluster.free.memory)),
            Cell::new(cluster.replicas),
            Cell::new(format!("term {}", cluster.term)),
            Cell::new(""),
            Cell::new(age(cluster.age_ms)),
        ];
        lines.push(Line { heads: true, ..line(format!("cluster/{}", cluster.name), cells) });
        let nodes = data.nodes.iter().filter(|node| node.cluster == cluster.name);
        lines.extend(nodes.map(|node| {
            let name = format!("{}/{}", node.cluster, node.name);
            let tone = if node.ready { Tone::Good } else { Tone::Bad };
            let (links, slowest) = links_of(data, &name);
            let cells = vec![
                Cell::new(format!("  {}", node.name)),
                Cell::toned(format!("{:?}", node.status), tone),
                Cell::new(if node.lead { "lead" } else { "node" }),
                Cell::new(format!("{}/{}", node.used.cpu, node.capacity.cpu)),
                Cell::new(format!("{}/{}", node.used.memory, node.capacity.memory)),
                Cell::new(node.replicas),
                links,
                slowest,
                Cell::new(age(node.age_ms)),
            ];
            line(format!("node/{name}"), cells)
        }));
    }
    lines
}

/// How many links of a node are up, and the slowest round trip.
fn links_of(data: &Data, name: &str) -> (Cell, Cell) {
    let measured: Vec<_> =
        data.links.iter().filter(|link| link.from == name && link.status != LinkStatus::Unmeasured).collect();
    let up = measured.iter().filter(|link| link.status == LinkStatus::Up).count();
    let bad = measured.iter().any(|link| matches!(link.status, LinkStatus::Down | LinkStatus::Silent));
    let tone = if bad { Tone::Bad } else { Tone::Plain };
    let slowest = measured.iter().filter_map(|link| link.rtt_us).max().map(millis);
    let links = if measured.is_empty() { String::new() } else { format!("{up}/{} up", measured.len()) };
    (Cell::toned(links, tone), Cell::maybe(slowest.as_ref()))
}

/// The supervision tree of each member: every actor below its supervisor.
fn actors(actors: &[ActorView]) -> Vec<Line> {
    let mut members: BTreeMap<&str, Vec<&ActorView>> = BTreeMap::new();
    for actor in actors {
        members.entry(&actor.member).or_default().push(actor);
    }
    let mut lines = Vec::new();
    for (member, mut tree) in members {
        tree.sort_by(|a, b| a.name.split('/').cmp(b.name.split('/')));
        let bad = tree.iter().filter(|actor| actor.state != ActorState::Running).count();
        let (word, tone) = if bad == 0 {
            ("all run".to_owned(), Tone::Good)
        } else {
            (format!("{bad} do not run"), Tone::Bad)
        };
        let waiting: u64 = tree.iter().map(|actor| actor.mailbox_depth).sum();
        let rate: f64 = tree.iter().map(|actor| actor.handled_per_second).sum();
        let restarts: u64 = tree.iter().map(|actor| actor.restarts).sum();
        let mut cells = vec![Cell::new(member), Cell::toned(word, tone), Cell::new(waiting)];
        cells.extend([Cell::new(""), Cell::new(""), Cell::new(format!("{}/s", number(rate)))]);
        cells.extend([Cell::new(restarts), Cell::new("")]);
        lines.push(Line { heads: true, ..line(format!("member/{member}"), cells) });
        lines.extend(tree.into_iter().map(actor));
    }
    lines
}

fn actor(actor: &ActorView) -> Line {
    let depth = actor.name.split('/').count();
    let name = actor.name.rsplit('/').next().unwrap_or_default();
    let tone = match actor.state {
        ActorState::Running => Tone::Good,
        ActorState::BackingOff => Tone::Busy,
        ActorState::GivenUp => Tone::Bad,
        ActorState::Stopped => Tone::Plain,
    };
    let waits = if actor.mailbox_depth > 0 { Tone::Busy } else { Tone::Plain };
    let cells = vec![
        Cell::new(format!("{}{name}", "  ".repeat(depth))),
        Cell::toned(format!("{:?}", actor.state), tone),
        Cell::toned(actor.mailbox_depth, waits),
        Cell::maybe(actor.wait_p50_us.map(Micros).as_ref()),
        Cell::maybe(actor.wait_p99_us.map(Micros).as_ref()),
        Cell::new(format!("{}/s", number(actor.handled_per_second))),
        Cell::toned(actor.restarts, if actor.restarts > 0 { Tone::Busy } else { Tone::Plain }),
        Cell::maybe(actor.last_error.as_ref()),
    ];
    line(format!("actor/{}:{}", actor.member, actor.name), cells)
}

fn apps(data: &Data, now: WallTime) -> Vec<Line> {
    let mut lines = Vec::new();
    for app in &data.apps {
        let ready = app.replicas_ready >= app.replicas_wanted;
        let clusters: Vec<&str> = app.clusters.iter().map(ClusterName::as_str).collect();
        let cells = vec![
            Cell::new(format!("{}/{}", app.namespace, app.name)),
            Cell::toned(format!("{:?}", app.phase), if ready { Tone::Good } else { Tone::Busy }),
            Cell::new(format!("{}/{}", app.replicas_ready, app.replicas_wanted)),
            Cell::new(clusters.join(",")),
            Cell::new(""),
            Cell::new(""),
            Cell::new(crate::render::numbers::since(app.created_at, now)),
        ];
        lines.push(Line { heads: true, ..line(format!("app/{}/{}", app.namespace, app.name), cells) });
        let replicas = data.replicas.iter().enumerate();
        let own = replicas.filter(|(_, r)| r.app == app.name && r.namespace == app.namespace);
        lines.extend(own.map(|(at, replica)| {
            let tone = if replica.ready { Tone::Good } else { Tone::Bad };
            let stale = if replica.stale { " (stale)" } else { "" };
            let cells = vec![
                Cell::new(format!("  {}-{}", replica.service, replica.index)),
                Cell::toned(format!("{:?}{stale}", replica.phase), tone),
                Cell::new(if replica.ready { "yes" } else { "no" }),
                Cell::maybe(replica.cluster.as_ref()),
                Cell::maybe(replica.node.as_ref()),
                Cell::new(replica.restarts),
                Cell::new(crate::render::numbers::since(replica.since, now)),
            ];
            line(format!("replica/{at}"), cells)
        }));
    }
    lines
}

fn decisions(data: &Data, now: WallTime) -> Vec<Line> {
    let of = |decision: &codeco_protocol::api::DecisionView| {
        let cells = vec![
            Cell::new(crate::render::numbers::since(decision.at, now)),
            Cell::new(format!("{}/{}-{}", decision.app, decision.service, decision.index)),
            Cell::new(format!("{:?}", decision.level)),
            Cell::new(&decision.action),
            Cell::maybe(decision.chosen.as_ref()),
            Cell::maybe(decision.runner_up.as_ref()),
            Cell::new(&decision.reason),
        ];
        line(format!("decision/{}", decision.id), cells)
    };
    data.decisions.iter().map(of).collect()
}

/// Everything about the object of a row, as lines of text.
pub(super) fn detail(data: &Data, key: &str, now: WallTime) -> Vec<String> {
    let text = match (data.view, key.split_once('/')) {
        (View::Decisions, Some((_, id))) => data
            .decisions
            .iter()
            .find(|decision| decision.id.to_string() == id)
            .map(|decision| explain::render(decision, now, false)),
        (View::Apps, Some(("replica", at))) => {
            at.parse::<usize>().ok().and_then(|at| data.replicas.get(at)).map(|row| fields(row, now))
        }
        (View::Apps, Some((_, name))) => data
            .apps
            .iter()
            .find(|app| format!("{}/{}", app.namespace, app.name) == name)
            .map(|app| fields(app, now)),
        (View::Fleet, Some(("cluster", name))) => {
            data.clusters.iter().find(|cluster| cluster.name.as_str() == name).map(|row| fields(row, now))
        }
        (View::Fleet, Some((_, name))) => node(data, name, now),
        (View::Actors, Some((_, name))) => data
            .actors
            .iter()
            .find(|actor| format!("{}:{}", actor.member, actor.name) == name)
            .map(|actor| fields(actor, now)),
        (_, None) => None,
    };
    text.unwrap_or_else(|| "there is nothing more to tell".to_owned())
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

fn node(data: &Data, name: &str, now: WallTime) -> Option<String> {
    let node = data.nodes.iter().find(|node| format!("{}/{}", node.cluster, node.name) == name)?;
    let mut text = fields(node, now);
    for fact in &node.facts {
        text += &format!("{}: {} (at most {} old)\n", fact.name, fact.value, age(fact.age_ms));
    }
    let links: Vec<_> = data.links.iter().filter(|link| link.from == name).cloned().collect();
    text.push('\n');
    text += &table(&links, now).render(Width { wide: true, ..Width::default() });
    Some(text)
}

/// All columns of a row, one a line.
fn fields<R: Row>(row: &R, now: WallTime) -> String {
    let titles = R::COLUMNS.iter().map(Column::title);
    let lines = titles.zip(row.cells(now)).map(|(title, cell)| format!("{title:<16} {}\n", cell.text));
    lines.collect()
}
