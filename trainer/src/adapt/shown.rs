//! What adaptations came to, as a table and as panels of the report.
//!
//! In: a [`Setting`] and [`Adapted`]s. Out: rows of text, a panel for each thing to look at.

use super::attempt::Adapted;
use super::measure::{Choice, Measures};
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
        let scored = self.sources.score.iter().map(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            format!("auc_{name}")
        });
        fixed
            .iter()
            .map(|name| (*name).to_owned())
            .chain(scored)
            .collect()
    }

    /// A row of the table: its name, whose weights were kept, figures, and scores on the annotated folders.
    pub fn row(&self, name: &str, kept: &str, m: &Measures, scores: &[f64]) -> Vec<String> {
        let optional = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.4}"));
        let mut row = vec![name.to_owned(), kept.to_owned()];
        row.extend([m.agreement, m.presence, m.entropy].map(|v| format!("{v:.4}")));
        row.extend([
            optional(m.proxy_a),
            optional(m.mmd),
            format!("{:.4}", m.source_auc),
        ]);
        row.extend(scores.iter().map(|v| format!("{v:.4}")));
        row
    }

    /// The row of an adaptation.
    pub fn row_of(&self, adapted: &Adapted) -> Vec<String> {
        let kept = match adapted.choice {
            Choice::Candidate(_) => "adapted",
            Choice::SourceWasLost | Choice::EverythingWorse => "source",
        };
        self.row(&adapted.name, kept, &adapted.measures, &adapted.scores)
    }

    /// Panels of the report; `scored` are the source's scores, `rows` the table.
    pub fn panels(&self, adapted: &Adapted, scored: &[f64], rows: &[Vec<String>]) -> Vec<Panel> {
        let figures = |m: &Measures, scores: &[f64]| {
            let mut figures = vec![
                Figure::new("agreement back and forth", m.agreement),
                Figure::new("presence", m.presence),
                Figure::new("entropy of presence, nats", m.entropy),
                Figure::new("proxy-A distance of regions", m.proxy_a.unwrap_or(f64::NAN)),
                Figure::new("MMD squared of regions", m.mmd.unwrap_or(f64::NAN)),
                Figure::new("error on the source, 1 - AUC", 1.0 - m.source_auc),
            ];
            for (folder, score) in self.sources.score.iter().zip(scores) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                figures.push(Figure::new(format!("AUC on {name} (score only)"), *score));
            }
            figures
        };
        let refused = self.harvest.refused.iter();
        let refused = refused.map(|(r, count)| vec![r.name().to_owned(), count.to_string()]);
        vec![
            Panel::figures("Before", figures(&self.before, scored)),
            Panel::figures("After", figures(&adapted.measures, &adapted.scores)),
            Panel::Table {
                title: "Pseudo-tracks".into(),
                columns: vec!["proposals that became none".into(), "count".into()],
                rows: refused.collect(),
                note: format!("{} clips: {}.", self.clips.len(), self.harvest.line()),
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
}
