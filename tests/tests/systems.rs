//! The learning systems beside the tracker: what they reach on published data, and that their saved models say the same
//! in the trainer, on tract and in ONNX Runtime.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use std::sync::Arc;

use candle_core::Device;
use roadhound_edge::infer::LoneGraph;
use roadhound_trainer::autoencoder::{AutoencoderRun, Kind};
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::dann::data::{Batches as DannBatches, DomainSamples, Pair};
use roadhound_trainer::dann::{self, DannRun, Method};
use roadhound_trainer::disentangle::DisentangleRun;
use roadhound_trainer::export::package::{self, Package, TOLERANCE};
use roadhound_trainer::familiarity::FamiliarityRun;
use roadhound_trainer::familiarity::export::packed;
use roadhound_trainer::familiarity::measure::Statistics;
use roadhound_trainer::familiarity::scores::look;
use roadhound_trainer::gan::GanRun;
use roadhound_trainer::labelled::{LabelledConfig, Samples, Shape, Values};
use roadhound_trainer::loss::embedding::EmbeddingLoss;
use roadhound_trainer::metric::export::{graph, matrices};
use roadhound_trainer::metric::kernel::Kernel;
use roadhound_trainer::metric::study::{Fitted, Score, cross_validate, matrix};
use roadhound_trainer::metric::{EIGENVALUE_TOLERANCE, Learner, MetricRun};
use roadhound_trainer::siamese::sampler::{Batches, Changes};
use roadhound_trainer::siamese::{self, SiameseRun};
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::autoencoder::{AutoencoderNet, AutoencoderTask};
use roadhound_trainer::task::dann::DannTask;
use roadhound_trainer::task::disentangle::DisentangleNet;
use roadhound_trainer::task::gan::{GanBatch, GanNet, GanTask, Judge};
use roadhound_trainer::task::siamese::{HeldOut, SiameseTask};
use system_tests::{oracle_python, say, shared_data};

/// Replays a saved model on tract, and in ONNX Runtime where there is one.
fn check_model(folder: &Path) {
    let packed = package::read(folder).unwrap();
    for card in &packed.manifest.graphs {
        let probes = packed.probes.iter().filter(|p| p.file == card.file);
        let (inputs, outputs): (Vec<_>, Vec<_>) =
            (card.inputs.iter().collect(), card.outputs.iter().collect());
        let bytes = &packed.files[&card.file];
        let mut tract = LoneGraph::load(&card.file, bytes, &inputs, &outputs).unwrap();
        let (mut furthest, mut runs) = (0f32, 0);
        for probe in probes {
            let off = package::replay(card, probe, |named| {
                let values: Vec<&[f32]> = named.iter().map(|(_, array)| array.values()).collect();
                let mut found: Vec<Vec<f32>> =
                    outputs.iter().map(|spec| vec![0.0; spec.len()]).collect();
                let mut places: Vec<&mut [f32]> = found.iter_mut().map(Vec::as_mut_slice).collect();
                tract.run(&values, &mut places)?;
                Ok(found)
            });
            furthest = furthest.max(off.unwrap());
            runs += 1;
        }
        assert!(runs > 0, "{} has no probe", card.file);
        say(&format!(
            "{}: {runs} probes, tract is off by {furthest:.1e}",
            card.file
        ));
    }
    let Some(python) = oracle_python() else {
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systems_oracle.py");
    let done = std::process::Command::new(python)
        .arg(script)
        .arg(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(said.lines().count(), packed.manifest.graphs.len(), "{said}");
    for line in said.lines() {
        let off: f32 = line.split(' ').next_back().unwrap().parse().unwrap();
        assert!(off <= TOLERANCE, "{line}");
        say(&format!("ONNX Runtime: {line}"));
    }
}

/// The protocol of `metric` on one of the small tables: 3 neighbours, 10 folds, 5 repeats.
fn scores_on(table: &str) -> Option<Vec<Score>> {
    let run = MetricRun {
        data: LabelledConfig {
            root: shared_data("data/classic")?,
            ..LabelledConfig::table(table)
        },
        ..MetricRun::default()
    };
    let samples = run.data.open_train().unwrap();
    let x = matrix(&samples);
    let scores = Learner::all().into_iter().map(|learner| {
        let score = cross_validate(&run, &learner, &x, samples.labels(), None, &|| ()).unwrap();
        say(&format!(
            "{table} {}: median {:.2} % of {:?}, smallest eigenvalue {:.1e}",
            score.learner,
            100.0 * score.median(),
            score.accuracies,
            score.smallest_eigenvalue
        ));
        assert!(score.smallest_eigenvalue >= -EIGENVALUE_TOLERANCE);
        score
    });
    Some(scores.collect())
}

fn best(scores: &[Score]) -> f64 {
    scores.iter().map(Score::median).fold(0.0, f64::max)
}

#[test]
fn the_best_learner_classifies_wine_as_well_as_the_published_ones() {
    // LMNN of metric-learn 0.7 reaches 99.4 on one draw of the folds.
    if let Some(scores) = scores_on("small/wine.csv") {
        assert!(best(&scores) >= 0.985, "{scores:?}");
    }
}

#[test]
fn the_best_learner_classifies_iris_as_well_as_the_published_ones() {
    if let Some(scores) = scores_on("small/iris.csv") {
        assert!(best(&scores) >= 0.96, "{scores:?}");
    }
}

#[test]
fn a_saved_metric_says_the_same_in_the_trainer_on_tract_and_in_onnx_runtime() {
    let text: String = (0..60)
        .map(|i| {
            let (a, b, class) = (i % 7, i % 11, i % 3);
            format!("{},{},{},{class}\n", a + 2 * class, b, (a * b) % 5 + class)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), text).unwrap();
    let data = LabelledConfig {
        root: folder.path().into(),
        ..LabelledConfig::table("t.csv")
    };
    let samples = data.open_train().unwrap();
    let polynomial = Kernel::Polynomial {
        gamma: 0.0,
        offset: 1.0,
        degree: 3,
    };
    for kernel in [Kernel::None, Kernel::Rbf { gamma: 0.0 }, polynomial] {
        let run = MetricRun {
            kernel,
            kernel_components: 12,
            ..MetricRun::default()
        };
        let learner = Learner::Nca(Default::default());
        let x = matrix(&samples);
        let fitted =
            Fitted::fit(&run, &learner, &x, samples.labels(), None, &mut |_, _| true).unwrap();
        let model = folder.path().join("model");
        Package {
            system: System::Metric,
            config_sha256: String::new(),
            scores: Default::default(),
            graphs: vec![graph(&fitted, &samples, &[])],
            others: matrices(&fitted).unwrap(),
        }
        .write(&model)
        .unwrap();
        check_model(&model);
    }
}

/// Pictures in four classes, of one or three channels: stripes of four directions.
fn stripes(channels: usize) -> Samples {
    let shape = Shape {
        height: 8,
        width: 12,
        channels,
    };
    let count = 40;
    let mut bytes = Vec::new();
    for i in 0..count {
        for at in 0..shape.len() {
            let (pixel, channel) = (at / channels, at % channels);
            let (x, y) = (pixel % 12, pixel / 12);
            let phase = [x, y, x + y, x + 7 * y][i % 4] + i / 4 + channel;
            bytes.push(if phase % 4 < 2 {
                220
            } else {
                30 + (i % 9) as u8
            });
        }
    }
    let labels = (0..count as u32).map(|i| i % 4).collect();
    Samples::new(shape, Values::Bytes(bytes), labels, vec![]).unwrap()
}

fn written(system: System, graphs: Vec<package::PackedGraph>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Package {
        system,
        graphs,
        others: vec![],
        scores: Default::default(),
        config_sha256: String::new(),
    }
    .write(folder.path())
    .unwrap();
    folder
}

#[test]
fn a_saved_familiarity_says_the_same_in_the_trainer_on_tract_and_in_onnx_runtime() {
    let run = FamiliarityRun::parse("width_px = 64\nheight_px = 32\nlatent = 5\n").unwrap();
    // Drawn pictures, and some that are dark and even: where detail is next to nothing, rounding tells most.
    let length = run.shape().len();
    let value = |i: usize| match (i / length, i % length) {
        (frame, at) if frame % 4 == 3 => 12 + (at / 3 % 64 / (8 + frame)) as u8,
        (frame, at) => ((at / 3 % (9 + frame) * 25) % 256) as u8,
    };
    let bytes = (0..40 * length).map(value).collect();
    let samples = Samples::new(run.shape(), Values::Bytes(bytes), vec![0; 40], vec![]).unwrap();
    let net = AutoencoderNet::new(&run.autoencoder(), run.shape(), &Device::Cpu).unwrap();
    let (codes, errors) = look(&net, &samples).unwrap();
    let statistics = Statistics::fit(&codes, &errors, samples.labels(), run.alarm.reach);
    let graph = packed(&net, &statistics, &samples, &[]).unwrap();
    check_model(written(System::Familiarity, vec![graph]).path());
}

#[test]
fn a_saved_siamese_network_says_the_same_in_the_trainer_on_tract_and_in_onnx_runtime() {
    for (channels, loss) in [
        (1, EmbeddingLoss::all()[1].clone()),
        (3, EmbeddingLoss::all()[3].clone()),
    ] {
        let text = "held_out = [1, 2]\n[network]\nchannels = [6, 8]\nwidths = [10]\n[embedding]\nlength = 5\n";
        let run = SiameseRun {
            loss,
            ..SiameseRun::parse(text).unwrap()
        };
        let samples = stripes(channels);
        let held_out = Arc::new(HeldOut::new(&samples, &run.held_out, &[], 10).unwrap());
        let mut task = SiameseTask::new(&run, held_out, &Device::Cpu).unwrap();
        // A few batches: running statistics that are not those of the beginning.
        let classes = samples.by_class();
        let changes = Changes {
            warp: run.warp.clone(),
            turns: Vec::new(),
            signs: Default::default(),
        };
        let batches = Batches::new(Arc::new(samples.clone()), classes, (16, 4), changes, 1, 0);
        for batch in batches.take(5) {
            task.loss(&batch.unwrap(), 0).unwrap();
        }
        let weights = task.params().snapshot().unwrap();
        task.validate(&weights).unwrap();
        let measure = run.loss.measure();
        let graphs = siamese::export::graphs(task.averaged(), measure, &samples, &[]).unwrap();
        check_model(written(System::Siamese, graphs).path());
    }
}

#[test]
fn a_saved_autoencoder_says_the_same_in_the_trainer_on_tract_and_in_onnx_runtime() {
    for (kind, channels) in Kind::all().into_iter().zip([1, 3, 1, 3, 1, 3]) {
        let text = "latent = 3\n[network]\nchannels = [6, 8]\nwidths = [10]\n";
        let run = AutoencoderRun {
            kind,
            ..AutoencoderRun::parse(text).unwrap()
        };
        let samples = stripes(channels);
        let held_out = Arc::new(samples.clone());
        let task = AutoencoderTask::new(&run, held_out, 10, &Device::Cpu).unwrap();
        let graphs =
            roadhound_trainer::autoencoder::export::graphs(task.averaged(), &samples, &[]).unwrap();
        check_model(written(System::Autoencoder, graphs).path());
    }
}

#[test]
fn a_saved_gan_says_the_same_in_the_trainer_on_tract_and_in_onnx_runtime() {
    let dense = "[ring]\n[code]\ncategories = 0\ncontinuous = 0\nnoise = 3\n[generator]\nchannels = []\n[discriminator]\nchannels = []\n[stabilisers]\nbatch_norm = \"none\"\n";
    let convolved = |more: &str| {
        format!(
            "[code]\ncategories = 3\ncontinuous = 2\nnoise = 4\n[mutual]\ncategorical = 1.0\n[generator]\nchannels = [6, 8]\nwidths = [10]\n[discriminator]\nchannels = [6, 8]\nwidths = [10]\n[stabilisers]\n{more}"
        )
    };
    for (text, channels) in [
        (dense.to_owned(), 1),
        (convolved("batch_norm = \"separate\"\n"), 1),
        (
            convolved("batch_norm = \"none\"\nspectral_norm = true\n"),
            3,
        ),
        // Categories that are groups of clusters.
        (
            convolved(
                "batch_norm = \"none\"\n[mutual.invariance]\nweight = 1.0\npairs = 12\nclusters = 7\nneighbours = 0\n[mutual.invariance.network]\nchannels = [4, 6]\nwidths = []\n",
            ),
            3,
        ),
    ] {
        let run = GanRun::parse(&text).unwrap();
        let samples = match &run.ring {
            Some(ring) => ring.points(40, 0, 0).unwrap(),
            None => stripes(channels),
        };
        // A few turns: running statistics, and vectors of the spectral norm, that are not those of the beginning.
        let ring = roadhound_trainer::gan::coverage::RingConfig::default();
        let judge = Judge::of_ring(&ring, &ring.points(10, 0, 0).unwrap());
        let held_out = Arc::new(samples.clone());
        let task = GanTask::new(&run, held_out, judge, 10, &Device::Cpu).unwrap();
        for step in 0..5 {
            let batch = GanBatch {
                rows: samples.rows(0..16),
                count: 16,
                views: samples.rows((0..12).chain(0..12)),
                pairs: 12,
            };
            for player in [0, 2].into_iter().take(task.players().len() - 1) {
                task.turn(player, &batch, step).unwrap();
            }
        }
        let net = GanNet::new(&run, samples.shape(), &Device::Cpu).unwrap();
        net.params()
            .restore(&task.params().snapshot().unwrap())
            .unwrap();
        let graphs = roadhound_trainer::gan::export::graphs(&net, &samples, 1, &[]).unwrap();
        check_model(written(System::Gan, graphs).path());
    }
}

#[test]
fn a_saved_code_in_two_parts_says_the_same_in_the_trainer_on_tract_and_in_onnx_runtime() {
    for (method, channels) in [("jha", 1), ("mathieu", 3)] {
        let text = format!(
            "class_code = 3\nrest_code = 2\n[network]\nchannels = [6, 8]\nwidths = [10]\n[method]\nkind = \"{method}\"\n"
        );
        let run = DisentangleRun::parse(&text).unwrap();
        let samples = stripes(channels);
        let net = DisentangleNet::new(&run, samples.shape(), &Device::Cpu).unwrap();
        let graphs = roadhound_trainer::disentangle::export::graphs(&net, &samples, &[]).unwrap();
        check_model(written(System::Disentangle, graphs).path());
    }
}

#[test]
fn a_saved_classifier_of_two_domains_says_the_same_in_the_trainer_on_tract_and_in_onnx_runtime() {
    let own = "features = 9\nclass_widths = [7]\n[network]\nchannels = [6, 8]\nwidths = [10]\n[domain]\nwidths = [5]\n";
    // Features that are the maps of the last convolution.
    let maps = "class_widths = [7]\n[network]\nchannels = [6, 8]\nkernel = 5\nwidths = []\n[domain]\nwidths = [5]\n";
    for (channels, text) in [(1, own), (3, maps)] {
        let run = DannRun::parse(text).unwrap().of(2, Method::Adversarial);
        let samples = stripes(channels);
        let domain = || DomainSamples {
            train: samples.clone(),
            test: samples.clone(),
        };
        let pair = Arc::new(Pair {
            source: domain(),
            target: domain(),
        });
        let mut task = DannTask::new(&run, pair.clone(), 10, &Device::Cpu).unwrap();
        let batches = DannBatches {
            pair,
            warp: run.warp.clone(),
            inverted: run.inverted,
            seed: 1,
        };
        // A few batches: running statistics that are not those of the beginning.
        for step in 0..5 {
            task.loss(&batches.at(step, 16), step).unwrap();
        }
        let weights = task.params().snapshot().unwrap();
        task.validate(&weights).unwrap();
        let graphs = dann::export::graphs(task.averaged(), &samples, "either domain", &[]).unwrap();
        check_model(written(System::Dann, graphs).path());
    }
}
