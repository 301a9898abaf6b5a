//! `roadhound-train evaluate --mot`: scores results of many objects against truth.

use std::path::Path;

use anyhow::Result;
use roadhound_trainer::many::{self, ManyRules, SequenceScore};

/// Scores, prints the table, and writes it where that was asked for.
pub(super) fn evaluate_many(
    results: &Path,
    truth: &Path,
    rules: Option<ManyRules>,
    csv: Option<&Path>,
) -> Result<()> {
    let rules = rules.map_or_else(|| ManyRules::of(truth), Ok)?;
    let scores = many::evaluate(results, truth, rules)?;
    print_table(rules, &scores);
    if let Some(path) = csv {
        many::write_csv(path, &scores)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print_table(rules: ManyRules, scores: &[SequenceScore]) {
    println!("rules: {rules:?}; shares in percent");
    println!(
        "{:<24} frames  boxes   HOTA   DetA   AssA   LocA   MOTA   MOTP   IDF1    IDP    IDR  IDSW  Frag   MT   PT   ML",
        "sequence"
    );
    for SequenceScore { name, score } in scores {
        let (h, c, i) = (&score.hota, &score.clear, &score.identity);
        let shares = [
            h.hota(),
            h.detection(),
            h.association(),
            h.localisation(),
            c.accuracy(),
            c.precision(),
            i.f1(),
            i.precision(),
            i.recall(),
        ]
        .map(|share| format!("{:>6.2}", 100.0 * share))
        .join(" ");
        println!(
            "{name:<24} {:>6} {:>6} {shares} {:>5} {:>5} {:>4} {:>4} {:>4}",
            score.frames,
            score.truth_boxes,
            c.switches,
            c.fragmentations,
            c.mostly_tracked,
            c.partly_tracked,
            c.mostly_lost
        );
    }
}
