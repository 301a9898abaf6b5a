//! Figures of many objects against those that other programs printed: TrackEval's for a tracker on KITTI's 21 training
//! sequences, py-motmetrics' for its two TUD sequences. The files are not ours to distribute: see `golden_folder`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use roadhound_shared::metrics::multi::text::{KittiClass, KittiLine, MotLine, MotRules};
use roadhound_shared::metrics::multi::{
    ALPHAS, Clear, ClearRule, Found, Judged, JudgingRule, MultiScore, Truth, alpha,
};

/// Figures agree to this, relatively. Those of TrackEval are written in full; what is left is the order of sums.
const TOLERANCE: f64 = 1e-9;

/// Where the files are unpacked; `None`, said aloud, without them.
fn golden_folder(test: &str) -> Option<PathBuf> {
    let shared = env::var_os("ROADHOUND_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let archive = shared.join("data/metrics_golden/metrics_golden.tar.xz");
    if !archive.is_file() {
        println!("skipped: {} is not there", archive.display());
        return None;
    }
    // A folder a test, since they run at the same time.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).unwrap();
    let status = Command::new("tar")
        .arg("-xJf")
        .arg(&archive)
        .arg("-C")
        .arg(&folder)
        .status();
    assert!(status.unwrap().success(), "tar -xJf {}", archive.display());
    Some(folder.join("metrics_golden"))
}

#[track_caller]
fn check(what: &str, found: f64, expected: f64) {
    let off = (found - expected).abs();
    assert!(
        off <= TOLERANCE * expected.abs().max(1e-3),
        "{what}: {found}, expected {expected}"
    );
}

fn judge(
    rule: JudgingRule,
    frames: usize,
    truth: &BTreeMap<usize, Vec<Truth>>,
    found: &BTreeMap<usize, Vec<Found>>,
) -> Judged {
    let mut judged = Judged::new(rule);
    for frame in 0..frames {
        let truth = truth.get(&frame).map_or(&[][..], Vec::as_slice);
        let found = found.get(&frame).map_or(&[][..], Vec::as_slice);
        judged.add_frame(truth, found).unwrap();
    }
    judged
}

fn kitti_cars(folder: &Path, name: &str, frames: usize) -> MultiScore {
    let mut truth: BTreeMap<usize, Vec<Truth>> = BTreeMap::new();
    let labels = folder.join(format!("kitti_tracking_labels/label_02/{name}.txt"));
    for line in fs::read_to_string(labels).unwrap().lines() {
        let line = KittiLine::parse(line).unwrap();
        if let Some(role) = line.role(KittiClass::Car) {
            truth.entry(line.frame as usize).or_default().push(Truth {
                identity: line.identity,
                box_in_image: line.box_in_image,
                role,
            });
        }
    }
    let mut found: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
    let results = folder.join(format!("kitti_tracker_results/YOLOX-SORT/data/{name}.txt"));
    for line in fs::read_to_string(results).unwrap().lines() {
        let line = KittiLine::parse(line).unwrap();
        if line.is_found(KittiClass::Car) {
            found.entry(line.frame as usize).or_default().push(Found {
                identity: line.identity,
                box_in_image: line.box_in_image,
            });
        }
    }
    let last = truth.keys().chain(found.keys()).max();
    let frames = frames.max(last.map_or(0, |last| last + 1));
    MultiScore::of(&judge(KittiClass::Car.judging(), frames, &truth, &found))
}

/// Every figure by the name that TrackEval gives it.
fn named(score: &MultiScore) -> BTreeMap<String, f64> {
    let (h, c, i) = (&score.hota, &score.clear, &score.identity);
    let mut all: BTreeMap<String, f64> = BTreeMap::new();
    let mut curve = |name: &str, mean: f64, at: &dyn Fn(usize) -> f64| {
        for a in 0..ALPHAS {
            let label = (alpha(a) * 100.0).round();
            all.insert(format!("{name}___{label}"), at(a));
        }
        all.insert(format!("{name}___AUC"), mean);
    };
    let count = |counts: [u64; ALPHAS]| counts.iter().sum::<u64>() as f64 / ALPHAS as f64;
    curve("HOTA", h.hota(), &|a| h.hota_at(a));
    curve("DetA", h.detection(), &|a| h.detection_at(a));
    curve("AssA", h.association(), &|a| h.association[a]);
    curve("DetRe", h.detection_recall(), &|a| h.detection_recall_at(a));
    curve("DetPr", h.detection_precision(), &|a| {
        h.detection_precision_at(a)
    });
    curve("AssRe", h.association_recall(), &|a| {
        h.association_recall[a]
    });
    curve("AssPr", h.association_precision(), &|a| {
        h.association_precision[a]
    });
    curve("LocA", h.localisation(), &|a| h.localisation[a]);
    curve("OWTA", h.open_world(), &|a| h.open_world_at(a));
    curve("HOTA_TP", count(h.matches), &|a| h.matches[a] as f64);
    curve("HOTA_FN", count(h.misses), &|a| h.misses[a] as f64);
    curve("HOTA_FP", count(h.false_alarms), &|a| {
        h.false_alarms[a] as f64
    });
    for (name, figure) in [
        ("HOTA(0)", h.hota_at(0)),
        ("LocA(0)", h.localisation[0]),
        ("HOTALocA(0)", h.hota_at(0) * h.localisation[0]),
        ("MOTA", c.accuracy()),
        ("MOTP", c.precision()),
        ("MODA", c.detection_accuracy()),
        ("CLR_Re", c.detection_recall()),
        ("CLR_Pr", c.detection_precision()),
        ("MTR", c.mostly_tracked_share()),
        ("PTR", c.partly_tracked_share()),
        ("MLR", c.mostly_lost_share()),
        ("sMOTA", c.soft_accuracy()),
        ("CLR_F1", c.detection_f1()),
        ("FP_per_frame", c.false_alarms_a_frame()),
        ("MOTAL", c.accuracy_log_switches()),
        ("MOTP_sum", c.overlap_sum),
        ("CLR_TP", c.matches as f64),
        ("CLR_FN", c.misses as f64),
        ("CLR_FP", c.false_alarms as f64),
        ("IDSW", c.switches as f64),
        ("MT", c.mostly_tracked as f64),
        ("PT", c.partly_tracked as f64),
        ("ML", c.mostly_lost as f64),
        ("Frag", c.fragmentations as f64),
        ("CLR_Frames", c.frames as f64),
        ("IDF1", i.f1()),
        ("IDR", i.recall()),
        ("IDP", i.precision()),
        ("IDTP", i.matches as f64),
        ("IDFN", i.misses as f64),
        ("IDFP", i.false_alarms as f64),
        ("Dets", score.found_boxes as f64),
        ("GT_Dets", score.truth_boxes as f64),
        ("IDs", score.found_identities as f64),
        ("GT_IDs", score.truth_identities as f64),
    ] {
        all.insert(name.to_owned(), figure);
    }
    all
}

#[test]
fn every_figure_of_trackeval_on_kitti_is_ours() {
    let Some(folder) = golden_folder("kitti") else {
        return;
    };
    let table = folder.join("kitti_tracker_results/YOLOX-SORT/car_detailed.csv");
    let table = fs::read_to_string(table).unwrap();
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut scores = Vec::new();
    let (mut sequences, mut compared) = (0, 0);
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), names.len());
        let expected = |name: &str| -> f64 {
            let at = names.iter().position(|n| *n == name).unwrap();
            fields[at].parse().unwrap()
        };
        let score = if fields[0] == "COMBINED" {
            MultiScore::combined(&scores)
        } else {
            sequences += 1;
            kitti_cars(&folder, fields[0], expected("CLR_Frames") as usize)
        };
        let found = named(&score);
        for name in &names[1..] {
            let ours = found.get(*name).unwrap_or_else(|| panic!("no {name}"));
            check(&format!("{} {name}", fields[0]), *ours, expected(name));
            compared += 1;
        }
        scores.push(score);
    }
    assert_eq!((sequences, compared), (21, 22 * (names.len() - 1)));
    println!("{compared} figures of {sequences} sequences agree to {TOLERANCE:e}");
}

/// What py-motmetrics 1.4.0 says of its own two sequences (IoU, distances up to 0.5).
struct Motmetrics {
    name: &'static str,
    frames: usize,
    idf1: f64,
    idp: f64,
    idr: f64,
    recall: f64,
    precision: f64,
    /// Mostly tracked, partly tracked, mostly lost.
    objects: [u64; 3],
    false_alarms: u64,
    misses: u64,
    switches: u64,
    fragmentations: u64,
    mota: f64,
    /// A distance.
    motp: f64,
    identity: [u64; 3],
}

const TUD: [Motmetrics; 2] = [
    Motmetrics {
        name: "TUD-Campus",
        frames: 71,
        idf1: 0.557659208262,
        idp: 0.729729729730,
        idr: 0.451253481894,
        recall: 0.582172701950,
        precision: 0.941441441441,
        objects: [1, 6, 1],
        false_alarms: 13,
        misses: 150,
        switches: 7,
        fragmentations: 7,
        mota: 0.526462395543,
        motp: 0.277201084639,
        identity: [162, 197, 60],
    },
    Motmetrics {
        name: "TUD-Stadtmitte",
        frames: 179,
        idf1: 0.644619422572,
        idp: 0.819759679573,
        idr: 0.531141868512,
        recall: 0.608996539792,
        precision: 0.939919893191,
        objects: [5, 4, 1],
        false_alarms: 45,
        misses: 452,
        switches: 7,
        fragmentations: 6,
        mota: 0.564013840830,
        motp: 0.345904295544,
        identity: [614, 542, 135],
    },
];

fn read_mot(path: &Path) -> Vec<MotLine> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|l| MotLine::parse(l).unwrap()).collect()
}

#[test]
fn every_figure_of_motmetrics_on_tud_is_ours() {
    let Some(folder) = golden_folder("tud") else {
        return;
    };
    for expected in &TUD {
        let name = expected.name;
        let clip = folder.join("motmetrics_data/motmetrics/data").join(name);
        let mut truth: BTreeMap<usize, Vec<Truth>> = BTreeMap::new();
        for line in read_mot(&clip.join("gt.txt")) {
            truth
                .entry(line.frame as usize - 1)
                .or_default()
                .push(Truth {
                    identity: line.identity,
                    box_in_image: line.box_in_image,
                    role: line.role(MotRules::Mot15),
                });
        }
        let mut found: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
        for line in read_mot(&clip.join("test.txt")) {
            found
                .entry(line.frame as usize - 1)
                .or_default()
                .push(Found {
                    identity: line.identity,
                    box_in_image: line.box_in_image,
                });
        }
        let judged = judge(MotRules::Mot15.judging(), expected.frames, &truth, &found);
        let clear = Clear::of(&judged, ClearRule::Motmetrics);
        let identity = MultiScore::of(&judged).identity;
        let objects = [
            clear.mostly_tracked,
            clear.partly_tracked,
            clear.mostly_lost,
        ];
        assert_eq!(objects, expected.objects, "{name}");
        let counts = [
            clear.false_alarms,
            clear.misses,
            clear.switches,
            clear.fragmentations,
        ];
        let wanted = [
            expected.false_alarms,
            expected.misses,
            expected.switches,
            expected.fragmentations,
        ];
        assert_eq!(counts, wanted, "{name}");
        let counts = [identity.matches, identity.misses, identity.false_alarms];
        assert_eq!(counts, expected.identity, "{name}");
        for (figure, ours, theirs) in [
            ("IDF1", identity.f1(), expected.idf1),
            ("IDP", identity.precision(), expected.idp),
            ("IDR", identity.recall(), expected.idr),
            ("recall", clear.detection_recall(), expected.recall),
            ("precision", clear.detection_precision(), expected.precision),
            ("MOTA", clear.accuracy(), expected.mota),
            ("MOTP", 1.0 - clear.precision(), expected.motp),
        ] {
            check(&format!("{name} {figure}"), ours, theirs);
        }
    }
}
