//! Whether a gain is one, or only the luck of having tried many.
//!
//! In: for every trial that followed all runs, its objective on each. Out: a [`Gain`]: how much the best trial is
//! better than the current constants, and an interval for that.
//!
//! The best of many trials looks better than it is. How much better is estimated as Efron does: runs are drawn again
//! with replacement, the best trial on the drawn runs is taken, and its gain there is compared with its gain on the
//! runs that were not drawn. The mean difference, the *optimism*, is taken off the gain and off both ends of the
//! interval. The unit is the run: runs of one clip are not quite independent, so the interval is rather too narrow.
//!
//! ```
//! use roadhound_trainer::tune::gain::Gain;
//! let current = vec![0.5; 20];
//! let better = vec![0.6; 20];
//! let gain = Gain::of(&[current, better], 1);
//! assert!(gain.is_real() && (gain.corrected() - 0.1).abs() < 1e-9);
//! ```

use rand::Rng;

use crate::sampler::sample_rng;

/// Times that runs are drawn again.
const DRAWS: u64 = 4000;
/// What lies outside the interval, at each end.
const TAIL: f64 = 0.05;
/// Separates this stream of random numbers from others.
const STREAM: u64 = 0x6761_696e;

/// How much the best trial is better than the current constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// Which of the trials is best on all runs.
    pub best: usize,
    /// Its mean gain on the runs that it was chosen on.
    pub measured: f64,
    /// How much of that is the luck of the choice.
    pub optimism: f64,
    /// Lower end of the 90 % interval of the measured gain.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Gain {
    /// Compares trials, `objectives[trial][run]`, with the first one, which is the current constants.
    pub fn of(objectives: &[Vec<f64>], seed: u64) -> Self {
        let runs = objectives.first().map_or(0, Vec::len);
        let gains: Vec<Vec<f64>> = objectives
            .iter()
            .map(|trial| {
                trial
                    .iter()
                    .zip(&objectives[0])
                    .map(|(a, b)| a - b)
                    .collect()
            })
            .collect();
        let all: Vec<usize> = (0..runs).collect();
        let best = best_on(&gains, &all);
        let measured = gains.get(best).map_or(0.0, |g| mean(g, &all));
        let (mut again, mut luck) = (Vec::new(), Vec::new());
        for draw in 0..DRAWS {
            let mut rng = sample_rng(seed, STREAM, draw);
            let drawn: Vec<usize> = (0..runs).map(|_| rng.random_range(0..runs)).collect();
            if let Some(gain) = gains.get(best) {
                again.push(mean(gain, &drawn));
            }
            let left: Vec<usize> = all.iter().copied().filter(|r| !drawn.contains(r)).collect();
            if !left.is_empty() {
                let chosen = &gains[best_on(&gains, &drawn)];
                luck.push(mean(chosen, &drawn) - mean(chosen, &left));
            }
        }
        again.sort_by(f64::total_cmp);
        Self {
            best,
            measured,
            // Of one run nothing is left to check with: the whole gain may be luck.
            optimism: match luck.is_empty() {
                true => measured,
                false => (luck.iter().sum::<f64>() / luck.len() as f64).max(0.0),
            },
            low: quantile(&again, TAIL),
            high: quantile(&again, 1.0 - TAIL),
        }
    }

    /// The gain to be expected on other runs.
    pub fn corrected(&self) -> f64 {
        self.measured - self.optimism
    }

    /// The 90 % interval of that.
    pub fn interval(&self) -> [f64; 2] {
        [self.low - self.optimism, self.high - self.optimism]
    }

    /// The interval lies above zero: worth shipping.
    pub fn is_real(&self) -> bool {
        self.interval()[0] > 0.0
    }
}

/// The 90 % interval of a mean of paired differences: groups (clips) are drawn again with replacement, and in each of them
/// its members (runs). One fewer is drawn than there are: as many give too narrow an interval of few (Rao and Wu 1988).
/// `None` where fewer than two members leave nothing to draw from.
pub fn interval(groups: &[Vec<f64>], seed: u64) -> Option<[f64; 2]> {
    let groups: Vec<&Vec<f64>> = groups.iter().filter(|group| !group.is_empty()).collect();
    if groups.iter().map(|group| group.len()).sum::<usize>() < 2 {
        return None;
    }
    let fewer = |count: usize| count.saturating_sub(1).max(1);
    let is_alone = groups.len() == 1;
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|draw| {
            let mut rng = sample_rng(seed, STREAM, draw);
            let (mut sum, mut count) = (0.0, 0);
            for _ in 0..fewer(groups.len()) {
                let group = groups[rng.random_range(0..groups.len())];
                let members = match is_alone {
                    true => fewer(group.len()),
                    false => group.len(),
                };
                for _ in 0..members {
                    sum += group[rng.random_range(0..group.len())];
                    count += 1;
                }
            }
            sum / f64::from(count)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some([TAIL, 1.0 - TAIL].map(|q| quantile(&means, q)))
}

/// Of sorted values; 0 where there are none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = (q * sorted.len() as f64) as usize;
    let at = at.min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0.0)
}

fn mean(values: &[f64], at: &[usize]) -> f64 {
    at.iter().map(|k| values[*k]).sum::<f64>() / at.len().max(1) as f64
}

/// The trial with the largest mean on these runs; of equals, the first.
fn best_on(gains: &[Vec<f64>], runs: &[usize]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (k, gain) in gains.iter().enumerate() {
        let mean = mean(gain, runs);
        if mean > best.1 {
            best = (k, mean);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn noise(seed: u64, trial: u64, runs: usize, mean: f64) -> Vec<f64> {
        let mut rng = sample_rng(seed, trial, 0);
        (0..runs)
            .map(|_| mean + 0.2 * (rng.random::<f64>() - 0.5))
            .collect()
    }

    #[test]
    fn the_best_of_thirty_trials_of_pure_noise_is_seldom_shipped() {
        let (mut shipped, mut would_be, mut measured, mut optimism) = (0, 0, 0.0, 0.0);
        for seed in 0..20 {
            let trials: Vec<_> = (0..30).map(|k| noise(seed, k, 16, 0.6)).collect();
            let gain = Gain::of(&trials, seed);
            shipped += usize::from(gain.is_real());
            would_be += usize::from(gain.low > 0.0);
            measured += gain.measured;
            optimism += gain.optimism;
        }
        assert!(shipped <= 3, "{shipped} of 20");
        assert!(
            would_be >= 10,
            "uncorrected, {would_be} of 20 would be: the correction is needed"
        );
        assert!(optimism > 0.5 * measured, "{optimism} of {measured}");
    }

    #[test]
    fn a_true_gain_among_noise_is_found_and_not_exaggerated() {
        let mut trials: Vec<_> = (0..30).map(|k| noise(7, k, 24, 0.6)).collect();
        trials.push(noise(7, 99, 24, 0.75));
        let gain = Gain::of(&trials, 7);
        assert_eq!(gain.best, 30);
        assert!(gain.is_real(), "{gain:?}");
        assert!((0.11..0.19).contains(&gain.corrected()), "{gain:?}");
        let [low, high] = gain.interval();
        assert!(low < gain.corrected() && gain.corrected() < high);
    }

    #[test]
    fn where_nothing_is_better_the_current_constants_win_with_no_gain() {
        let trials = vec![vec![0.6; 5], vec![0.5; 5], vec![0.6; 5]];
        let gain = Gain::of(&trials, 1);
        assert_eq!((gain.best, gain.measured, gain.is_real()), (0, 0.0, false));
    }

    #[test]
    fn nine_in_ten_intervals_hold_the_true_mean_where_clips_differ() {
        // A clip's runs share most of their luck: what is certain of it would be far too narrow for all.
        let mut held = 0;
        for seed in 0..200 {
            let clips: Vec<Vec<f64>> = (0..20)
                .map(|clip| {
                    let shared = noise(seed, clip, 1, 0.02)[0];
                    let own = noise(seed, 100 + clip, 4, 0.0);
                    own.iter().map(|v| shared + v / 4.0).collect()
                })
                .collect();
            let [low, high] = interval(&clips, seed).unwrap();
            held += usize::from(low <= 0.02 && 0.02 <= high);
        }
        assert!((164..=194).contains(&held), "{held} of 200");
        assert_eq!(interval(&[vec![0.3]], 1), None);
        assert_eq!(interval(&[], 1), None);
        assert_eq!(interval(&[vec![0.1, 0.1], vec![0.1]], 1), Some([0.1, 0.1]));
    }

    #[test]
    fn a_single_run_proves_nothing() {
        let gain = Gain::of(&[vec![0.5], vec![0.9]], 1);
        assert_eq!(gain.best, 1);
        assert!(!gain.is_real() && gain.corrected() == 0.0, "{gain:?}");
    }
}
