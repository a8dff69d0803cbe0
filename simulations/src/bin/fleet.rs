use codeco_simulations::fleet::{self, Planted, Playing, Scenario};
use std::path::PathBuf;
fn main() {
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().unwrap());
    let seeds = args.next().unwrap();
    let mode = args.next().unwrap_or_default();
    let scenario = Scenario::read(&path).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(2)
    });
    let (a, b) = seeds.split_once("..").unwrap_or((&seeds, ""));
    let a: u64 = a.parse().unwrap();
    let b: u64 = if b.is_empty() { a + 1 } else { b.parse().unwrap() };
    if mode == "planted" {
        let skip: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        for planted in Planted::ALL.into_iter().skip(skip) {
            let playing = Playing { planted: Some(planted), ..Playing::default() };
            let began = std::time::Instant::now();
            match fleet::run_seeds(&scenario, a..b, 2, playing, &|_| {}) {
                Ok(_) => println!("{planted:?}: NOT FOUND"),
                Err(f) => {
                    println!(
                        "{planted:?}: seed {} {}",
                        f.seed,
                        f.violation.to_string().chars().take(300).collect::<String>()
                    );
                    let s = fleet::shrink(&scenario, &f, playing);
                    match s {
                        Some(s) => println!(
                            "   shrunk in {} tries to {} acts, {} x {} nodes, {} apps: {:?}",
                            s.tries,
                            s.scenario.acts.len(),
                            s.scenario.fleet.clusters,
                            s.scenario.fleet.nodes,
                            s.scenario.users.apps,
                            s.scenario.acts
                        ),
                        None => println!("   not shrunk"),
                    }
                }
            }
            println!("   {:.1} s", began.elapsed().as_secs_f64());
        }
        return;
    }
    let trace = mode == "t";
    let mut sum = fleet::Counts::default();
    let mut bad = 0;
    let began = std::time::Instant::now();
    let mut virt = 0.0;
    let (mut at, mut worst) = (0, 0.0);
    for seed in a..b {
        match fleet::run(&scenario, seed, Playing { trace, ..Playing::default() }) {
            Ok(o) => {
                sum.add(&o.counts);
                virt += o.played_s;
                if o.converged_s > worst {
                    (at, worst) = (seed, o.converged_s);
                }
                if b - a < 20 {
                    println!("seed {seed} digest {:016x} converged {:.1} s", o.digest, o.converged_s);
                }
            }
            Err(f) => {
                bad += 1;
                let f = *f;
                println!(
                    "seed {seed}: at {:.1} {}",
                    f.at_s,
                    f.violation
                        .to_string()
                        .chars()
                        .take(if b - a == 1 { 60000 } else { 600 })
                        .collect::<String>()
                );
                if b - a == 1 {
                    println!("{}", f.tail.join("\n"));
                }
            }
        }
    }
    let s = began.elapsed().as_secs_f64();
    println!(
        "{sum}{bad} bad of {}; {s:.1} s, {:.1} x real time, {:.1} us per event; slowest {worst:.1} s seed {at}",
        b - a,
        virt / s,
        s * 1e6 / sum.events as f64
    );
}
