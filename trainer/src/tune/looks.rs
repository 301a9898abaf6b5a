//! The distance between embeddings that watch mode associates by: learned on validation drives, for a bundle to say.
//!
//! In: annotated clips that a network looked at ([`Watched`]). Out: a [`LooksMetric`] (Mahalanobis' distance by one of
//! [`crate::metric`]'s learners, at 1 where its gate is), how well it tells the same from others, and whether whoever is
//! followed by it is followed better than by the cosine.
//!
//! S are two looks at one road user, D looks at two of them, of one kind where there are some, at most [`APART_SECONDS`]
//! apart. Nobody is judged by a distance that was learned from them: clips are dealt into folds, and each is scored by what
//! was learned on the others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use nalgebra::DMatrix;
use rand::Rng;
use rand::seq::IndexedRandom;
use roadhound_shared::metrics::multi::MultiScore;
use roadhound_shared::watch::{LooksMetric, Scores, WatchConfig};

use super::gain::Gain;
use super::scores::{Known, Watched, objective};
use crate::metric::itml::ItmlConfig;
use crate::metric::kissme::KissmeConfig;
use crate::metric::pairs::PairSets;
use crate::metric::{Learner, MetricError, Teaching};
use crate::sampler::sample_rng;
use crate::siamese::scores::Verification;

/// Two looks at somebody are no farther apart.
pub const APART_SECONDS: f64 = 2.0;
/// Pairs of each kind at most, over all clips; each learner meets every one of them.
const PAIRS: usize = 8_000;
/// Parts that clips are dealt into.
const FOLDS: usize = 5;
/// Shares of similar pairs that are within the gate, and how much of isotropy is mixed into the covariances: what is tried.
const WITHIN_GATE: [f64; 3] = [0.95, 0.98, 0.995];
const RIDGES: [f64; 2] = [1e-3, 0.3];
/// Separates this stream of random numbers from others.
const STREAM: u64 = 0x6c6f_6f6b;

/// A distance that is tried.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// What the bundle says, or the cosine.
    Current,
    /// The cosine, where the bundle says something else.
    Cosine,
    /// A learned one.
    Learned {
        /// By what.
        learner: Learner,
        /// Share of similar pairs that are within the gate.
        within_gate: f64,
    },
}

impl Choice {
    fn name(&self) -> String {
        match self {
            Self::Current => "current".into(),
            Self::Cosine => "cosine".into(),
            Self::Learned {
                learner,
                within_gate,
            } => {
                let ridge = match learner {
                    Learner::Kissme(config) => format!(" ridge {}", config.ridge),
                    _ => String::new(),
                };
                format!("{}{ridge} gate {within_gate}", learner.name())
            }
        }
    }
}

/// What is tried; the current one first.
pub fn choices(current: Option<&LooksMetric>) -> Vec<Choice> {
    let itml = ItmlConfig {
        iterations: 20,
        ..ItmlConfig::default()
    };
    let mut learners = vec![Learner::Itml(itml)];
    learners.extend(RIDGES.map(|ridge| {
        Learner::Kissme(KissmeConfig {
            ridge,
            ..KissmeConfig::default()
        })
    }));
    let mut all = vec![Choice::Current];
    all.extend(current.map(|_| Choice::Cosine));
    for learner in learners {
        all.extend(WITHIN_GATE.map(|within_gate| Choice::Learned {
            learner: learner.clone(),
            within_gate,
        }));
    }
    all
}

/// Embeddings at unit norm, and pairs of them.
struct Pairs {
    x: DMatrix<f64>,
    sets: PairSets,
}

impl Pairs {
    /// Draws pairs from some clips, as many from each.
    fn of(clips: &[&Watched], seed: u64) -> Result<Self> {
        let each = PAIRS.div_ceil(clips.len().max(1));
        let (mut rows, mut sets) = (Vec::new(), PairSets::default());
        for (number, clip) in clips.iter().enumerate() {
            let known = clip.known();
            let first = rows.len();
            rows.extend(known.iter().filter_map(|k| unit(k.embedding)));
            anyhow::ensure!(
                rows.len() == first + known.len(),
                "{}: an embedding of nothing but zeros",
                clip.name
            );
            let mut rng = sample_rng(seed, STREAM, number as u64);
            draw(&known, first, each, &mut rng, &mut sets);
        }
        anyhow::ensure!(
            !sets.similar.is_empty() && !sets.dissimilar.is_empty(),
            "nobody is found twice and beside somebody else: nothing to learn a distance from"
        );
        let columns = rows.first().map_or(0, Vec::len);
        let x = DMatrix::from_fn(rows.len(), columns, |row, column| rows[row][column]);
        Ok(Self { x, sets })
    }

    /// Distances of similar and of dissimilar pairs.
    fn distances(&self, metric: Option<&LooksMetric>) -> [Vec<f32>; 2] {
        let points: Vec<Vec<f32>> = (0..self.x.nrows())
            .map(|row| {
                let unit: Vec<f32> = self.x.row(row).iter().map(|v| *v as f32).collect();
                match metric {
                    None => unit,
                    Some(metric) => {
                        let mut point = vec![0.0; metric.components()];
                        metric.point(&unit, &mut point);
                        point
                    }
                }
            })
            .collect();
        [&self.sets.similar, &self.sets.dissimilar].map(|pairs| {
            let of = |(a, b): &(usize, usize)| -> f32 {
                let squares = points[*a]
                    .iter()
                    .zip(&points[*b])
                    .map(|(a, b)| (a - b).powi(2));
                squares.sum::<f32>().sqrt()
            };
            pairs.iter().map(of).collect()
        })
    }

    /// Learns a distance that is 1 at its gate.
    fn learned(
        &self,
        learner: &Learner,
        within_gate: f64,
        seed: u64,
    ) -> Result<LooksMetric, MetricError> {
        // Pairs are given: classes are not asked for.
        let labels = vec![0; self.x.nrows()];
        let teaching = Teaching {
            pairs: Some(self.sets.clone()),
            seed,
            ..Teaching::of_labels(&self.x, &labels)
        };
        let l = learner.learn(&teaching, &mut |_, _| true)?;
        let of = |scale: f64| LooksMetric {
            rows: l
                .l()
                .column_iter()
                .map(|column| column.iter().map(|v| (v * scale) as f32).collect())
                .collect(),
        };
        let [mut similar, _] = self.distances(Some(&of(1.0)));
        similar.sort_by(f32::total_cmp);
        let at = (similar.len() as f64 * within_gate) as usize;
        let gate = similar.get(at).or(similar.last()).copied().unwrap_or(1.0);
        if gate.is_nan() || gate <= 0.0 {
            let reason = "similar pairs do not differ at all".to_owned();
            return Err(MetricError::Samples(reason));
        }
        Ok(of(1.0 / f64::from(gate)))
    }
}

fn unit(embedding: &[f32]) -> Option<Vec<f64>> {
    let norm = embedding
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt();
    (norm > 0.0 && norm.is_finite())
        .then(|| embedding.iter().map(|v| f64::from(*v) / norm).collect())
}

/// Draws pairs of each kind; numbers of samples begin at `first`.
fn draw(known: &[Known<'_>], first: usize, count: usize, rng: &mut impl Rng, sets: &mut PairSets) {
    let mut of: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, k) in known.iter().enumerate() {
        of.entry(k.identity).or_default().push(at);
    }
    let near = |a: usize, b: usize| (known[a].seconds - known[b].seconds).abs() <= APART_SECONDS;
    for _ in 0..count {
        // Everybody as often as anybody, however long they are there.
        let identities: Vec<&Vec<usize>> = of.values().collect();
        let Some(&a) = identities.choose(rng).and_then(|looks| looks.choose(rng)) else {
            return;
        };
        let mates = of[&known[a].identity]
            .iter()
            .copied()
            .filter(|b| *b != a && near(a, *b));
        if let Some(b) = mates.collect::<Vec<_>>().choose(rng) {
            sets.similar.push((first + a, first + b));
        }
        let strangers =
            (0..known.len()).filter(|b| known[*b].identity != known[a].identity && near(a, *b));
        let strangers: Vec<usize> = strangers.collect();
        let alike: Vec<usize> = strangers
            .iter()
            .copied()
            .filter(|b| known[*b].kind == known[a].kind)
            .collect();
        if let Some(b) = alike.choose(rng).or_else(|| strangers.choose(rng)) {
            sets.dissimilar.push((first + a, first + b));
        }
    }
}

/// Every choice on every clip.
pub struct Search {
    /// In the order of [`choices`].
    pub choices: Vec<Choice>,
    /// Of each choice, over all clips taken together.
    pub combined: Vec<MultiScore>,
    /// Of each choice, how well pairs of clips that it was not learned on are told apart: area under the curve, equal error.
    pub verified: Vec<(f64, f64)>,
    /// How much the best one gains over the current one.
    pub gain: Gain,
    /// What the best one is, learned on all clips; `None` for the cosine.
    pub best: Option<LooksMetric>,
}

impl Search {
    /// Tries every choice.
    ///
    /// # Errors
    /// Fewer than two clips, clips that nothing can be learned from, constants that cannot be.
    pub fn over(
        clips: &[Watched],
        config: &WatchConfig,
        scores: Scores,
        current: Option<&LooksMetric>,
        seed: u64,
    ) -> Result<Self> {
        anyhow::ensure!(
            clips.len() >= 2,
            "one clip: a distance is learned on some and scored on others"
        );
        let folds = FOLDS.min(clips.len());
        let split = |fold: usize, inside: bool| -> Vec<&Watched> {
            let numbered = clips.iter().enumerate();
            let of = numbered.filter(|(n, _)| (n % folds == fold) == inside);
            of.map(|(_, clip)| clip).collect()
        };
        let learn_from: Vec<Pairs> = (0..folds)
            .map(|fold| Pairs::of(&split(fold, false), seed))
            .collect::<Result<_>>()?;
        let judge_by = (0..folds)
            .map(|fold| Pairs::of(&split(fold, true), seed ^ 1))
            .collect::<Result<Vec<_>>>()?;
        let choices = choices(current);
        let (mut combined, mut objectives, mut verified) = (Vec::new(), Vec::new(), Vec::new());
        for choice in &choices {
            let of_fold = |pairs: &Pairs| match choice {
                Choice::Current => Ok(current.cloned()),
                Choice::Cosine => Ok(None),
                Choice::Learned {
                    learner,
                    within_gate,
                } => pairs.learned(learner, *within_gate, seed).map(Some),
            };
            let metrics = learn_from
                .iter()
                .map(of_fold)
                .collect::<Result<Vec<_>, _>>()?;
            let mut distances = [Vec::new(), Vec::new()];
            for (pairs, metric) in judge_by.iter().zip(&metrics) {
                for (all, of_fold) in distances.iter_mut().zip(pairs.distances(metric.as_ref())) {
                    all.extend(of_fold);
                }
            }
            let [similar, dissimilar] = &distances;
            let told =
                Verification::of(similar, dissimilar).context("distances that are no numbers")?;
            verified.push((told.auc, told.eer));
            let of_clip = |(number, clip): (usize, &Watched)| {
                let metric = metrics[number % folds].as_ref();
                clip.score(config, scores, metric)
                    .context(clip.name.clone())
            };
            let all: Vec<MultiScore> = clips
                .iter()
                .enumerate()
                .map(of_clip)
                .collect::<Result<_>>()?;
            objectives.push(all.iter().map(objective).collect());
            combined.push(MultiScore::combined(&all));
        }
        let gain = Gain::of(&objectives, seed);
        let everything: Vec<&Watched> = clips.iter().collect();
        let best = match &choices[gain.best] {
            Choice::Current => current.cloned(),
            Choice::Cosine => None,
            Choice::Learned {
                learner,
                within_gate,
            } => Some(Pairs::of(&everything, seed)?.learned(learner, *within_gate, seed)?),
        };
        Ok(Self {
            choices,
            combined,
            verified,
            gain,
            best,
        })
    }

    /// Whether the best choice is better than the current one beyond luck.
    pub fn is_worth_it(&self) -> bool {
        self.gain.best != 0 && self.gain.is_real()
    }

    /// What it came to, in one line.
    pub fn verdict(&self) -> String {
        let Gain { best, measured, .. } = self.gain;
        if best == 0 {
            return "nothing tried is better than the current distance".into();
        }
        let [low, high] = self.gain.interval();
        let worth = match self.gain.is_real() {
            true => "worth shipping",
            false => "may be luck, the current distance stays",
        };
        format!(
            "{}: a mean gain of {measured:+.4} a clip, corrected for the choice {:+.4}, 90 % interval {low:+.4} to {high:+.4}: {worth}",
            self.choices[best].name(),
            self.gain.corrected()
        )
    }

    /// Every choice and its figures.
    pub fn csv(&self) -> String {
        let mut text = String::from("distance,auc,eer,hota,det_a,ass_a,idf1\n");
        let rows = self.choices.iter().zip(&self.verified).zip(&self.combined);
        for ((choice, (auc, eer)), score) in rows {
            let h = &score.hota;
            let figures = [
                *auc,
                *eer,
                h.hota(),
                h.detection(),
                h.association(),
                score.identity.f1(),
            ];
            let figures = figures.map(|v| format!("{v:.5}")).join(",");
            let _ = writeln!(text, "{},{figures}", choice.name());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::tune::scores::tests::standing;

    /// Five cars a clip. Two numbers say which car it is, softly; six are noise, `loud` times as large.
    fn clips(loud: f32) -> Vec<Watched> {
        (0..10)
            .map(|number| {
                let mut rng = ChaCha8Rng::seed_from_u64(number);
                standing(&format!("clip {number}"), 5, 30, |car| {
                    let turn = car as f32 * std::f32::consts::TAU / 5.0;
                    let mut numbers = vec![turn.cos(), turn.sin()];
                    numbers.extend((0..6).map(|_| loud * rng.random_range(-1.0..1.0_f32)));
                    numbers
                })
            })
            .collect()
    }

    fn search(clips: &[Watched]) -> Search {
        let scores = Scores::default();
        Search::over(clips, &WatchConfig::default(), scores, None, 1).unwrap()
    }

    #[test]
    fn a_learned_distance_tells_apart_what_noise_hides_from_the_cosine() {
        let found = search(&clips(0.8));
        let [cosine, learned @ ..] = &found.verified[..] else {
            panic!("{:?}", found.choices)
        };
        assert_eq!(learned.len(), 9);
        assert!(learned.iter().all(|l| l.0 > cosine.0), "{}", found.csv());
        // Kissme, as good as without a ridge.
        assert!(learned[3].0 > cosine.0 + 0.05, "{}", found.csv());
        assert_eq!(found.csv().lines().count(), 1 + found.choices.len());
    }

    #[test]
    fn where_everybody_is_followed_already_the_distance_stays() {
        let found = search(&clips(0.01));
        // Nobody is believed on the first of thirty frames.
        assert!(found.combined[0].hota.hota() > 0.95, "{}", found.csv());
        assert!(!found.is_worth_it(), "{}", found.verdict());
    }

    #[test]
    fn similar_pairs_are_within_the_gate_of_a_learned_distance_and_it_fits_the_embeddings() {
        let clips = clips(0.3);
        let pairs = Pairs::of(&clips.iter().collect::<Vec<_>>(), 3).unwrap();
        let metric = pairs
            .learned(&Learner::Kissme(KissmeConfig::default()), 0.98, 3)
            .unwrap();
        metric.validate(8).unwrap();
        let [similar, _] = pairs.distances(Some(&metric));
        let within = similar.iter().filter(|d| **d <= 1.0).count() as f64 / similar.len() as f64;
        assert!((within - 0.98).abs() < 0.005, "{within}");
    }

    #[test]
    fn what_nothing_can_be_learned_from_is_said() {
        let said = |clips: &[Watched]| {
            let (config, scores) = (WatchConfig::default(), Scores::default());
            let search = Search::over(clips, &config, scores, None, 1);
            search.err().unwrap().to_string()
        };
        let alone = |name: &str| standing(name, 1, 5, |_| vec![1.0, 0.5]);
        assert!(said(&[alone("a")]).contains("one clip"));
        assert!(said(&[alone("a"), alone("b")]).contains("beside somebody else"));
        let nothing = || standing("black", 2, 5, |_| vec![0.0, 0.0]);
        assert!(said(&[nothing(), nothing()]).contains("black: an embedding of nothing"));
    }
}
