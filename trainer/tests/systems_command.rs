//! `siamese`, `autoencoder`, `gan`, `disentangle` and `dann` as programs: what they leave behind, that they repeat and go on, and how
//! they refuse.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

use roadhound_trainer::export::package;

fn program(folder: &Path, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadhound-train"))
        .args(words.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn succeeds(folder: &Path, words: &str) {
    let output = program(folder, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {said}");
}

/// Pictures of 8 x 8 in five classes: a bright square in one of five places, in noise; as idx files.
fn write_pictures(folder: &Path, name: &str, count: usize) {
    let mut images = vec![0, 0, 8, 3];
    for size in [count as u32, 8, 8] {
        images.extend(size.to_be_bytes());
    }
    let mut labels = vec![0, 0, 8, 1];
    labels.extend((count as u32).to_be_bytes());
    let mut noise = 12345u32;
    for i in 0..count {
        let class = i % 5;
        let (left, top) = ([0, 5, 0, 5, 3][class], [0, 0, 5, 5, 3][class]);
        for at in 0..64 {
            noise = noise.wrapping_mul(1664525).wrapping_add(1013904223);
            let inside = (left..left + 3).contains(&(at % 8)) && (top..top + 3).contains(&(at / 8));
            images.push((noise >> 26) as u8 + if inside { 180 } else { 0 });
        }
        labels.push(class as u8);
    }
    std::fs::write(folder.join(format!("{name}-images")), images).unwrap();
    std::fs::write(folder.join(format!("{name}-labels")), labels).unwrap();
}

fn config(head: &str, tail: &str) -> String {
    let part = |name: &str| {
        format!("kind = \"idx\"\nimages = \"{name}-images\"\nlabels = \"{name}-labels\"\n")
    };
    format!(
        "{head}[data]\nroot = \".\"\n[data.train]\n{}[data.test]\n{}{tail}",
        part("train"),
        part("test")
    )
}

fn prepare() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path(), "train", 300);
    write_pictures(folder.path(), "test", 100);
    folder
}

const SIAMESE: &str = "[network]\nchannels = [8]\nwidths = []\n[embedding]\nlength = 8\n[warp]\nshift_px = 0.0\nturn_degrees = 0.0\nscale = 0.0\nshear = 0.0\n[train]\nepochs = 6\nbatch = 24\nvalidations = 2\n";

#[test]
fn siamese_leaves_a_report_and_a_model_that_tells_classes_apart_that_it_never_saw() {
    let folder = prepare();
    let text = config(
        "held_out = [1, 4]\nsamples_per_class = 4\nturns = []\n",
        SIAMESE,
    );
    std::fs::write(folder.path().join("c.toml"), text).unwrap();
    succeeds(folder.path(), "siamese --config c.toml --out a --quiet");
    let run = folder.path().join("a");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in [
        "Siamese network: a",
        "ROC",
        "Map of the classes never shown",
        "Hardest pairs",
        "equal error rate",
        "finished",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let packed = package::read(&run.join("model")).unwrap();
    let scores = &packed.manifest.scores;
    assert!(scores["eer"] < 0.1 && scores["auc"] > 0.95, "{scores:?}");
    assert!(
        scores["threshold"] > 0.0 && scores["map_at_r"] > 0.8,
        "{scores:?}"
    );
    // The same seed gives the same bytes; a finished run that is started again changes nothing; another seed does.
    succeeds(
        folder.path(),
        "siamese --config c.toml --out b --quiet --threads 2",
    );
    succeeds(folder.path(), "siamese --config c.toml --out a --quiet");
    succeeds(
        folder.path(),
        "siamese --config c.toml --out c --quiet --seed 5",
    );
    let graph =
        |run: &str| std::fs::read(folder.path().join(run).join("model/embedding.onnx")).unwrap();
    assert_eq!(graph("a"), packed.files["embedding.onnx"]);
    assert_eq!(graph("a"), graph("b"));
    assert_ne!(graph("a"), graph("c"));
}

#[test]
fn autoencoder_leaves_a_report_and_a_model_for_every_kind_that_it_can_learn() {
    let folder = prepare();
    for (kind, more) in [
        ("plain", ""),
        ("vae", "covariance = \"full\"\n"),
        ("robust_vae", "mixing = \"convex\"\n"),
    ] {
        let tail = format!(
            "[network]\nchannels = [4]\nwidths = [16]\n[kind]\nkind = \"{kind}\"\n{more}[train]\nepochs = 3\nfull_epochs = 4\nbatch = 20\nvalidations = 2\n[likelihood]\nsamples = 10\ndraws = 10\n"
        );
        let head = "latent = 2\nbinarise = \"threshold\"\n";
        std::fs::write(folder.path().join("c.toml"), config(head, &tail)).unwrap();
        succeeds(
            folder.path(),
            &format!("autoencoder --config c.toml --out {kind} --quiet --full"),
        );
        let run = folder.path().join(kind);
        let html = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(html.contains("what comes back") && html.contains("Map of the codes"));
        let is_vae = kind != "plain";
        assert_eq!(html.contains("drawn from the prior"), is_vae, "{kind}");
        let packed = package::read(&run.join("model")).unwrap();
        let scores = &packed.manifest.scores;
        assert_eq!(
            scores.contains_key("estimated_log_loss"),
            is_vae,
            "{scores:?}"
        );
        assert_eq!(scores.contains_key("squared_error"), !is_vae, "{scores:?}");
        // What the weighted sum costs bounds nothing, and does not go by the bound's name.
        let bound = (
            scores.contains_key("negative_elbo"),
            scores.contains_key("weighted_sum_cost"),
        );
        assert_eq!(bound, (kind == "vae", kind == "robust_vae"), "{scores:?}");
        assert_eq!(packed.manifest.graphs.len(), 2);
        let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
        assert!(config.contains("\nepochs = 4.0"), "{config}");
    }
}

const RING: &str = "[ring]\nmodes = 4\nradius = 1.0\ndeviation = 0.2\nsamples = 2000\n[code]\ncategories = 0\ncontinuous = 0\nnoise = 4\n[generator]\nchannels = []\nwidths = [16]\n[discriminator]\nchannels = []\nwidths = [16]\n[stabilisers]\nbatch_norm = \"none\"\nr1 = 0.1\nr1_by = \"gradient\"\n[evaluate]\nsamples = 500\n[train]\nepochs = 2\nbatch = 50\nvalidations = 2\n";

#[test]
fn gan_leaves_a_report_and_a_model_and_repeats_to_the_bit() {
    let folder = prepare();
    std::fs::write(folder.path().join("ring.toml"), RING).unwrap();
    succeeds(folder.path(), "gan --config ring.toml --out a --quiet");
    let run = folder.path().join("a");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in [
        "Adversarial network: a",
        "modes made",
        "Share of the made points by mode",
        "Points",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let packed = package::read(&run.join("model")).unwrap();
    let scores = &packed.manifest.scores;
    assert!(
        scores["modes"] <= 4.0 && scores["frechet"] < 2.0,
        "{scores:?}"
    );
    succeeds(
        folder.path(),
        "gan --config ring.toml --out b --quiet --threads 2",
    );
    succeeds(
        folder.path(),
        "gan --config ring.toml --out c --quiet --seed 3",
    );
    let graph =
        |run: &str| std::fs::read(folder.path().join(run).join("model/generator.onnx")).unwrap();
    assert_eq!(graph("a"), graph("b"));
    assert_ne!(graph("a"), graph("c"));
}

#[test]
fn an_infogan_of_pictures_shows_its_codes_and_says_how_well_they_are_read() {
    let folder = prepare();
    let tail = "[code]\ncategories = 5\ncontinuous = 1\nnoise = 4\n[mutual]\ncategorical = 1.0\ncontinuous = 0.1\n[mutual.invariance]\nweight = 1.0\npairs = 20\nclusters = 8\n[generator]\nchannels = [8]\nwidths = [16]\n[discriminator]\nchannels = [8]\nwidths = [16]\n[evaluate]\nsamples = 200\n[evaluate.judge.network]\nchannels = [4]\nwidths = [8]\n[train]\nepochs = 2\nbatch = 30\nvalidations = 1\n";
    std::fs::write(folder.path().join("c.toml"), config("", tail)).unwrap();
    succeeds(folder.path(), "gan --config c.toml --out a --quiet");
    let run = folder.path().join("a");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in [
        "Made samples",
        "One category a row",
        "A continuous value from -1 to 1",
        "accuracy of the judge",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let scores = package::read(&run.join("model")).unwrap().manifest.scores;
    for name in [
        "frechet",
        "modes",
        "code_error",
        "made_error",
        "code_nats",
        "shared_nats",
    ] {
        assert!(scores[name].is_finite(), "{scores:?}");
    }
}

#[test]
fn disentangle_leaves_a_probe_table_a_swap_grid_and_a_model_for_both_methods() {
    let folder = prepare();
    for (kind, data) in [
        (
            "jha",
            "[factors]\nside_px = 12\nsizes = 2\nturns = 2\nplaces = 4\n",
        ),
        ("mathieu", ""),
    ] {
        let tail = format!(
            "{data}[network]\nchannels = [8]\nwidths = [16]\n[method]\nkind = \"{kind}\"\n[probe.classifier]\nepochs = 4.0\n[probe.classifier.network]\nwidths = [16]\n[train]\nepochs = 2\nbatch = 20\nvalidations = 1\n"
        );
        let head = "class_code = 3\nrest_code = 2\n";
        std::fs::write(folder.path().join("c.toml"), config(head, &tail)).unwrap();
        succeeds(
            folder.path(),
            &format!("disentangle --config c.toml --out {kind} --quiet"),
        );
        let run = folder.path().join(kind);
        let html = std::fs::read_to_string(run.join("report.html")).unwrap();
        for part in [
            "What a probe finds of the class in the code",
            "Each sample&#39;s class in each sample&#39;s manner",
            "Map of s",
        ] {
            assert!(
                html.contains(part) || html.contains(&part.replace("&#39;", "'")),
                "{part}"
            );
        }
        // Figures that were published for MNIST say nothing of these samples.
        assert!(!html.contains("66.83"));
        assert_eq!(
            html.contains("Which values of the code know a factor"),
            kind == "jha"
        );
        let packed = package::read(&run.join("model")).unwrap();
        let scores = &packed.manifest.scores;
        for name in ["z_accuracy", "z_mean_accuracy", "s_accuracy"] {
            assert!((0.0..=1.0).contains(&scores[name]), "{scores:?}");
        }
        assert_eq!(scores.contains_key("mig"), kind == "jha", "{scores:?}");
        assert!(run.join("swaps.png").exists() && packed.manifest.graphs.len() == 2);
    }
}

#[test]
fn what_cannot_be_used_is_one_line_and_leaves_nothing() {
    let folder = prepare();
    let write = |name: &str, head: &str, tail: &str| {
        std::fs::write(folder.path().join(name), config(head, tail)).unwrap();
    };
    write("one.toml", "held_out = [2]\n", "");
    std::fs::write(
        folder.path().join("rows.csv"),
        "1,2,a\n3,4,b\n5,6,c\n".repeat(4),
    )
    .unwrap();
    let rows = "kind = \"csv\"\npath = \"rows.csv\"\n";
    std::fs::write(
        folder.path().join("turned.toml"),
        format!("held_out = [0, 1]\n[data]\nroot = \".\"\n[data.train]\n{rows}[data.test]\n{rows}"),
    )
    .unwrap();
    write("twice.toml", "held_out = [0, 1]\nturns = [1, 1]\n", "");
    write("all.toml", "held_out = [0, 1, 2, 3, 4]\n", "");
    write("key.toml", "held_ou = [2]\n", "");
    write(
        "odd.toml",
        "latent = 2\n",
        "[network]\nchannels = [4, 4, 4, 4]\n",
    );
    write(
        "joint.toml",
        "latent = 9\n",
        "[kind]\nkind = \"robust_vae\"\n[kind.prior]\njoint = true\n",
    );
    write(
        "steep.toml",
        "",
        "[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\nr1_by = \"gradient\"\n",
    );
    write("rest.toml", "", "[generator]\nchannels = [4, 4, 4, 4]\n");
    let no_test = config("", "").replace("[data.test]\n", "[other]\n");
    std::fs::write(folder.path().join("other.toml"), no_test).unwrap();
    for (words, part) in [
        (
            "siamese --config one.toml",
            "one.toml: held_out has one class",
        ),
        (
            "siamese --config all.toml",
            "all.toml: held_out has every class",
        ),
        (
            "siamese --config key.toml",
            "key.toml: line 1: unknown field `held_ou`",
        ),
        ("siamese --config other.toml", "unknown field `other`"),
        (
            "siamese --config turned.toml",
            "turned.toml: turns is [1], which only square pictures can be turned by: samples are 1x1",
        ),
        (
            "siamese --config twice.toml",
            "twice.toml: turns is [1, 1], expected some of 1, 2 and 3, each once",
        ),
        (
            "autoencoder --config odd.toml",
            "pictures of 8 x 8 are not halved 4 times",
        ),
        (
            "autoencoder --config joint.toml",
            "latent is 9, expected at most 4",
        ),
        (
            "gan --config steep.toml",
            "steep.toml: stabilisers.r1_by is gradient",
        ),
        (
            "gan --config key.toml",
            "key.toml: line 1: unknown field `held_ou`",
        ),
        ("gan --config rest.toml", "not halved 4 times"),
        ("autoencoder --config none.toml", "none.toml: "),
    ] {
        let output = program(folder.path(), &format!("{words} --out o --quiet"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(part) && said.trim_end().lines().count() == 1,
            "{said}"
        );
        assert!(!folder.path().join("o").exists(), "{words}");
    }
}

/// The pictures of [`write_pictures`], dark for bright: another domain.
fn write_negatives(folder: &Path, from: &str, to: &str) {
    let mut images = std::fs::read(folder.join(format!("{from}-images"))).unwrap();
    images[16..].iter_mut().for_each(|v| *v = 255 - *v);
    std::fs::write(folder.join(format!("{to}-images")), images).unwrap();
    let labels = format!("{from}-labels");
    std::fs::copy(folder.join(labels), folder.join(format!("{to}-labels"))).unwrap();
}

fn dann_config(head: &str) -> String {
    let part = |key: &str, name: &str| {
        format!(
            "[data.{key}]\nkind = \"idx\"\nimages = \"{name}-images\"\nlabels = \"{name}-labels\"\n"
        )
    };
    format!(
        "{head}features = 16\n[data]\nroot = \".\"\nside_px = 8\nchannels = 1\n[data.source]\nskip_train = 20\n{}{}[data.target]\n{}{}[network]\nchannels = [8]\n[domain]\nwidths = [16]\n[select]\nsamples = 60\n[bound]\nsamples = 90\nrepeats = 1\n[bound.probe]\nwidths = [16]\nsteps = 40\n[train]\nepochs = 4\nbatch = 40\nvalidations = 3\n",
        part("source.train", "train"),
        part("source.test", "test"),
        part("target.train", "dark-train"),
        part("target.test", "dark-test"),
    )
}

fn prepare_domains() -> tempfile::TempDir {
    let folder = prepare();
    write_negatives(folder.path(), "train", "dark-train");
    write_negatives(folder.path(), "test", "dark-test");
    folder
}

#[test]
fn dann_prints_the_bound_of_every_seed_and_goes_on_where_seeds_were_trained_apart() {
    let folder = prepare_domains();
    std::fs::write(
        folder.path().join("c.toml"),
        dann_config("seeds = [4, 7]\n"),
    )
    .unwrap();
    succeeds(folder.path(), "dann --config c.toml --out a --quiet");
    let run = folder.path().join("a");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in [
        "Domain-adversarial training: a",
        "The bound before and after",
        "lambda, %",
        "Does the label-free criterion know?",
        "proxy-A distance, head, median",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let table = std::fs::read_to_string(run.join("runs.csv")).unwrap();
    assert_eq!(table.lines().count(), 5, "{table}");
    let one = std::fs::read_to_string(run.join("seed-7/adversarial/report.html")).unwrap();
    assert!(one.contains("Features by domain") && one.contains("The two domains"));
    let packed = package::read(&run.join("model")).unwrap();
    let scores = &packed.manifest.scores;
    assert!(scores.contains_key("adversarial_bound") && scores.contains_key("source_only_lambda"));
    assert!(scores["source_only_source_error"] < 0.2, "{scores:?}");
    // Seeds apart, in any order and with other threads, are the seeds together.
    for words in ["--seeds 7", "--seed 4 --threads 2", ""] {
        let words = format!("dann --config c.toml --out b --quiet {words}");
        succeeds(folder.path(), &words);
    }
    let apart = std::fs::read_to_string(folder.path().join("b/runs.csv")).unwrap();
    assert_eq!(apart, table);
    let graph =
        |run: &str| std::fs::read(folder.path().join(run).join("model/classifier.onnx")).unwrap();
    assert_eq!(graph("a"), graph("b"));
}

#[test]
fn labels_of_the_target_change_its_score_and_nothing_else_of_a_dann_run() {
    let folder = prepare_domains();
    std::fs::write(folder.path().join("c.toml"), dann_config("seeds = [1]\n")).unwrap();
    succeeds(folder.path(), "dann --config c.toml --out a --quiet");
    for name in ["dark-train-labels", "dark-test-labels"] {
        let path = folder.path().join(name);
        let mut labels = std::fs::read(&path).unwrap();
        labels[8..].iter_mut().for_each(|l| *l = (*l + 1) % 5);
        std::fs::write(&path, labels).unwrap();
    }
    succeeds(folder.path(), "dann --config c.toml --out b --quiet");
    let file = |name: &str| {
        ["a", "b"].map(|run| std::fs::read(folder.path().join(run).join(name)).unwrap())
    };
    let weights = "seed-1/adversarial/best.safetensors";
    let graph = "model/classifier.onnx";
    for name in [weights, graph, "seed-1/source_only/last.safetensors"] {
        let [a, b] = file(name);
        assert!(a == b, "{name}");
    }
    let [a, b] = file("runs.csv");
    assert_ne!(a, b);
}

#[test]
fn domains_that_do_not_fit_together_are_one_line_and_status_2() {
    let folder = prepare_domains();
    let write = |name: &str, from: &str, to: &str| {
        let text = dann_config("").replacen(from, to, 1);
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("skip.toml", "skip_train = 20", "skip_train = 300");
    write("odd.toml", "batch = 40", "batch = 41");
    write("key.toml", "[domain]\n", "[domain]\nlambda = 1\n");
    write("deep.toml", "channels = [8]", "channels = [0]");
    std::fs::write(
        folder.path().join("few-labels"),
        [0, 0, 8, 1, 0, 0, 0, 1, 3],
    )
    .unwrap();
    write("few.toml", "dark-test-labels", "few-labels");
    for (words, part) in [
        (
            "--config skip.toml",
            "skip_train is 300, there are 300 samples",
        ),
        ("--config odd.toml", "odd.toml: train.batch is 41"),
        ("--config key.toml", "unknown field `lambda`"),
        ("--config deep.toml", "network.channels is 0"),
        ("--config few.toml", "few-labels"),
        ("--config skip.toml --seed 1 --seeds 2", "--seed"),
        ("--config skip.toml --seeds 1,1", "seeds has 2 entries"),
    ] {
        let output = program(folder.path(), &format!("dann {words} --out o --quiet"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(part) && said.trim_end().lines().count() == 1,
            "{said}"
        );
        assert!(!folder.path().join("o").exists(), "{words}");
    }
}
