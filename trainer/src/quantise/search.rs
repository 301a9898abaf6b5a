//! Which way of quantising a set is best.
//!
//! In: a set of graphs, what it sees, and somebody who measures quantised sets. Out: the set that measured best, every way
//! that was tried, and the noise of its layers. Observers come first; then one refinement at a time on the leader, each
//! kept where it helps.

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use roadhound_shared::quantised::QuantParams;

use super::compare::{self, Layer, Noise};
use super::observe::Observer;
use super::report::{Figures, Trial, best};
use super::source::Source;
use super::weights::Rounding;
use super::{Corrections, Samples, Seen, Settings, correct, equalise, quantised, wanted};

/// How a set is searched.
pub struct Search<'a> {
    /// What ranges are taken from.
    pub samples: &'a dyn Samples,
    /// The few that biases are corrected on: each layer runs them again.
    pub few: &'a dyn Samples,
    /// Observers to choose from.
    pub observers: &'a [Observer],
    /// What bytes of pixels mean.
    pub pixels: QuantParams,
    /// Two ways whose merits are nearer than this are alike; then nearness decides.
    pub alike: f64,
    /// Shows how far it is: steps, and of what.
    pub bar: &'a dyn Fn(u64, &'static str) -> ProgressBar,
}

/// What was chosen.
pub struct Chosen {
    /// The quantised set.
    pub graphs: Vec<Vec<u8>>,
    /// The f32 set that it was made of: layers are equalised where that was chosen.
    pub sources: Vec<Source>,
    /// What became bytes.
    pub layers: Vec<Layer>,
    /// Every way that was tried.
    pub trials: Vec<Trial>,
    /// Which of them was taken.
    pub chosen: usize,
    /// Pairs of layers that can be equalised.
    pub equalisable: usize,
}

impl Chosen {
    /// The way that was taken.
    pub fn trial(&self) -> &Trial {
        &self.trials[self.chosen]
    }

    /// Noise of every layer on these samples. Those that bytes were calibrated on would have too little of it.
    ///
    /// # Errors
    /// Those of the graphs.
    pub fn noise(&self, samples: &dyn Samples) -> Result<Vec<Noise>> {
        compare::noise(&self.sources, &self.graphs, &self.layers, samples)
    }
}

/// f32 graphs of one function, and what was seen in them.
struct Stage {
    sources: Vec<Source>,
    seen: Seen,
}

/// A way of quantising, and the graphs it gives.
struct Way {
    trial: Trial,
    settings: Settings,
    equalised: bool,
    corrections: Corrections,
    graphs: Vec<Vec<u8>>,
}

/// What is tried on top of the best observer.
#[derive(Clone, Copy)]
enum Refinement {
    Weights,
    Layers,
    Biases,
}

impl Refinement {
    fn name(self) -> &'static str {
        match self {
            Self::Weights => "least-squares weights",
            Self::Layers => "equalised layers",
            Self::Biases => "corrected biases",
        }
    }
}

impl Search<'_> {
    /// Tries every way on the set that `open` gives; `judge` measures a quantised set.
    ///
    /// # Errors
    /// A set of which nothing becomes bytes; those of the graphs and of `judge`.
    pub fn run(
        &self,
        open: &dyn Fn() -> Result<Vec<Source>>,
        judge: &dyn Fn(&[Vec<u8>]) -> Result<Figures>,
    ) -> Result<Chosen> {
        let as_trained = self.watched(open()?)?;
        let nothing = as_trained.sources.iter().map(wanted);
        let nothing = nothing.collect::<Result<Vec<_>>>()?;
        ensure!(
            nothing.iter().any(|wanted| !wanted.is_empty()),
            "nothing of it becomes bytes: that takes a convolution or a dense layer with a ReLU after it"
        );
        let mut equal = open()?;
        let equalisable = equalise::equalise(&mut equal, &as_trained.seen);
        let equalised = match equalisable {
            0 => None,
            _ => Some(self.watched(equal)?),
        };
        let stage = |equal: bool| match &equalised {
            Some(stage) if equal => stage,
            _ => &as_trained,
        };
        let measure = |name: String, settings: Settings, equal: bool, corrections: Corrections| {
            let Stage { sources, seen } = stage(equal);
            let graphs = quantised(sources, seen, &settings, &corrections)?;
            let figures = judge(&graphs)?;
            log::info!("{name}: {}", figures.line());
            Ok::<Way, anyhow::Error>(Way {
                trial: Trial { name, figures },
                settings,
                equalised: equal,
                corrections,
                graphs,
            })
        };
        let mut ways = Vec::new();
        for observer in self.observers {
            let settings = Settings {
                observer: *observer,
                rounding: Rounding::Largest,
                pixels: self.pixels,
            };
            ways.push(measure(
                observer.to_string(),
                settings,
                false,
                Corrections::new(),
            )?);
        }
        for refinement in [Refinement::Weights, Refinement::Layers, Refinement::Biases] {
            let from = &ways[self.leader(&ways)?];
            let (mut settings, mut equal) = (from.settings, from.equalised);
            let mut corrections = from.corrections.clone();
            match refinement {
                Refinement::Weights => settings.rounding = Rounding::LeastSquares,
                Refinement::Layers if equalised.is_none() => continue,
                Refinement::Layers => equal = true,
                Refinement::Biases => corrections = self.corrections(stage(equal), &settings)?,
            }
            let name = format!("{}, {}", from.trial.name, refinement.name());
            ways.push(measure(name, settings, equal, corrections)?);
        }
        let chosen = self.leader(&ways)?;
        let trials = ways.iter().map(|w| w.trial.clone()).collect();
        let way = ways.swap_remove(chosen);
        let Stage { sources, seen } = match (equalised, way.equalised) {
            (Some(stage), true) => stage,
            _ => as_trained,
        };
        Ok(Chosen {
            layers: compare::layers(&sources, &seen, &way.settings)?,
            graphs: way.graphs,
            sources,
            trials,
            chosen,
            equalisable,
        })
    }

    fn watched(&self, sources: Vec<Source>) -> Result<Stage> {
        let bar = (self.bar)(self.samples.count() as u64, "calibration");
        let seen = Seen::watch(&sources, self.samples, || bar.inc(1))?;
        bar.finish_and_clear();
        Ok(Stage { sources, seen })
    }

    fn corrections(&self, stage: &Stage, settings: &Settings) -> Result<Corrections> {
        let Stage { sources, seen } = stage;
        let layers = compare::layers(sources, seen, settings)?;
        let bar = (self.bar)(layers.len() as u64, "corrections");
        let found =
            correct::corrections(sources, seen, settings, &layers, self.few, || bar.inc(1))?;
        bar.finish_and_clear();
        Ok(found)
    }

    fn leader(&self, ways: &[Way]) -> Result<usize> {
        let trials: Vec<&Trial> = ways.iter().map(|w| &w.trial).collect();
        best(&trials, self.alike).context("no observer to try")
    }
}
