//! What eight bits did to a bundle, as a page of Markdown.
//!
//! In: figures of the f32 graphs and of every way of quantising that was tried, and the noise of every layer. Out: text.

use std::fmt::Write as _;

use super::compare::Noise;
use super::search::Chosen;

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What, with its unit.
    pub name: String,
    /// How much; of a measure against f32 graphs, these have none.
    pub value: Option<f64>,
}

impl Figure {
    /// Of a measure against the truth.
    pub fn new(name: &str, value: f64) -> Self {
        let value = Some(value);
        let name = name.to_owned();
        Self { name, value }
    }

    /// Of a measure against f32 graphs; `None` for those themselves.
    pub fn against_f32(name: &str, value: Option<f64>) -> Self {
        let name = name.to_owned();
        Self { name, value }
    }

    /// As the page has it.
    fn shown(&self) -> String {
        match self.value {
            Some(value) if value != 0.0 && value.abs() < 1e-3 => format!("{value:.2e}"),
            Some(value) => format!("{value:.4}"),
            None => String::new(),
        }
    }
}

/// What was measured of one set of graphs on data that it was not calibrated on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// What decides: higher is better.
    pub merit: f64,
    /// How near the answers are to those in f32; decides among those of alike merit.
    pub nearness: f64,
    /// All that was measured, in the same order for every set.
    pub all: Vec<Figure>,
}

impl Figures {
    /// As one line.
    pub fn line(&self) -> String {
        let figures = self.all.iter().filter(|f| f.value.is_some());
        let parts: Vec<String> = figures
            .map(|f| format!("{} {}", f.name, f.shown()))
            .collect();
        parts.join("; ")
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

/// Which trial to ship: the one of the highest merit, and among those that are nearer to it than `alike` the one whose
/// answers are nearest to those in f32.
pub fn best(trials: &[&Trial], alike: f64) -> Option<usize> {
    let merits = trials.iter().map(|t| t.figures.merit);
    let most = merits.fold(f64::NEG_INFINITY, f64::max);
    let candidates = (0..trials.len()).filter(|at| trials[*at].figures.merit >= most - alike);
    let nearness = |at: &usize| trials[*at].figures.nearness;
    candidates.max_by(|a, b| nearness(a).total_cmp(&nearness(b)))
}

/// All that the page says.
pub struct Report<'a> {
    /// Name of the bundle.
    pub name: &'a str,
    /// Words on what it was calibrated and measured on.
    pub conditions: &'a str,
    /// By which rule a way was chosen, in words.
    pub rule: &'a str,
    /// The f32 graphs.
    pub f32: &'a Figures,
    /// What was tried and chosen.
    pub chosen: &'a Chosen,
    /// Names of the graphs.
    pub graphs: &'a [&'a str],
    /// What bytes did to each layer.
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
        let taken = self.chosen.trial();
        for (plain, int8) in self.f32.all.iter().zip(&taken.figures.all) {
            writeln!(
                to,
                "| {} | {} | {} |",
                int8.name,
                plain.shown(),
                int8.shown()
            )?;
        }
        for (name, (plain, int8)) in self.graphs.iter().zip(self.sizes) {
            writeln!(to, "| {name}, bytes | {plain} | {int8} |")?;
        }
        writeln!(to, "\n## Ways that were tried\n")?;
        writeln!(to, "{}\n", self.rule)?;
        let names = self.f32.all.iter().map(|f| f.name.as_str());
        writeln!(to, "| | {} |", names.collect::<Vec<_>>().join(" | "))?;
        writeln!(to, "|---|{}", "---|".repeat(self.f32.all.len()))?;
        let tried = self
            .chosen
            .trials
            .iter()
            .map(|t| (t.name.as_str(), &t.figures));
        for (name, figures) in std::iter::once(("f32", self.f32)).chain(tried) {
            let mark = if name == taken.name { "**" } else { "" };
            let row: Vec<String> = figures.all.iter().map(Figure::shown).collect();
            writeln!(to, "| {mark}{name}{mark} | {} |", row.join(" | "))?;
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
            let layers = &self.chosen.layers;
            let rows = layers
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

    fn trial(name: &str, merit: f64, nearness: f64) -> Trial {
        Trial {
            name: name.into(),
            figures: Figures {
                merit,
                nearness,
                all: vec![],
            },
        }
    }

    #[test]
    fn a_clearly_higher_merit_wins_and_among_equals_the_nearer_answers() {
        let trials = [
            trial("a", 0.70, 0.99),
            trial("b", 0.75, 0.90),
            trial("c", 0.749, 0.95),
        ];
        let of = |count: usize| trials[..count].iter().collect::<Vec<_>>();
        assert_eq!(best(&of(3), 0.002), Some(2));
        assert_eq!(best(&of(3), 0.0005), Some(1));
        assert_eq!(best(&of(2), 0.002), Some(1));
        assert_eq!(best(&[], 0.002), None);
    }

    #[test]
    fn a_figure_is_shown_as_long_as_it_says_something() {
        let shown = |value| Figure::new("x", value).shown();
        assert_eq!(shown(0.91236), "0.9124");
        assert_eq!(shown(0.0), "0.0000");
        assert_eq!(shown(0.000_012_34), "1.23e-5");
        assert_eq!(Figure::against_f32("x", None).shown(), "");
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
