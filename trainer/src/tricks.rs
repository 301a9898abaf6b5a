//! The tricks of the recipe by name, each with the one change of a configuration that turns it off alone.
//!
//! In: a [`TrackerRun`]. Out: the same run without one trick. This is what `roadhound-train ablate` leaves out one by
//! one, and the list of what the recipe is made of:
//!
//! ```
//! use roadhound_trainer::config::{SystemConfig, TrackerRun};
//! use roadhound_trainer::tricks::Trick;
//! let run = TrackerRun::default();
//! let without = Trick::named("glare").unwrap().off(&run);
//! assert_eq!(without.augment.glare.share, 0.0);
//! assert!(Trick::named("glair").is_err());
//! ```

use crate::config::TrackerRun;

/// A part of the recipe that can be left out.
#[derive(Clone, Copy)]
pub struct Trick {
    /// As on the command line and in the table.
    pub name: &'static str,
    /// What it does, for the table.
    pub what: &'static str,
    switch_off: fn(&mut TrackerRun),
}

impl std::fmt::Debug for Trick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Names are unique.
impl PartialEq for Trick {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A name that is no trick's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no trick is called {name:?}; there are {known}")]
pub struct UnknownTrick {
    name: String,
    known: String,
}

macro_rules! tricks {
    ($($name:literal, $what:literal, |$run:ident| $off:block;)*) => {
        /// All of them, in the order of the table.
        pub const TRICKS: &[Trick] = &[
            $(Trick { name: $name, what: $what, switch_off: |$run| $off },)*
        ];
    };
}

tricks! {
    "growing_gaps", "frames of a pair drift apart as training goes on", |run| {
        run.sampler.gap_at_start = run.sampler.gap_at_end;
    };
    "two_templates", "a later, often misaligned template beside the first", |run| {
        run.sampler.identical_latest_share = 1.0;
    };
    "wide_search", "targets far from the middle and of a changed size", |run| {
        run.sampler.wide_shift_share = 0.0;
        run.sampler.wide_scale_share = 0.0;
    };
    "absent", "search crops without the target", |run| {
        run.sampler.negative_share = 0.0;
        run.sampler.elsewhere_share = 0.0;
        run.sampler.hidden_share = 0.0;
        run.augment.occluder.absent_share = 0.0;
    };
    "hard_rivals", "other objects of the target's class and frame, as negatives and pasted beside it", |run| {
        run.sampler.rival.negative_share = 0.0;
        run.sampler.rival.paste_share = 0.0;
    };
    "occluders", "things in front of the target, pasted or annotated", |run| {
        run.augment.occluder.share = 0.0;
        run.sampler.occluded_share = 0.0;
    };
    "pasted_targets", "targets before another background", |run| {
        run.augment.paste.share = 0.0;
    };
    "pasted_distractors", "other objects pasted beside the target", |run| {
        run.augment.distractor.share = 0.0;
        run.augment.paste.with_distractor_share = 0.0;
    };
    "masks", "cut-outs along masks instead of soft rectangles", |run| {
        run.augment.use_masks = false;
    };
    "cut_out", "pieces wiped out", |run| {
        run.augment.cut_out.share = 0.0;
    };
    "tone", "gamma, contrast, brightness and tint", |run| {
        run.augment.tone.log_gamma = 0.0;
        run.augment.tone.log_contrast = 0.0;
        run.augment.tone.brightness = 0.0;
        run.augment.tone.tint = 0.0;
    };
    "grey", "pairs without colour", |run| { run.augment.grey_share = 0.0; };
    "shadow", "sudden light and shade", |run| { run.augment.shadow.share = 0.0; };
    "glare", "a source of light into the lens", |run| { run.augment.glare.share = 0.0; };
    "night", "darkness with lamps", |run| { run.augment.night.share = 0.0; };
    "haze", "fog, smog and dust", |run| { run.augment.haze.share = 0.0; };
    "rain", "streaks and drops", |run| { run.augment.rain.share = 0.0; };
    "defocus", "Gaussian blur", |run| { run.augment.gaussian_blur.share = 0.0; };
    "motion_blur", "smears", |run| { run.augment.motion_blur.share = 0.0; };
    "low_resolution", "down and up again", |run| { run.augment.low_resolution.share = 0.0; };
    "noise", "sensor noise", |run| { run.augment.noise.share = 0.0; };
    "jpeg", "compression", |run| { run.augment.jpeg.share = 0.0; };
    "balance", "rare classes, sizes and sequences drawn oftener", |run| {
        run.sampler.balance.class = 0.0;
        run.sampler.balance.size = 0.0;
        run.sampler.balance.sequence = 0.0;
    };
    "label_smoothing", "labels of presence and score short of 0 and 1", |run| {
        run.loss.presence_smoothing = 0.0;
        run.loss.score_smoothing = 0.0;
    };
    "frozen_norm", "normalisation constant at the end", |run| {
        run.train.freeze_norm_share = 0.0;
    };
    "average", "moving average of the weights", |run| { run.train.average_keep = 0.0; };
    "identity", "identity loss", |run| { run.loss.identity = 0.0; };
}

impl Trick {
    /// The trick of that name.
    ///
    /// # Errors
    /// A name that is none, with the list of those that are.
    pub fn named(name: &str) -> Result<Self, UnknownTrick> {
        TRICKS
            .iter()
            .find(|trick| trick.name == name)
            .copied()
            .ok_or_else(|| UnknownTrick {
                name: name.to_owned(),
                known: TRICKS.iter().map(|t| t.name).collect::<Vec<_>>().join(", "),
            })
    }

    /// `run` without this trick, everything else as it is.
    pub fn off(&self, run: &TrackerRun) -> TrackerRun {
        let mut without = run.clone();
        (self.switch_off)(&mut without);
        without
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SystemConfig;

    #[test]
    fn every_trick_is_part_of_the_defaults_and_leaves_a_valid_run_behind() {
        let run = TrackerRun::default();
        for trick in TRICKS {
            let without = trick.off(&run);
            assert_ne!(without, run, "{trick:?} is off already");
            assert_eq!(trick.off(&without), without, "{trick:?} off twice");
            TrackerRun::parse(&without.to_toml().unwrap()).unwrap();
            without.sampler.validate().unwrap();
            without.augment.validate().unwrap();
        }
    }

    #[test]
    fn no_two_tricks_share_a_name_or_a_switch() {
        let run = TrackerRun::default();
        for (i, a) in TRICKS.iter().enumerate() {
            for b in &TRICKS[..i] {
                assert_ne!(a.name, b.name);
                assert_ne!(a.off(&run), b.off(&run), "{a:?} and {b:?}");
                // Either order gives the same run: neither switches the other's back on.
                assert_eq!(a.off(&b.off(&run)), b.off(&a.off(&run)), "{a:?} and {b:?}");
                assert_ne!(
                    b.off(&a.off(&run)),
                    a.off(&run),
                    "{b:?} is off without {a:?}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let line = Trick::named("mosaic").unwrap_err().to_string();
        assert!(
            line.contains("\"mosaic\"") && line.contains("hard_rivals"),
            "{line}"
        );
    }
}
