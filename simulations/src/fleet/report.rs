//! One run as a page that needs nothing else: plots over time, what happened when, and what it came to.

use std::fmt::Write as _;

use super::run::Outcome;
use super::scenario::Scenario;
use super::series::Sample;

/// Width and height of a plot, and the room for its axis.
const SIZE: (f64, f64, f64) = (920.0, 150.0, 60.0);

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
h2{margin-top:1.6em;font-size:1.1em}svg{display:block}table{border-collapse:collapse}td,th{padding:.15em .8em .15em 0;\
text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}.axis{stroke:#999}\
.fault{stroke:#c33;stroke-opacity:.35}.a{stroke:#06c}.b{stroke:#e80}path{fill:none;stroke-width:1.5}\
text{font-size:12px;fill:#555}.key-a{color:#06c}.key-b{color:#e80}";

/// A line of a plot: its name, and the value in each sample.
type Line<'a> = (&'a str, fn(&Sample) -> f64);

/// The page.
#[must_use]
pub fn report(name: &str, seed: u64, scenario: &Scenario, outcome: &Outcome) -> String {
    let mut page = String::new();
    let fleet = &scenario.fleet;
    // Writing to a String does not fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1><p>{about}</p><p>{hubs} hubs, {clusters} clusters of {nodes} nodes; seed {seed}; {played:.0} s of \
         virtual time. Faults stopped, and {converged:.1} s later everything was as it should be. Red lines are what \
         happened to the fleet; the table below says what each was.</p>",
        title = escape(&format!("Simulation of {name}")),
        about = escape(&scenario.about),
        hubs = fleet.hubs,
        clusters = fleet.clusters,
        nodes = fleet.nodes,
        played = outcome.played_s,
        converged = outcome.converged_s,
    );
    #[allow(clippy::cast_precision_loss)]
    let plots: [(&str, &[Line<'_>]); 6] = [
        (
            "Members: the share of pairs of one cluster in which one sees the other, of those that are up",
            &[("seen", |s| s.seen)],
        ),
        ("Replicas", &[("running and ready", |s| s.ready as f64), ("wanted", |s| s.wanted as f64)]),
        ("Moves to another node, so far", &[("moves", |s| s.moves as f64)]),
        ("Messages refused or without a way, so far", &[("messages", |s| s.refusals as f64)]),
        (
            "What a member sends in a second",
            &[("bytes", |s| s.bytes), ("messages × 100", |s| s.messages * 100.0)],
        ),
        ("Power of all nodes that are up", &[("watts", |s| s.power_w)]),
    ];
    for (title, lines) in plots {
        plot(&mut page, title, lines, outcome);
    }
    let _ = write!(page, "<h2>What happened</h2><table><tr><th>at<th>what");
    for (at, what) in &outcome.timeline {
        let _ = write!(page, "<tr><td class=n>{at:.1} s<td>{}", escape(what));
    }
    let _ = write!(page, "</table><h2>What it came to</h2><table>");
    for (label, count) in outcome.counts.lines() {
        let _ = write!(page, "<tr><td class=n>{count}<td>{}", escape(&label));
    }
    let _ = write!(page, "</table><h2>Traffic</h2><table><tr><th>kind<th>messages<th>bytes");
    for (kind, bytes, messages) in &outcome.traffic {
        let _ = write!(page, "<tr><td>{kind}<td class=n>{messages}<td class=n>{bytes}");
    }
    let _ = write!(
        page,
        "</table><p>Digest of all events: {:016x}. The same seed gives the same run.</p>",
        outcome.digest
    );
    page
}

fn plot(page: &mut String, title: &str, lines: &[Line<'_>], outcome: &Outcome) {
    let (width, height, left) = SIZE;
    let end = outcome.played_s.max(1e-9);
    let most = outcome
        .samples
        .iter()
        .flat_map(|sample| lines.iter().map(move |(_, value)| value(sample)))
        .fold(1e-9, f64::max);
    let x = |at: f64| left + at / end * (width - left - 10.0);
    let y = |value: f64| height - 20.0 - value / most * (height - 35.0);
    let _ = write!(page, "<h2>{}</h2><p>", escape(title));
    for (at, (name, _)) in lines.iter().enumerate() {
        let _ =
            write!(page, "<span class=key-{}>━ {}</span> ", if at == 0 { 'a' } else { 'b' }, escape(name));
    }
    let _ = write!(page, "</p><svg viewBox=\"0 0 {width} {height}\" width=\"100%\">");
    for (at, what) in &outcome.timeline {
        let _ = write!(
            page,
            "<line class=fault x1={0:.1} x2={0:.1} y1=5 y2={1:.1}><title>{2:.1} s: {3}</title></line>",
            x(*at),
            height - 20.0,
            at,
            escape(what)
        );
    }
    let (floor, right) = (height - 20.0, width - 10.0);
    let _ = write!(page, "<line class=axis x1={left} x2={right} y1={floor} y2={floor} />");
    let _ = write!(page, "<text x=2 y=16>{}</text><text x=2 y={floor}>0</text>", number(most));
    let _ = write!(page, "<text x={left} y={height}>0 s</text>");
    let _ = write!(page, "<text x={right} y={height} text-anchor=end>{end:.0} s</text>");
    for (at, (_, value)) in lines.iter().enumerate() {
        let _ = write!(page, "<path class={} d=\"", if at == 0 { 'a' } else { 'b' });
        for (index, sample) in outcome.samples.iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            let _ = write!(page, "{step}{:.1} {:.1}", x(sample.at_s), y(value(sample)));
        }
        let _ = write!(page, "\"/>");
    }
    let _ = write!(page, "</svg>");
}

fn number(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
