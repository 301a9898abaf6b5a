//! What eight bits did to a bundle, as a page of Markdown.
//!
//! In: figures of the f32 graphs and of every way of quantising that was tried, and the noise of every layer. Out: text.

use std::fmt::Write as _;

use super::compare::{Layer, Noise};

/// What was measured of one set of graphs on pairs and clips that it was not calibrated on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Success AUC of the box at the peak, over held-out pairs that show their target.
    pub pair_auc: f64,
    /// Success AUC of the followed rendered clips; `None` where there were none.
    pub clip_auc: Option<f64>,
    /// Share of held-out pairs with their target whose peak lies in the cell of the f32 graphs' peak.
    pub same_peak: f64,
    /// Mean overlap of the box with the f32 graphs' box, over the same pairs.
    pub overlap: f64,
    /// Mean distance of presence from that of the f32 graphs.
    pub presence_moved: f64,
}

impl Figures {
    /// How near the answers are to those in f32: where they are, and how large.
    pub fn nearness(&self) -> f64 {
        self.same_peak * self.overlap
    }

    /// Mean of the AUCs.
    pub fn auc(&self) -> f64 {
        self.clip_auc
            .map_or(self.pair_auc, |clips| (clips + self.pair_auc) / 2.0)
    }
}

/// One way of quantising.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// In words.
    pub name: String,
    /// What was measured.
    pub figures: Figures,
}

/// Two AUCs nearer than this are alike: on some hundreds of pairs a different rounding alone moves them as much.
pub const SAME_AUC: f64 = 0.002;

/// The trial to ship: the highest AUC, and among those that are alike the one whose answers are nearest to those in f32.
pub fn best(trials: &[Trial]) -> Option<&Trial> {
    let most = trials
        .iter()
        .map(|t| t.figures.auc())
        .fold(f64::NEG_INFINITY, f64::max);
    let alike = trials.iter().filter(|t| t.figures.auc() >= most - SAME_AUC);
    alike.max_by(|a, b| a.figures.nearness().total_cmp(&b.figures.nearness()))
}

/// All that the page says.
pub struct Report<'a> {
    /// Name of the bundle.
    pub name: &'a str,
    /// Words on what it was calibrated and measured on.
    pub conditions: &'a str,
    /// The f32 graphs.
    pub f32: Figures,
    /// Every way that was tried.
    pub trials: &'a [Trial],
    /// The one that was taken.
    pub chosen: &'a Trial,
    /// Names of the graphs.
    pub graphs: &'a [&'a str],
    /// What became bytes.
    pub layers: &'a [Layer],
    /// And what that did.
    pub noise: &'a [Noise],
    /// Bytes of each graph, in f32 and in int8.
    pub sizes: &'a [(usize, usize)],
}

impl Report<'_> {
    /// The page.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        writeln!(to, "# {} in eight bits\n", self.name)?;
        writeln!(
            to,
            "Written by `roadhound-train quantise`. {}\n",
            self.conditions
        )?;
        writeln!(to, "| | f32 | int8 |\n|---|---|---|")?;
        let (plain, int8) = (&self.f32, &self.chosen.figures);
        writeln!(
            to,
            "| success AUC, held-out pairs | {:.4} | {:.4} |",
            plain.pair_auc, int8.pair_auc
        )?;
        if let (Some(plain), Some(int8)) = (plain.clip_auc, int8.clip_auc) {
            writeln!(
                to,
                "| success AUC, rendered clips | {plain:.4} | {int8:.4} |"
            )?;
        }
        writeln!(
            to,
            "| peak in the same cell | | {:.1} % |",
            100.0 * int8.same_peak
        )?;
        writeln!(
            to,
            "| mean overlap with the f32 box | | {:.4} |",
            int8.overlap
        )?;
        writeln!(
            to,
            "| presence moved by, on average | | {:.4} |",
            int8.presence_moved
        )?;
        for (name, (plain, int8)) in self.graphs.iter().zip(self.sizes) {
            writeln!(to, "| {name}, bytes | {plain} | {int8} |")?;
        }
        writeln!(to, "\n## Ways that were tried\n")?;
        writeln!(
            to,
            "The highest AUC (mean of both) is taken; within {SAME_AUC}, same peak times overlap decides.\n"
        )?;
        writeln!(
            to,
            "| | AUC pairs | AUC clips | same peak | overlap | presence moved |"
        )?;
        writeln!(to, "|---|---|---|---|---|---|")?;
        let plain = Trial {
            name: "f32".to_owned(),
            figures: self.f32,
        };
        for trial in std::iter::once(&plain).chain(self.trials) {
            let f = &trial.figures;
            let mark = if trial == self.chosen { "**" } else { "" };
            let clips = f.clip_auc.map_or("-".to_owned(), |v| format!("{v:.4}"));
            writeln!(
                to,
                "| {mark}{}{mark} | {:.4} | {clips} | {:.3} | {:.4} | {:.4} |",
                trial.name, f.pair_auc, f.same_peak, f.overlap, f.presence_moved
            )?;
        }
        writeln!(to, "\n## Layers\n")?;
        writeln!(
            to,
            "Signal to noise against the f32 graphs, errors of earlier layers included; saturated is the share of bytes at the end of their range.\n"
        )?;
        for (graph, name) in self.graphs.iter().enumerate() {
            writeln!(to, "**{name}**\n")?;
            writeln!(
                to,
                "| value | made by | shape | scale | zero | dB | saturated |"
            )?;
            writeln!(to, "|---|---|---|---|---|---|---|")?;
            let rows = self
                .layers
                .iter()
                .zip(self.noise)
                .filter(|(l, _)| l.graph == graph);
            for (layer, noise) in rows {
                let decibels = match noise.noise > 0.0 {
                    true => format!("{:.1}", noise.decibels()),
                    false => "exact".to_owned(),
                };
                let shape: Vec<String> = layer.shape.iter().map(ToString::to_string).collect();
                writeln!(
                    to,
                    "| {} | {} | {} | {:.3e} | {} | {decibels} | {:.3} % |",
                    layer.value,
                    layer.operator,
                    shape.join("x"),
                    layer.params.scale(),
                    layer.params.zero_point(),
                    100.0 * noise.saturation()
                )?;
            }
            writeln!(to)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn trial(name: &str, pair_auc: f64, overlap: f64) -> Trial {
        Trial {
            name: name.into(),
            figures: Figures {
                pair_auc,
                overlap,
                same_peak: 1.0,
                ..Figures::default()
            },
        }
    }

    #[test]
    fn a_clearly_higher_score_wins_and_among_equals_the_nearer_boxes() {
        let trials = [
            trial("a", 0.70, 0.99),
            trial("b", 0.75, 0.90),
            trial("c", 0.749, 0.95),
        ];
        assert_eq!(best(&trials).unwrap().name, "c");
        assert_eq!(best(&trials[..2]).unwrap().name, "b");
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn signal_and_noise_are_told_in_decibels() {
        let noise = Noise {
            signal: 100.0,
            noise: 1.0,
            saturated: 1,
            count: 4,
        };
        assert!((noise.decibels() - 20.0).abs() < 1e-9);
        assert_eq!(noise.saturation(), 0.25);
    }
}
