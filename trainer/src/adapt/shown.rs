//! What adaptations came to, as a table and as panels of the report.
//!
//! In: a [`Setting`] and [`Adapted`]s. Out: rows of text, a panel for each thing to look at.

use super::attempt::Adapted;
use super::measure::{Choice, Measures};
use super::score::{COLUMNS, Gain, Scored, mean_of, share_of_gap};
use super::setting::Setting;
use crate::report::panels::{Figure, Panel};

impl Setting {
    /// Names of the columns of the table.
    pub fn head(&self) -> Vec<String> {
        let fixed = [
            "parts",
            "kept",
            "agreement",
            "presence",
            "entropy",
            "proxy_a",
            "mmd",
            "source_auc",
        ];
        let scored = self.folders().into_iter().map(|name| format!("auc_{name}"));
        let target = self.judge.iter().map(|_| "target_auc".to_owned());
        fixed
            .iter()
            .map(|name| (*name).to_owned())
            .chain(target)
            .chain(scored)
            .collect()
    }

    /// The row of the bundle as it is.
    pub fn row_before(&self, scores: &[Scored]) -> Vec<String> {
        let target = self.judge.as_ref().map(|judge| judge.auc_before);
        self.row("source", "-", &self.before, target, scores)
    }

    /// A row of the table: its name, whose weights were kept, figures, and scores on labels of the target.
    fn row(
        &self,
        name: &str,
        kept: &str,
        m: &Measures,
        target: Option<f64>,
        scores: &[Scored],
    ) -> Vec<String> {
        let four = |v: f64| format!("{v:.4}");
        let optional = |v: Option<f64>| v.map_or("-".to_owned(), four);
        let mut row = vec![name.to_owned(), kept.to_owned()];
        row.extend([m.agreement, m.presence, m.entropy, m.proxy_a, m.mmd].map(optional));
        row.push(four(m.source_auc));
        row.extend(target.map(four));
        row.extend((0..self.sources.score.len()).map(|folder| four(mean_of(scores, folder))));
        row
    }

    /// The row of an adaptation.
    pub fn row_of(&self, adapted: &Adapted) -> Vec<String> {
        let kept = match adapted.choice {
            Choice::Candidate(_) => "adapted",
            Choice::SourceWasLost | Choice::EverythingWorse | Choice::NothingMeasured => "source",
        };
        self.row(
            &adapted.name,
            kept,
            &adapted.measures,
            adapted.target_auc,
            &adapted.scores,
        )
    }

    /// Every term of the bound on the target's error, of the source's network and of the one that is kept, by what it is called: `error_S + d / 2 + lambda`
    /// (Ben-David et al. 2010) with 1 - success for an error, which is a distance as overlap makes it. `lambda` is the error
    /// of the oracle on both domains together; without one it is not known, nor is the bound.
    pub fn bound(&self, adapted: &Adapted, oracle: Option<&Adapted>) -> Vec<Vec<String>> {
        let oracle = oracle.map(|oracle| (&oracle.measures, oracle.target_auc));
        let before = self.judge.as_ref().map(|judge| judge.auc_before);
        let kept = adapted.choice.kept(&self.before, &adapted.measures);
        let columns = [(&self.before, before), (kept, adapted.target_auc)];
        terms_of_bound(columns, oracle)
    }

    /// Of every annotated folder, how much of what the oracle gains each adaptation gains, in sentences.
    pub fn gaps(&self, before: &[Scored], adapted: &[&Adapted], oracle: &Adapted) -> Vec<String> {
        let mut lines = Vec::new();
        for (folder, name) in self.folders().into_iter().enumerate() {
            let of = |scores: &[Scored]| mean_of(scores, folder);
            for adapted in adapted {
                let share = share_of_gap(of(before), of(&adapted.scores), of(&oracle.scores));
                let share = match share {
                    Some(share) => format!("{:.0} % of the gap", 100.0 * share),
                    None => "the oracle gains nothing".to_owned(),
                };
                lines.push(format!("{name}: {} closes {share}", adapted.name));
            }
        }
        lines
    }

    /// Panels of the report; `scored` are the source's scores, `rows` the table.
    pub fn panels(&self, adapted: &Adapted, scored: &[Scored], rows: &[Vec<String>]) -> Vec<Panel> {
        let figures = |m: &Measures, scores: &[Scored]| {
            let told = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
            let mut figures = vec![
                Figure::new("agreement back and forth", told(m.agreement)),
                Figure::new("presence", told(m.presence)),
                Figure::new("entropy of presence, nats", told(m.entropy)),
                Figure::new("proxy-A distance of regions", told(m.proxy_a)),
                Figure::new("MMD squared of regions", told(m.mmd)),
                Figure::new("error on the source, 1 - AUC", 1.0 - m.source_auc),
            ];
            for (folder, name) in self.folders().into_iter().enumerate() {
                let name = format!("AUC on {name} (score only)");
                figures.push(Figure::new(name, mean_of(scores, folder)));
            }
            figures
        };
        let refused = self.harvest.refused.iter();
        let refused = refused.map(|(r, count)| vec![r.name().to_owned(), count.to_string()]);
        // Scores are those of what is kept; so are the figures beside them.
        let kept = adapted.choice.kept(&self.before, &adapted.measures);
        vec![
            Panel::figures("Before", figures(&self.before, scored)),
            Panel::figures("After", figures(kept, &adapted.scores)),
            Panel::Table {
                title: "Pseudo-tracks".into(),
                columns: vec!["proposals that became none".into(), "count".into()],
                rows: refused.collect(),
                note: format!(
                    "{} clips: {}. {}",
                    self.clips.len(),
                    self.harvest.line(),
                    self.compared().sentence()
                ),
            },
            Panel::Table {
                title: "Parts".into(),
                columns: self.head(),
                rows: rows.to_vec(),
                note: format!(
                    "{} Figures of adapted weights stand in a row even where they were not kept; scores are those of what was kept.",
                    adapted.choice.sentence()
                ),
            },
        ]
    }

    /// Panels of what labels of the target say.
    ///
    /// # Errors
    /// Annotated files that cannot be read.
    pub fn panels_of_labels(
        &self,
        gains: &[Gain],
        bound: Vec<Vec<String>>,
        gaps: &[String],
    ) -> anyhow::Result<Vec<Panel>> {
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let folders = self.folders();
        let mut panels = vec![Panel::Table {
            title: "Terms of the bound".into(),
            columns: named(&["term", "before", "after"]),
            rows: bound,
            note: "Errors are 1 - success AUC of held-out pairs. The distance is that of a linear classifier of regions and lies below the one of the theorem: the sum is an estimate of the bound. lambda is that of a network that learned from all labels of both domains (--oracle).".into(),
        }];
        if !gains.is_empty() {
            panels.push(Panel::Table {
                title: "Gains on annotated clips".into(),
                columns: named(&COLUMNS),
                rows: gains.iter().map(|gain| gain.row(&folders)).collect(),
                note: format!(
                    "Success AUC; low and high are ends of a 90 % interval, for which clips and their runs are drawn again. {}",
                    gaps.join("; ")
                ),
            });
        }
        let watched = self.watched()?;
        if watched.iter().any(Option::is_some) {
            let row = |(name, score): (&String, Option<_>)| {
                let score: roadhound_shared::metrics::multi::MultiScore = score?;
                let shares = [
                    score.hota.hota(),
                    score.identity.f1(),
                    score.clear.accuracy(),
                ];
                let shares = shares.map(|share| format!("{:.1}", 100.0 * share));
                Some(std::iter::once(name.clone()).chain(shares).collect())
            };
            panels.push(Panel::Table {
                title: "Watch mode on annotated clips".into(),
                columns: named(&["folder", "HOTA %", "IDF1 %", "MOTA %"]),
                rows: folders.iter().zip(watched).filter_map(row).collect(),
                note: "Of the bundle's proposals, before and after alike: the graph that finds road users has a backbone of its own and is not adapted.".into(),
            });
        }
        Ok(panels)
    }
}

/// Figures of a network, and its success on the target where that is known.
type Known<'a> = (&'a Measures, Option<f64>);

/// See [`Setting::bound`].
fn terms_of_bound(columns: [Known<'_>; 2], oracle: Option<Known<'_>>) -> Vec<Vec<String>> {
    let lambda = oracle.and_then(|(m, auc)| Some(1.0 - m.source_auc + 1.0 - auc?));
    let figure = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.4}"));
    type Term<'a> = (&'a str, &'a dyn Fn(&Measures, Option<f64>) -> Option<f64>);
    let terms: [Term<'_>; 7] = [
        ("error on the source", &|m, _| Some(1.0 - m.source_auc)),
        ("proxy-A distance of regions", &|m, _| m.proxy_a),
        ("MMD squared of regions", &|m, _| m.mmd),
        ("the oracle's error on the source", &|_, _| {
            oracle.map(|(m, _)| 1.0 - m.source_auc)
        }),
        ("lambda, of the joint oracle", &|_, _| lambda),
        ("the bound: error + distance / 2 + lambda", &|m, _| {
            Some(1.0 - m.source_auc + m.proxy_a?.max(0.0) / 2.0 + lambda?)
        }),
        ("error on the target (score only)", &|_, auc| {
            Some(1.0 - auc?)
        }),
    ];
    terms
        .iter()
        .map(|(name, of)| {
            let values = columns.iter().map(|(m, auc)| figure(of(m, *auc)));
            std::iter::once((*name).to_owned()).chain(values).collect()
        })
        .collect()
}
