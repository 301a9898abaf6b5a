//! How a network does on the target, as far as that can be told without a label of it, and which network is kept.
//!
//! In: held-out clips with places to begin at, and objects of both domains. Out: [`Measures`], and by them the [`Choice`].
//!
//! - *Agreement*: a tracker that follows an object to a clip's end and back should be where it began; 0 on frames that it
//!   gives up on either way.
//! - *Presence* and its *entropy*: how surely it says that what was proposed is still there.
//! - *Proxy-A distance* and MMD of the domains on features of objects.
//! - *Source*: success on held-out pairs of the source, whose labels may be used.
//!
//! No one of the label-free figures can be trusted alone: features that have become constant have no distance, and a network
//! that always says yes is sure. So weights are taken only if the source is not lost on the way, and where every label-free
//! figure is worse than before, or could not be measured, nothing is taken at all.

use anyhow::{Result, anyhow};
use roadhound_shared::contract::FollowContract;
use roadhound_shared::follow::Follower;
use roadhound_shared::network::FollowNetwork;
use roadhound_shared::tracker::TrackerConfig;
use serde::Serialize;

use super::clips::Clip;
use super::pseudo::{Candidate, both_ways, overlaps, pictures};
use crate::data::TargetFilter;
use crate::gap::features::draw;
use crate::gap::pictures::PictureSet;
use crate::gap::{GapConfig, Table};

/// Figures of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Mean overlap of the ways back and forth; none where nothing was followed.
    pub agreement: Option<f64>,
    /// Mean presence on the way forth; the same.
    pub presence: Option<f64>,
    /// Mean entropy of presence, in nats; the same.
    pub entropy: Option<f64>,
    /// Of regions of both domains; none where there are too few.
    pub proxy_a: Option<f64>,
    /// The same.
    pub mmd: Option<f64>,
    /// Success on held-out pairs of the source.
    pub source_auc: f64,
}

impl Measures {
    /// Whether each label-free figure is worse than `before`; those that either lacks are left out.
    fn worse(&self, before: &Self) -> Vec<bool> {
        // What should be small, turned round.
        let less = |v: Option<f64>| v.map(|v| -v);
        let both = [
            (self.agreement, before.agreement),
            (self.presence, before.presence),
            (less(self.entropy), less(before.entropy)),
            (less(self.proxy_a), less(before.proxy_a)),
            (less(self.mmd), less(before.mmd)),
        ];
        let both = both.into_iter().filter_map(|(now, then)| now.zip(then));
        both.map(|(now, then)| now < then).collect()
    }
}

/// Which weights are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The candidate of this number.
    Candidate(usize),
    /// The source's: every candidate lost too much on the source.
    SourceWasLost,
    /// The source's: every label-free figure of the best candidate is worse.
    EverythingWorse,
    /// The source's: nothing could be told without labels.
    NothingMeasured,
}

impl Choice {
    /// The best candidate by agreement among those that keep the source, unless all that can be told of it is bad.
    pub fn of(before: &Measures, candidates: &[Measures], most_source_loss: f64) -> Self {
        let kept = candidates.iter().enumerate();
        // A figure that is not a number keeps nothing.
        let kept = kept.filter(|(_, m)| m.source_auc >= before.source_auc - most_source_loss);
        let mut kept = kept.peekable();
        if kept.peek().is_none() {
            return Self::SourceWasLost;
        }
        let told = kept.filter_map(|(number, m)| Some((number, m, m.agreement?)));
        let best = told.max_by(|(_, _, a), (_, _, b)| a.total_cmp(b));
        let Some((number, best, _)) = best.filter(|_| before.agreement.is_some()) else {
            return Self::NothingMeasured;
        };
        match best.worse(before).iter().all(|worse| *worse) {
            true => Self::EverythingWorse,
            false => Self::Candidate(number),
        }
    }

    /// Figures of the network that is kept: the source's where that comes back.
    pub fn kept<'a>(self, source: &'a Measures, adapted: &'a Measures) -> &'a Measures {
        match self {
            Self::Candidate(_) => adapted,
            Self::SourceWasLost | Self::EverythingWorse | Self::NothingMeasured => source,
        }
    }

    /// For a report.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Candidate(_) => "The adapted weights are taken.",
            Self::SourceWasLost => {
                "The source bundle is given back: the adapted weights lose too much on held-out pairs of the source."
            }
            Self::EverythingWorse => {
                "The source bundle is given back: every figure that needs no label is worse after the adaptation."
            }
            Self::NothingMeasured => {
                "The source bundle is given back: nothing that needs no label could be measured."
            }
        }
    }
}

/// What networks are held against.
pub struct Bench {
    /// All clips; the candidates name theirs by number.
    pub clips: Vec<Clip>,
    /// Where to begin on held-out clips.
    pub seeds: Vec<Candidate>,
    /// Objects of the source.
    pub source: PictureSet,
    /// Objects of the target, as the source's tracker found them.
    pub target: PictureSet,
    /// Constants of the tracker.
    pub tracker: TrackerConfig,
    /// Regions at most.
    pub regions: usize,
    /// Decides which regions.
    pub seed: u64,
}

impl Bench {
    /// Everything but `source_auc`, which needs pairs.
    ///
    /// # Errors
    /// A picture that cannot be read, by name; a failure of the network.
    pub fn measure<N: FollowNetwork>(
        &self,
        mut network: N,
        contract: &FollowContract,
    ) -> Result<Measures> {
        let mut found = self.regions(&mut network, contract)?;
        let mut follower = Follower::new(network, contract.clone(), self.tracker)?;
        let (mut agreement, mut presence) = (Vec::new(), Vec::new());
        let mut shown: Option<(usize, Vec<_>)> = None;
        for seed in &self.seeds {
            let number = seed.clip;
            if shown.as_ref().is_none_or(|(clip, _)| *clip != number) {
                shown = Some((number, pictures(&self.clips[number])?));
            }
            let Some((_, pictures)) = &shown else {
                continue;
            };
            let as_far_as_it_goes = |forwards: &[super::pseudo::Seen]| {
                let lost = forwards.iter().position(|s| s.box_in_image.is_none());
                lost.unwrap_or(forwards.len())
            };
            let [forwards, backwards] = both_ways(
                &mut follower,
                pictures,
                seed.box_in_image,
                as_far_as_it_goes,
            )?;
            let mut overlaps = overlaps(&forwards, &backwards);
            overlaps.resize(forwards.len(), 0.0);
            // The last frame of the way forth is the first of the way back: it agrees whatever the tracker does.
            let end = backwards.len().saturating_sub(1);
            let told = overlaps.iter().enumerate().filter(|(at, _)| *at != end);
            agreement.extend(told.map(|(_, v)| f64::from(*v)));
            presence.extend(forwards.iter().skip(1).map(|s| f64::from(s.presence)));
        }
        let mean = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            // A mean of nothing is none, and what is not a number is not measured.
            mean.is_finite().then_some(mean)
        };
        found.agreement = mean(&agreement);
        found.presence = mean(&presence);
        found.entropy = mean(&presence.iter().map(|p| entropy(*p)).collect::<Vec<_>>());
        Ok(found)
    }

    fn regions<N: FollowNetwork>(
        &self,
        network: &mut N,
        contract: &FollowContract,
    ) -> Result<Measures> {
        let config = GapConfig {
            samples: self.regions.max(crate::gap::NEEDED_SAMPLES),
            seed: self.seed,
            ..GapConfig::default()
        };
        let mut of = |set: &PictureSet| -> Result<_> {
            let fit = TargetFilter::default();
            let drawn = draw(set, network, contract, &config, &fit, || ());
            Ok(drawn.map_err(|e| anyhow!("{e:#}"))?.regions)
        };
        let (source, target) = (of(&self.source)?, of(&self.target)?);
        let mut found = Measures::default();
        match Table::of("regions", &source, &target, &config) {
            Ok(table) => {
                let across = table.rows.first();
                found.proxy_a = across.map(|row| row.proxy_a.mean);
                found.mmd = across.map(|row| row.mmd.mean);
            }
            // Few clips, or few tracks: the other figures still say something.
            Err(reason) => log::debug!("domains are not compared on regions: {reason}"),
        }
        Ok(found)
    }
}

/// Of a coin with this probability, in nats.
fn entropy(p: f64) -> f64 {
    let of = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    of(p) + of(1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Measures = Measures {
        agreement: Some(0.6),
        presence: Some(0.7),
        entropy: Some(0.4),
        proxy_a: Some(1.5),
        mmd: Some(0.2),
        source_auc: 0.6,
    };

    #[test]
    fn the_candidate_that_agrees_most_is_taken_among_those_that_keep_the_source() {
        let better = Measures {
            agreement: Some(0.7),
            ..BEFORE
        };
        let best = Measures {
            agreement: Some(0.8),
            ..BEFORE
        };
        let lost = Measures {
            agreement: Some(0.9),
            source_auc: 0.5,
            ..BEFORE
        };
        let nan = Measures {
            agreement: Some(0.95),
            source_auc: f64::NAN,
            ..BEFORE
        };
        let choice = Choice::of(&BEFORE, &[better, lost, best, nan], 0.02);
        assert_eq!(choice, Choice::Candidate(2));
        assert_eq!(
            Choice::of(&BEFORE, &[lost, nan], 0.02),
            Choice::SourceWasLost
        );
        assert_eq!(Choice::of(&BEFORE, &[], 0.02), Choice::SourceWasLost);
    }

    #[test]
    fn the_source_comes_back_where_every_figure_is_worse_and_not_where_one_is_better() {
        let worse = Measures {
            agreement: Some(0.5),
            presence: Some(0.6),
            entropy: Some(0.5),
            proxy_a: Some(1.6),
            mmd: Some(0.3),
            ..BEFORE
        };
        assert_eq!(Choice::of(&BEFORE, &[worse], 0.02), Choice::EverythingWorse);
        for one in [
            Measures {
                agreement: Some(0.61),
                ..worse
            },
            Measures {
                presence: Some(0.71),
                ..worse
            },
            Measures {
                entropy: Some(0.39),
                ..worse
            },
            Measures {
                proxy_a: Some(1.4),
                ..worse
            },
            Measures {
                mmd: Some(0.1),
                ..worse
            },
        ] {
            assert_eq!(Choice::of(&BEFORE, &[one], 0.02), Choice::Candidate(0));
        }
        // What was not measured does not count as better.
        let unmeasured = Measures {
            proxy_a: None,
            ..worse
        };
        assert_eq!(
            Choice::of(&BEFORE, &[unmeasured], 0.02),
            Choice::EverythingWorse
        );
    }

    #[test]
    fn weights_of_which_nothing_was_measured_are_not_taken() {
        let nothing = Measures {
            agreement: None,
            presence: None,
            entropy: None,
            proxy_a: None,
            mmd: None,
            ..BEFORE
        };
        let choice = |before, after| Choice::of(before, &[after], 0.02);
        assert_eq!(choice(&nothing, nothing), Choice::NothingMeasured);
        assert_eq!(choice(&BEFORE, nothing), Choice::NothingMeasured);
        let better = Measures {
            agreement: Some(0.9),
            ..BEFORE
        };
        assert_eq!(choice(&nothing, better), Choice::NothingMeasured);
        assert_eq!(
            Choice::of(&BEFORE, &[nothing, better], 0.02),
            Choice::Candidate(1)
        );
    }

    #[test]
    fn figures_beside_what_is_kept_are_the_sources_where_that_comes_back() {
        let after = Measures {
            source_auc: 0.1,
            ..BEFORE
        };
        assert_eq!(*Choice::Candidate(3).kept(&BEFORE, &after), after);
        for choice in [
            Choice::SourceWasLost,
            Choice::EverythingWorse,
            Choice::NothingMeasured,
        ] {
            assert_eq!(*choice.kept(&BEFORE, &after), BEFORE);
        }
    }

    #[test]
    fn a_coin_is_least_sure_in_the_middle() {
        assert!((entropy(0.5) - 2f64.ln()).abs() < 1e-12);
        assert_eq!((entropy(0.0), entropy(1.0)), (0.0, 0.0));
    }
}
