//! CLEAR: matches, misses, false alarms, switches of identity, counted frame by frame.
//!
//! In: a [`Judged`] sequence and the [`ClearRule`], since programs differ. Out: counts, from which MOTA, MOTP and the
//! rest. Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008.

use alloc::vec;
use alloc::vec::Vec;

use super::judged::JudgedFrame;
use super::{EPSILON, Judged, MATCH_FROM_IOU, share};
use crate::assignment::Assigner;

/// Whose counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClearRule {
    /// TrackEval, by which KITTI and MOTChallenge are scored. Who matched on the frame before stays together if that
    /// is possible; more than 0.8 of its frames make an object mostly tracked; a track is fragmented each time it is
    /// taken up again.
    #[default]
    TrackEval,
    /// py-motmetrics, closer to the paper. Who ever matched last stays together, whatever it costs others; 0.8 is enough;
    /// a track is fragmented each time it is lost between its first and last match.
    Motmetrics,
}

/// A pair that was together before is worth more than any overlaps.
const CONTINUES: f64 = 1000.0;

/// Counts, and the sum that MOTP is made of. A sequence without true or without found boxes has no frames to be scored:
/// its shares are 0 (and all objects mostly lost), as TrackEval leaves them, but its misses and false alarms count when
/// sequences are taken together. Shares of those are computed from the sums, whatever each sequence was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Clear {
    /// Frames scored: none where a sequence has no true or no found box, as TrackEval counts.
    pub frames: u64,
    /// True boxes that were found.
    pub matches: u64,
    /// True boxes that were not.
    pub misses: u64,
    /// Found boxes that are nobody's.
    pub false_alarms: u64,
    /// IDSW: matches with another identity than the last one.
    pub switches: u64,
    /// Frag: how often objects were lost and taken up again.
    pub fragmentations: u64,
    /// MT: objects found on four fifths of their frames.
    pub mostly_tracked: u64,
    /// PT: the others.
    pub partly_tracked: u64,
    /// ML: objects found on less than a fifth of their frames.
    pub mostly_lost: u64,
    /// Sum of the overlaps of matches.
    pub overlap_sum: f64,
    /// Of one sequence that has no true or no found box; never of several taken together.
    pub one_sided: bool,
}

/// What is known of one true identity.
#[derive(Clone, Copy, Default)]
struct Life {
    frames: u32,
    matched: u32,
    /// The found identity of the last match.
    last: Option<u32>,
    /// The same, if that was on the last frame with boxes of both kinds.
    just_before: Option<u32>,
    taken_up: u64,
    lost: u64,
    /// Losses that nothing followed yet.
    missing: bool,
}

impl Clear {
    /// Scores one sequence.
    #[must_use]
    pub fn of(judged: &Judged, rule: ClearRule) -> Self {
        let mut clear = Self::default();
        if judged.truth_boxes() == 0 || judged.found_boxes() == 0 {
            clear.misses = judged.truth_boxes();
            clear.false_alarms = judged.found_boxes();
            clear.mostly_lost = judged.truth_sizes.len() as u64;
            clear.one_sided = true;
            return clear;
        }
        clear.frames = judged.frames.len() as u64;
        let mut lives = vec![Life::default(); judged.truth_sizes.len()];
        let mut matcher = Matcher::default();
        for frame in &judged.frames {
            matcher.pair(frame, &lives, rule);
            let pairs = &matcher.pairs;
            // TrackEval passes over frames without boxes of either kind: they end no match.
            let passed_over =
                rule == ClearRule::TrackEval && (frame.truth.is_empty() || frame.found.is_empty());
            let just_before: Vec<Option<u32>> = lives.iter().map(|l| l.just_before).collect();
            if !passed_over {
                for life in &mut lives {
                    life.just_before = None;
                }
            }
            let mut matches = 0;
            for (row, &t) in frame.truth.iter().enumerate() {
                let life = &mut lives[t as usize];
                life.frames += 1;
                let Some(column) = pairs[row] else {
                    life.missing = life.last.is_some();
                    continue;
                };
                let f = frame.found[column];
                matches += 1;
                clear.overlap_sum += frame.overlap(row, column);
                clear.switches += u64::from(life.last.is_some_and(|last| last != f));
                life.matched += 1;
                life.taken_up += u64::from(just_before[t as usize].is_none());
                life.lost += u64::from(core::mem::take(&mut life.missing));
                (life.last, life.just_before) = (Some(f), Some(f));
            }
            clear.matches += matches;
            clear.misses += frame.truth.len() as u64 - matches;
            clear.false_alarms += frame.found.len() as u64 - matches;
        }
        for life in &lives {
            let share = f64::from(life.matched) / f64::from(life.frames);
            let mostly = match rule {
                ClearRule::TrackEval => share > 0.8,
                ClearRule::Motmetrics => share >= 0.8,
            };
            let group = match (mostly, share >= 0.2) {
                (true, _) => &mut clear.mostly_tracked,
                (false, true) => &mut clear.partly_tracked,
                (false, false) => &mut clear.mostly_lost,
            };
            *group += 1;
            clear.fragmentations += match rule {
                ClearRule::TrackEval => life.taken_up.saturating_sub(1),
                ClearRule::Motmetrics => life.lost,
            };
        }
        clear
    }

    /// Sequences taken together: everything is summed.
    #[must_use]
    pub fn combined<'a>(scores: impl Iterator<Item = &'a Self>) -> Self {
        scores.fold(Self::default(), |all, s| Self {
            frames: all.frames + s.frames,
            matches: all.matches + s.matches,
            misses: all.misses + s.misses,
            false_alarms: all.false_alarms + s.false_alarms,
            switches: all.switches + s.switches,
            fragmentations: all.fragmentations + s.fragmentations,
            mostly_tracked: all.mostly_tracked + s.mostly_tracked,
            partly_tracked: all.partly_tracked + s.partly_tracked,
            mostly_lost: all.mostly_lost + s.mostly_lost,
            overlap_sum: all.overlap_sum + s.overlap_sum,
            one_sided: false,
        })
    }

    fn of_truth(&self, figure: f64) -> f64 {
        match self.one_sided {
            true => 0.0,
            false => share(figure, (self.matches + self.misses) as f64),
        }
    }

    fn of_objects(&self, figure: u64) -> f64 {
        let all = self.mostly_tracked + self.partly_tracked + self.mostly_lost;
        share(figure as f64, all as f64)
    }

    /// MOTA: 1 less misses, false alarms and switches, as a share of the true boxes; may be negative.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.of_truth(self.matches as f64 - self.false_alarms as f64 - self.switches as f64)
    }

    /// MODA: the same without switches.
    #[must_use]
    pub fn detection_accuracy(&self) -> f64 {
        self.of_truth(self.matches as f64 - self.false_alarms as f64)
    }

    /// MOTAL: the same with the logarithm (base 10) of the switches.
    #[must_use]
    pub fn accuracy_log_switches(&self) -> f64 {
        let switches = libm::log10(self.switches.max(1) as f64);
        self.of_truth(self.matches as f64 - self.false_alarms as f64 - switches)
    }

    /// sMOTA: matches count with their overlaps.
    #[must_use]
    pub fn soft_accuracy(&self) -> f64 {
        self.of_truth(self.overlap_sum - self.false_alarms as f64 - self.switches as f64)
    }

    /// MOTP: mean overlap of matches. py-motmetrics gives 1 less this.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.overlap_sum, self.matches as f64)
    }

    /// CLR_Re: share of the true boxes that were found.
    #[must_use]
    pub fn detection_recall(&self) -> f64 {
        self.of_truth(self.matches as f64)
    }

    /// CLR_Pr: share of the found boxes that are somebody's.
    #[must_use]
    pub fn detection_precision(&self) -> f64 {
        let matches = self.matches as f64;
        share(matches, matches + self.false_alarms as f64)
    }

    /// CLR_F1.
    #[must_use]
    pub fn detection_f1(&self) -> f64 {
        let matches = self.matches as f64;
        share(
            matches,
            matches + 0.5 * self.misses as f64 + 0.5 * self.false_alarms as f64,
        )
    }

    /// False alarms a frame.
    #[must_use]
    pub fn false_alarms_a_frame(&self) -> f64 {
        match self.one_sided {
            true => 0.0,
            false => share(self.false_alarms as f64, self.frames as f64),
        }
    }

    /// MTR.
    #[must_use]
    pub fn mostly_tracked_share(&self) -> f64 {
        self.of_objects(self.mostly_tracked)
    }

    /// PTR.
    #[must_use]
    pub fn partly_tracked_share(&self) -> f64 {
        self.of_objects(self.partly_tracked)
    }

    /// MLR.
    #[must_use]
    pub fn mostly_lost_share(&self) -> f64 {
        match self.one_sided {
            true => 1.0,
            false => self.of_objects(self.mostly_lost),
        }
    }
}

/// Matches the boxes of one frame.
#[derive(Default)]
struct Matcher {
    assigner: Assigner,
    costs: Vec<f64>,
    /// By true box, which found box.
    pairs: Vec<Option<usize>>,
}

impl Matcher {
    fn pair(&mut self, frame: &JudgedFrame, lives: &[Life], rule: ClearRule) {
        let (rows, columns) = (frame.truth.len(), frame.found.len());
        self.pairs.clear();
        self.pairs.resize(rows, None);
        self.costs.clear();
        let near = |row, column| frame.overlap(row, column) >= MATCH_FROM_IOU - EPSILON;
        let mut taken = vec![false; columns];
        if rule == ClearRule::Motmetrics {
            for (row, &t) in frame.truth.iter().enumerate() {
                let before = lives[t as usize].last;
                let place = frame.found.iter().position(|f| Some(*f) == before);
                if let Some(column) = place.filter(|&c| !taken[c] && near(row, c)) {
                    taken[column] = true;
                    self.pairs[row] = Some(column);
                }
            }
        }
        for (row, &t) in frame.truth.iter().enumerate() {
            for (column, &f) in frame.found.iter().enumerate() {
                let free = self.pairs[row].is_none() && !taken[column];
                let worth = match rule {
                    _ if !near(row, column) || !free => 0.0,
                    ClearRule::TrackEval if lives[t as usize].just_before == Some(f) => {
                        CONTINUES + frame.overlap(row, column)
                    }
                    ClearRule::TrackEval => frame.overlap(row, column),
                    // As many matches as can be; among those, the best overlaps.
                    ClearRule::Motmetrics => CONTINUES + frame.overlap(row, column),
                };
                self.costs.push(-worth);
            }
        }
        // The table is of the right size, and overlaps are finite.
        let pairs = self
            .assigner
            .solve(&self.costs, rows, columns)
            .unwrap_or(&[]);
        for (row, column) in pairs.iter().enumerate() {
            let Some(column) = column.map(|c| c as usize) else {
                continue;
            };
            if self.costs[row * columns + column] < -EPSILON {
                self.pairs[row] = Some(column);
            }
        }
    }
}
