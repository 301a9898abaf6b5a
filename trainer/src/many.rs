//! Scores result files of many objects with identities: MOTChallenge's and KITTI's layouts, HOTA, CLEAR and IDF1.
//!
//! In: a folder of results and one of truth, or one file of each. Out: a [`SequenceScore`] a sequence and one of all
//! taken together. The figures are those of [`roadhound_shared::metrics::multi`]; here are files and their lines.
//!
//! ```text
//! TRUTH/NAME/gt/gt.txt  TRUTH/NAME/seqinfo.ini     MOTChallenge; the second tells how long the sequence is
//! TRUTH/NAME/gt.txt                                clips of road users
//! TRUTH/NAME.txt, TRUTH/label_02/NAME.txt          KITTI
//! RESULTS/NAME.txt, RESULTS/data/NAME.txt          results of any of them
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use roadhound_shared::metrics::multi::text::{KittiClass, KittiLine, LineError, MotLine, MotRules};
use roadhound_shared::metrics::multi::{
    ALPHAS, Found, Judged, JudgingRule, MultiScore, Role, Truth, alpha,
};

use crate::data::clip::{folders, read_text};
use crate::data::ini::Ini;
use crate::data::{DataError, LineProblem};
use crate::outputs;

/// Whose layout and rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ManyRules {
    /// MOT15: no classes.
    Mot15,
    /// MOT16 and MOT17: pedestrians.
    Mot17,
    /// MOT20.
    Mot20,
    /// Clips of road users in MOTChallenge's layout: any class, ignored boxes spared.
    RoadUsers,
    /// KITTI's tracking benchmark, cars.
    KittiCar,
    /// KITTI's tracking benchmark, pedestrians.
    KittiPedestrian,
}

/// How a line is read, and what may be wrong in spite of it.
#[derive(Clone, Copy)]
enum Layout {
    Mot(MotRules),
    Kitti(KittiClass),
}

impl ManyRules {
    fn layout(self) -> Layout {
        match self {
            Self::Mot15 => Layout::Mot(MotRules::Mot15),
            Self::Mot17 => Layout::Mot(MotRules::Mot17),
            Self::Mot20 => Layout::Mot(MotRules::Mot20),
            Self::RoadUsers => Layout::Mot(MotRules::Roadhound),
            Self::KittiCar => Layout::Kitti(KittiClass::Car),
            Self::KittiPedestrian => Layout::Kitti(KittiClass::Pedestrian),
        }
    }

    /// What the layout of the truth suggests.
    ///
    /// # Errors
    /// A folder that is laid out like none of them.
    pub fn of(truth: &Path) -> Result<Self, DataError> {
        if truth.is_file() {
            let text = read_text(truth)?;
            let first = text.lines().find(|line| !line.trim().is_empty());
            return Ok(match first {
                Some(line) if !line.contains(',') => Self::KittiCar,
                _ => Self::RoadUsers,
            });
        }
        let places = folders(truth)?;
        if let Some(place) = places.iter().find(|p| p.folder.join("gt/gt.txt").is_file()) {
            return Ok(if place.name.starts_with("MOT20") {
                Self::Mot20
            } else {
                Self::Mot17
            });
        }
        if places.iter().any(|p| p.folder.join("gt.txt").is_file()) {
            return Ok(Self::RoadUsers);
        }
        if text_files(&kitti_folder(truth))?.is_empty() {
            return Err(DataError::Layout {
                path: truth.to_owned(),
                reason: "has no truth of many objects (NAME/gt/gt.txt, NAME/gt.txt or NAME.txt)",
            });
        }
        Ok(Self::KittiCar)
    }
}

/// Figures of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceScore {
    /// Its name.
    pub name: String,
    /// Its figures.
    pub score: MultiScore,
}

/// One sequence's files.
struct Place {
    name: String,
    truth: PathBuf,
    found: PathBuf,
    /// Frames, where somebody says so.
    frames: Option<u32>,
}

/// Scores every sequence that has truth, in the order of their names, and all taken together as the last.
///
/// # Errors
/// Missing or unreadable files, lines that cannot be read, an identity that is in two places at once, a frame behind the
/// end of its sequence.
pub fn evaluate(
    results: &Path,
    truth: &Path,
    rules: ManyRules,
) -> Result<Vec<SequenceScore>, DataError> {
    let mut scores = Vec::new();
    for place in places(results, truth, rules)? {
        let score = MultiScore::of(&read(&place, rules.layout())?);
        let name = place.name;
        scores.push(SequenceScore { name, score });
    }
    let all: Vec<MultiScore> = scores.iter().map(|s| s.score.clone()).collect();
    scores.push(SequenceScore {
        name: "combined".to_owned(),
        score: MultiScore::combined(&all),
    });
    Ok(scores)
}

fn places(results: &Path, truth: &Path, rules: ManyRules) -> Result<Vec<Place>, DataError> {
    if truth.is_file() {
        let stem = results.file_stem().unwrap_or_default();
        return Ok(vec![Place {
            name: stem.to_string_lossy().into_owned(),
            truth: truth.to_owned(),
            found: results.to_owned(),
            frames: None,
        }]);
    }
    let found = match results.join("data") {
        data if data.is_dir() => data,
        _ => results.to_owned(),
    };
    // Named as it is missing, rather than after the first sequence.
    std::fs::read_dir(&found).map_err(DataError::io(&found))?;
    let mut places = Vec::new();
    match rules.layout() {
        Layout::Mot(_) => {
            for place in folders(truth)? {
                let beside = ["gt/gt.txt", "gt.txt"].map(|name| place.folder.join(name));
                let Some(truth) = beside.into_iter().find(|path| path.is_file()) else {
                    continue;
                };
                let frames = match place.folder.join("seqinfo.ini") {
                    path if path.is_file() => Ini::read(&path)?.whole("seqLength")?,
                    _ => None,
                };
                places.push(Place {
                    truth,
                    found: found.join(format!("{}.txt", place.name)),
                    name: place.name,
                    frames,
                });
            }
        }
        Layout::Kitti(_) => {
            for truth in text_files(&kitti_folder(truth))? {
                let stem = truth.file_stem().unwrap_or_default();
                let name = stem.to_string_lossy().into_owned();
                places.push(Place {
                    found: found.join(format!("{name}.txt")),
                    name,
                    truth,
                    frames: None,
                });
            }
        }
    }
    if places.is_empty() {
        return Err(DataError::Layout {
            path: truth.to_owned(),
            reason: "has no truth in the layout asked for",
        });
    }
    Ok(places)
}

fn kitti_folder(truth: &Path) -> PathBuf {
    match truth.join("label_02") {
        labels if labels.is_dir() => labels,
        _ => truth.to_owned(),
    }
}

fn text_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        // A note beside the labels is no sequence.
        let is_text = path.extension().is_some_and(|ending| ending == "txt");
        if is_text && path.file_name().is_none_or(|name| name != "SOURCE.txt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Frame of MOTChallenge's lines, which counts from 1, as ours.
fn frame_within(frame: u32, frames: Option<u32>) -> Result<usize, LineProblem> {
    match frames {
        Some(frames) if frame > frames => Err(LineProblem::BehindTheEnd { frame, frames }),
        _ => Ok(frame as usize - 1),
    }
}

fn mot_truth(
    path: &Path,
    rules: MotRules,
    frames: Option<u32>,
) -> Result<Vec<Vec<Truth>>, DataError> {
    let mut truth = ByFrame::new();
    each_line(path, |line| {
        let line = MotLine::parse(line)?;
        let role = line.role(rules);
        let once = (role == Role::Counted).then_some(line.identity);
        let item = Truth {
            identity: line.identity,
            box_in_image: line.box_in_image,
            role,
        };
        truth.add(frame_within(line.frame, frames)?, once, item)
    })?;
    Ok(truth.frames)
}

/// The road users of a clip in MOTChallenge's layout, frame by frame, and the rule that they are judged by.
///
/// # Errors
/// A file that cannot be read, a line behind the last of `frames`.
pub fn road_users(clip: &Path, frames: usize) -> Result<(Vec<Vec<Truth>>, JudgingRule), DataError> {
    let rules = MotRules::Roadhound;
    let mut truth = mot_truth(&clip.join("gt.txt"), rules, u32::try_from(frames).ok())?;
    truth.resize_with(frames, Vec::new);
    Ok((truth, rules.judging()))
}

/// Boxes of one file by frame, from 0.
struct ByFrame<T> {
    frames: Vec<Vec<T>>,
    /// Identities that are judged: each once a frame.
    taken: BTreeSet<(usize, i64)>,
}

impl<T> ByFrame<T> {
    fn new() -> Self {
        Self {
            frames: Vec::new(),
            taken: BTreeSet::new(),
        }
    }

    fn add(&mut self, frame: usize, once: Option<i64>, item: T) -> Result<(), LineProblem> {
        if let Some(identity) = once
            && !self.taken.insert((frame, identity))
        {
            return Err(LineProblem::Identity { identity });
        }
        if self.frames.len() <= frame {
            self.frames.resize_with(frame + 1, Vec::new);
        }
        self.frames[frame].push(item);
        Ok(())
    }
}

fn read(place: &Place, layout: Layout) -> Result<Judged, DataError> {
    let mut truth = ByFrame::new();
    let mut found = ByFrame::new();
    match layout {
        Layout::Mot(rules) => {
            truth.frames = mot_truth(&place.truth, rules, place.frames)?;
            each_line(&place.found, |line| {
                let line = MotLine::parse(line)?;
                let item = Found {
                    identity: line.identity,
                    box_in_image: line.box_in_image,
                };
                found.add(
                    frame_within(line.frame, place.frames)?,
                    Some(line.identity),
                    item,
                )
            })?;
        }
        Layout::Kitti(class) => {
            each_line(&place.truth, |line| {
                let line = KittiLine::parse(line)?;
                let Some(role) = line.role(class) else {
                    return Ok(());
                };
                let identity = line.identity;
                let box_in_image = line.box_in_image;
                let once = (role == Role::Counted).then_some(identity);
                let item = Truth {
                    identity,
                    box_in_image,
                    role,
                };
                truth.add(line.frame as usize, once, item)
            })?;
            each_line(&place.found, |line| {
                let line = KittiLine::parse(line)?;
                if !line.is_found(class) {
                    return Ok(());
                }
                let item = Found {
                    identity: line.identity,
                    box_in_image: line.box_in_image,
                };
                found.add(line.frame as usize, Some(line.identity), item)
            })?;
        }
    }
    let rule = match layout {
        Layout::Mot(rules) => rules.judging(),
        Layout::Kitti(class) => class.judging(),
    };
    let frames = match place.frames {
        Some(frames) => frames as usize,
        None => truth.frames.len().max(found.frames.len()),
    };
    judge(rule, frames, &truth.frames, &found.frames).map_err(|reason| DataError::Entry {
        path: place.found.clone(),
        entry: "sequence",
        id: 0,
        problem: reason.to_string(),
    })
}

fn judge(
    rule: JudgingRule,
    frames: usize,
    truth: &[Vec<Truth>],
    found: &[Vec<Found>],
) -> Result<Judged, roadhound_shared::metrics::multi::MultiError> {
    let mut judged = Judged::new(rule);
    for frame in 0..frames {
        let truth = truth.get(frame).map_or(&[][..], Vec::as_slice);
        let found = found.get(frame).map_or(&[][..], Vec::as_slice);
        judged.add_frame(truth, found)?;
    }
    Ok(judged)
}

fn each_line(
    path: &Path,
    mut take: impl FnMut(&str) -> Result<(), LineProblem>,
) -> Result<(), DataError> {
    for (index, line) in read_text(path)?.lines().enumerate() {
        if !line.trim().is_empty() {
            take(line).map_err(|problem| DataError::line(path, index as u64 + 1, problem))?;
        }
    }
    Ok(())
}

impl From<LineError> for LineProblem {
    fn from(problem: LineError) -> Self {
        Self::Track(problem)
    }
}

/// Every figure of every sequence as CSV: shares 0 to 1, HOTA's parts also at each alpha.
///
/// # Errors
/// A file that cannot be written.
pub fn write_csv(path: &Path, scores: &[SequenceScore]) -> Result<()> {
    let mut text = String::new();
    for (row, s) in scores.iter().enumerate() {
        let figures = figures(&s.score);
        if row == 0 {
            let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
            text += &format!("sequence,{}\n", names.join(","));
        }
        let values: Vec<String> = figures.iter().map(|(_, v)| v.to_string()).collect();
        text += &format!("{},{}\n", quoted(&s.name), values.join(","));
    }
    outputs::file(path, text)
}

/// Names of folders may hold anything.
fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

fn figures(score: &MultiScore) -> Vec<(String, f64)> {
    let (h, c, i) = (&score.hota, &score.clear, &score.identity);
    let mut all: Vec<(String, f64)> = [
        ("frames", score.frames as f64),
        ("truth_boxes", score.truth_boxes as f64),
        ("found_boxes", score.found_boxes as f64),
        ("truth_identities", score.truth_identities as f64),
        ("found_identities", score.found_identities as f64),
        ("hota", h.hota()),
        ("det_a", h.detection()),
        ("ass_a", h.association()),
        ("det_re", h.detection_recall()),
        ("det_pr", h.detection_precision()),
        ("ass_re", h.association_recall()),
        ("ass_pr", h.association_precision()),
        ("loc_a", h.localisation()),
        ("owta", h.open_world()),
        ("mota", c.accuracy()),
        ("motp", c.precision()),
        ("moda", c.detection_accuracy()),
        ("recall", c.detection_recall()),
        ("precision", c.detection_precision()),
        ("matches", c.matches as f64),
        ("misses", c.misses as f64),
        ("false_alarms", c.false_alarms as f64),
        ("switches", c.switches as f64),
        ("fragmentations", c.fragmentations as f64),
        ("mostly_tracked", c.mostly_tracked as f64),
        ("partly_tracked", c.partly_tracked as f64),
        ("mostly_lost", c.mostly_lost as f64),
        ("idf1", i.f1()),
        ("idp", i.precision()),
        ("idr", i.recall()),
        ("idtp", i.matches as f64),
        ("idfn", i.misses as f64),
        ("idfp", i.false_alarms as f64),
    ]
    .map(|(name, figure)| (name.to_owned(), figure))
    .into();
    for a in 0..ALPHAS {
        let label = format!("{:02.0}", alpha(a) * 100.0);
        all.push((format!("hota_{label}"), h.hota_at(a)));
        all.push((format!("det_a_{label}"), h.detection_at(a)));
        all.push((format!("ass_a_{label}"), h.association[a]));
        all.push((format!("loc_a_{label}"), h.localisation[a]));
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::testing::write_files;

    const TRUTH: &str = "1,1,10,10,40,30,1,1,1\n2,1,12,10,40,30,1,1,1\n2,2,200,10,40,30,0,1,1\n";
    const FOUND: &str = "1,5,10,10,40,30,0.9,-1,-1,-1\n2,5,12,10,40,30,0.9,-1,-1,-1\n2,6,200,10,40,30,0.8,-1,-1,-1\n";

    fn scored(
        files: &[(&str, &str)],
        rules: Option<ManyRules>,
    ) -> Result<Vec<SequenceScore>, String> {
        let folder = write_files(files);
        let truth = folder.path().join("truth");
        let rules = rules.map_or_else(|| ManyRules::of(&truth), Ok);
        rules
            .and_then(|rules| evaluate(&folder.path().join("results"), &truth, rules))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn clips_of_road_users_spare_what_is_ignored() {
        let scores = scored(&[("truth/a/gt.txt", TRUTH), ("results/a.txt", FOUND)], None).unwrap();
        let names: Vec<&str> = scores.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["a", "combined"]);
        assert_eq!(scores[0].score.clear.false_alarms, 0);
        assert_eq!(scores[0].score.hota.hota(), 1.0);
    }

    #[test]
    fn in_motchallenge_what_flag_0_marks_is_a_false_alarm() {
        let files = [
            ("truth/MOT17-02/gt/gt.txt", TRUTH),
            ("truth/MOT17-02/seqinfo.ini", "[Sequence]\nseqLength=9\n"),
            ("results/data/MOT17-02.txt", FOUND),
        ];
        let scores = scored(&files, None).unwrap();
        assert_eq!(scores[0].score.clear.false_alarms, 1);
        assert_eq!(scores[0].score.frames, 9);
    }

    #[test]
    fn kitti_spares_vans_and_regions() {
        let tail = "-1 -1 -1 -1 -1 -1 -1";
        let truth = format!(
            "0 1 Car 0 0 -1 10 10 50 40 {tail}\n0 2 Van 0 0 -1 200 10 240 40 {tail}\n0 -1 DontCare -1 -1 -1 400 0 600 90 {tail}\n"
        );
        let found = format!(
            "0 7 Car -1 -1 -1 10 10 50 40 {tail} 0.9\n0 8 Car -1 -1 -1 200 10 240 40 {tail} 0.9\n0 9 Car -1 -1 -1 420 10 480 60 {tail} 0.9\n"
        );
        let files = [
            ("truth/label_02/0000.txt", truth.as_str()),
            ("results/0000.txt", found.as_str()),
        ];
        let scores = scored(&files, None).unwrap();
        assert_eq!(scores[0].score.found_boxes, 1);
        assert_eq!(scores[0].score.clear.accuracy(), 1.0);
    }

    #[test]
    fn bad_lines_are_named_with_file_line_and_reason() {
        for (found, words) in [
            ("1,5,10,10,40\n", "a.txt:1: 5 fields, expected at least 6"),
            (
                "\n1,x,10,10,40,30\n",
                "a.txt:2: id is \"x\", expected a whole number",
            ),
            (
                "0,5,10,10,40,30\n",
                "a.txt:1: frame is \"0\", expected a frame counted from 1",
            ),
            ("1,5,10,10,-4,30\n", "a.txt:1: width is \"-4\""),
            (
                "1,5,nan,10,4,30\n",
                "a.txt:1: left is \"nan\", expected a finite number",
            ),
            (
                "1,5,10,10,40,30\n1,5,90,10,40,30\n",
                "a.txt:2: identity 5 is on this frame already",
            ),
        ] {
            let files = [("truth/a/gt.txt", TRUTH), ("results/a.txt", found)];
            let said = scored(&files, None).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
        let files = [
            ("truth/a/gt/gt.txt", TRUTH),
            ("truth/a/seqinfo.ini", "[Sequence]\nseqLength=2\n"),
            ("results/a.txt", "3,5,10,10,40,30\n"),
        ];
        let said = scored(&files, None).unwrap_err();
        assert!(
            said.contains("a.txt:1: frame 3 of a sequence of 2"),
            "{said}"
        );
    }

    #[test]
    fn a_sequence_without_results_and_a_folder_without_truth_are_refused() {
        let said =
            scored(&[("truth/a/gt.txt", TRUTH), ("results/b.txt", FOUND)], None).unwrap_err();
        assert!(said.contains("a.txt: "), "{said}");
        let said = scored(&[("truth/a/notes.md", "")], None).unwrap_err();
        assert!(said.contains("has no truth of many objects"), "{said}");
    }

    #[test]
    fn the_table_has_every_figure_of_every_sequence() {
        let files = [("truth/a/gt.txt", TRUTH), ("results/a.txt", FOUND)];
        let scores = scored(&files, Some(ManyRules::RoadUsers)).unwrap();
        let folder = write_files(&[]);
        let path = folder.path().join("table.csv");
        write_csv(&path, &scores).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let widths: BTreeSet<usize> = text.lines().map(|l| l.split(',').count()).collect();
        assert_eq!((text.lines().count(), widths.len()), (3, 1));
        assert!(text.contains("hota_05,det_a_05,ass_a_05,loc_a_05,hota_10"));
    }
}
