//! What adaptation is worth on annotated clips: success of each run, gains with intervals, the share of the gap that is closed.
//!
//! In: a network, or what it made of the runs before and after. Out: [`Scored`] runs and [`Gain`]s. Labels of the target are
//! used here, and what they say chooses nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use roadhound_shared::metrics::multi::MultiScore;
use roadhound_shared::propose::finder::Finder;
use roadhound_shared::watch::WatchConfig;

use super::setting::Setting;
use crate::data::clip::folders;
use crate::data::layout::Layout;
use crate::evaluate;
use crate::export::bundle;
use crate::export::propose::OnnxProposer;
use crate::model::TrackerNet;
use crate::tune::gain::interval;
use crate::tune::scores::Watched;

/// What a network made of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Which of the annotated folders it is of.
    pub folder: usize,
    /// Runs of one folder of pictures share their luck.
    pub clip: PathBuf,
    /// What was followed, where that is known.
    pub class: Option<Arc<str>>,
    /// Success AUC.
    pub auc: f64,
}

/// Mean success AUC of the runs of one folder; 0 without any.
pub fn mean_of(scores: &[Scored], folder: usize) -> f64 {
    let of: Vec<f64> = scores
        .iter()
        .filter(|s| s.folder == folder)
        .map(|s| s.auc)
        .collect();
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

/// How much better a set of runs is followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Gain {
    /// Of which folder.
    pub folder: usize,
    /// All runs, a clip or a class.
    pub of: String,
    /// How many.
    pub runs: usize,
    /// Mean success AUC.
    pub before: f64,
    /// The same.
    pub after: f64,
    /// 90 % interval of the difference; none where there is one run only.
    pub interval: Option<[f64; 2]>,
}

/// Gains of each folder: of all runs, clip by clip, class by class. Both are of the same runs in the same order.
pub fn gains(before: &[Scored], after: &[Scored], seed: u64) -> Vec<Gain> {
    let mut groups: BTreeMap<(usize, u8, String), Vec<usize>> = BTreeMap::new();
    for (number, scored) in before.iter().enumerate() {
        let mut add = |order, of| {
            groups
                .entry((scored.folder, order, of))
                .or_default()
                .push(number)
        };
        add(0, "all".to_owned());
        add(1, clip_name(&scored.clip));
        if let Some(class) = &scored.class {
            add(2, class.to_string());
        }
    }
    let gain = |((folder, _, of), numbers): ((usize, u8, String), Vec<usize>)| {
        let mut clips: BTreeMap<&Path, Vec<f64>> = BTreeMap::new();
        for number in &numbers {
            let difference = after[*number].auc - before[*number].auc;
            clips
                .entry(&before[*number].clip)
                .or_default()
                .push(difference);
        }
        let clips: Vec<Vec<f64>> = clips.into_values().collect();
        let mean = |all: &[Scored]| {
            numbers.iter().map(|n| all[*n].auc).sum::<f64>() / numbers.len() as f64
        };
        Gain {
            folder,
            of,
            runs: numbers.len(),
            before: mean(before),
            after: mean(after),
            interval: interval(&clips, seed),
        }
    };
    groups.into_iter().map(gain).collect()
}

/// The folder that a clip's pictures lie in, without the `img` that some layouts have.
fn clip_name(folder: &Path) -> String {
    let own = folder.file_name().unwrap_or_default();
    let named = match own == "img" || own == "img1" {
        true => folder.parent().and_then(Path::file_name).unwrap_or(own),
        false => own,
    };
    named.to_string_lossy().into_owned()
}

/// Names of the columns of a table of gains.
pub const COLUMNS: [&str; 8] = [
    "folder", "of", "runs", "before", "after", "gain", "low", "high",
];

impl Gain {
    /// A row of the table; `folders` are their names.
    pub fn row(&self, folders: &[String]) -> Vec<String> {
        let mut row = vec![
            folders[self.folder].clone(),
            self.of.clone(),
            self.runs.to_string(),
        ];
        row.extend([self.before, self.after, self.after - self.before].map(|v| format!("{v:.4}")));
        row.extend(match self.interval {
            Some(ends) => ends.map(|v| format!("{v:.4}")),
            None => ["-".to_owned(), "-".to_owned()],
        });
        row
    }
}

/// As a table.
pub fn csv(gains: &[Gain], folders: &[String]) -> String {
    let mut text = COLUMNS.join(",") + "\n";
    for gain in gains {
        let _ = writeln!(text, "{}", gain.row(folders).join(","));
    }
    text
}

/// Share of what the oracle gains that was gained; none where the oracle gains nothing.
pub fn share_of_gap(before: f64, after: f64, oracle: f64) -> Option<f64> {
    (oracle > before).then(|| (after - before) / (oracle - before))
}

impl Setting {
    /// Names of the annotated folders.
    pub fn folders(&self) -> Vec<String> {
        let named = |folder: &PathBuf| {
            let name = folder.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        self.sources.score.iter().map(named).collect()
    }

    /// What a network makes of every run of the annotated folders.
    ///
    /// # Errors
    /// Files that cannot be read, a folder without runs.
    pub fn scores(&self, net: &TrackerNet) -> Result<Vec<Scored>> {
        let tracker = &self.files.manifest.tracker;
        let mut scores = Vec::new();
        for (number, folder) in self.sources.score.iter().enumerate() {
            let runs = Layout::Auto.load_runs(folder)?;
            ensure!(!runs.is_empty(), "{}: no runs to follow", folder.display());
            let (network, contract) = bundle::graphs_of(net)?;
            let followed = evaluate::follow_runs(network, &contract, tracker, runs, None, |_| ())?;
            scores.extend(followed.iter().map(|f| Scored {
                folder: number,
                clip: f.run.frames[0].parent().unwrap_or(Path::new("")).to_owned(),
                class: f.run.class.clone(),
                auc: f.score.success_auc,
            }));
        }
        Ok(scores)
    }

    /// How well watch mode follows everybody on the annotated clips that say who is there, all of a folder taken together;
    /// folders without such clips have none, nor have bundles without proposals. Of the bundle as it is: the graph that finds
    /// road users is not adapted.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn watched(&self) -> Result<Vec<Option<MultiScore>>> {
        let (Some(contract), Some(graph)) = (&self.files.manifest.propose, &self.files.propose)
        else {
            return Ok(vec![None; self.sources.score.len()]);
        };
        let network = OnnxProposer::new(&graph.bytes, contract)?;
        let mut finder = Finder::new(network, contract.clone())?;
        let config = WatchConfig::default();
        let believed = contract.score.unwrap_or_default();
        let mut all = Vec::new();
        for folder in &self.sources.score {
            let mut scores = Vec::new();
            for place in folders(folder)? {
                if place.folder.join("gt.txt").is_file() {
                    let watched = Watched::clip(&place.folder, &mut finder, &config);
                    let named = || place.name.clone();
                    let watched = watched.with_context(named)?;
                    let score = watched.score(&config, believed, contract.looks.as_ref());
                    scores.push(score.with_context(named)?);
                }
            }
            all.push((!scores.is_empty()).then(|| MultiScore::combined(&scores)));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scored(folder: usize, clip: &str, class: Option<&str>, auc: f64) -> Scored {
        Scored {
            folder,
            clip: clip.into(),
            class: class.map(Arc::from),
            auc,
        }
    }

    #[test]
    fn gains_are_those_of_all_runs_of_each_clip_and_of_each_class() {
        let before = [
            scored(0, "india/a/img", Some("car"), 0.5),
            scored(0, "india/a/img", Some("bus"), 0.3),
            scored(0, "india/b/img", Some("car"), 0.6),
            scored(1, "us/c", None, 0.7),
        ];
        let mut after = before.clone();
        after[0].auc = 0.6;
        after[2].auc = 0.8;
        after[3].auc = 0.6;
        let found = gains(&before, &after, 1);
        let named: Vec<(usize, &str, usize)> =
            found.iter().map(|g| (g.folder, &*g.of, g.runs)).collect();
        assert_eq!(
            named,
            [
                (0, "all", 3),
                (0, "a", 2),
                (0, "b", 1),
                (0, "bus", 1),
                (0, "car", 2),
                (1, "all", 1),
                (1, "c", 1)
            ]
        );
        let gain = |k: usize| found[k].after - found[k].before;
        for (k, expected) in [0.1, 0.05, 0.2, 0.0, 0.15, -0.1, -0.1]
            .into_iter()
            .enumerate()
        {
            assert!((gain(k) - expected).abs() < 1e-12, "{k}: {}", gain(k));
        }
        let [low, high] = found[0].interval.unwrap();
        assert!(
            (0.0..0.1).contains(&low) && high <= 0.2 + 1e-12,
            "{low} {high}"
        );
        assert_eq!(found[2].interval, None);
        let folders = ["india".to_owned(), "us".to_owned()];
        let text = csv(&found, &folders);
        assert!(
            text.contains("\nus,c,1,0.7000,0.6000,-0.1000,-,-\n"),
            "{text}"
        );
        assert!((mean_of(&after, 0) - 1.7 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn half_of_what_labels_would_give_is_half_of_the_gap() {
        assert!((share_of_gap(0.4, 0.5, 0.6).unwrap() - 0.5).abs() < 1e-12);
        assert!(share_of_gap(0.4, 0.3, 0.6).unwrap() < 0.0);
        assert_eq!(share_of_gap(0.4, 0.5, 0.4), None);
        assert_eq!(share_of_gap(0.4, 0.5, f64::NAN), None);
    }
}
