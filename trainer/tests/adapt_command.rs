//! `adapt` as a program: what it leaves, what comes back where the adaptation is bad, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use roadhound_trainer::adapt::config::{AdaptRun, Part};
use roadhound_trainer::adapt::deliver::Calibration;
use roadhound_trainer::adapt::setting::{Setting, Sources};
use roadhound_trainer::config::SystemConfig;

/// Red things that drive through two videos; labels for the source, none for the target, which is darker and blue.
fn write_world(root: &Path) {
    let mut table = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    for (number, video) in ["one", "two", "three", "later"].into_iter().enumerate() {
        let source = root.join("drives/images").join(video);
        let target = root.join("target").join(video);
        for folder in [&source, &target] {
            std::fs::create_dir_all(folder).unwrap();
        }
        for i in 0..6_u32 {
            let left = 30 + 5 * i + 7 * number as u32;
            let thing = |x: u32, y: u32| (left..left + 44).contains(&x) && (40..72).contains(&y);
            let ground = |x: u32, y: u32| [90, (x / 2) as u8 + 60, (y / 7 * 16 % 80) as u8];
            let day = image::RgbImage::from_fn(160, 112, |x, y| match thing(x, y) {
                true if (x - left) % 16 < 8 => image::Rgb([220, 30, 30]),
                true => image::Rgb([240, 200, 60]),
                false => image::Rgb(ground(x, y)),
            });
            let dusk = image::RgbImage::from_fn(160, 112, |x, y| {
                let [r, g, b] = day.get_pixel(x, y).0;
                image::Rgb([r / 3, g / 2, b / 2 + 60])
            });
            day.save(source.join(format!("{i}.png"))).unwrap();
            dusk.save(target.join(format!("{i}.png"))).unwrap();
            table += &format!("{video},{i},1,car,{left},40,44,32,0\n");
        }
    }
    std::fs::write(root.join("drives/boxes.csv"), table).unwrap();
    let data = r#"
        [[data.packs]]
        name = "drives"
        kind = "video"
        weight = 1.0
        held_out = ["later"]
    "#;
    let backbone = r#"
        stage_channels = [4, 8, 8, 16]
        plain_convs = [0, 0, 0, 0]
        residual_pairs = [0, 0, 0, 0]
        feature_channels = 16
        head_channels = 16
        embedding = 8
        template_px = 64
        search_px = 128
    "#;
    let tracker = format!(
        "[model]\n{backbone}\n[train]\nbatch = 8\n[optim]\nlearning_rate = 0.01\n[validation]\nbatches = 1\n[sampler]\ntemplate_crop_px = 64\nsearch_crop_px = 128\nsearch_shift_px = 16\nwide_shift_px = 24\n{data}"
    );
    std::fs::write(root.join("tracker.toml"), tracker).unwrap();
    let propose = format!(
        "[model]\nhead_channels = 8\nembedding = 4\n[model.backbone]\n{backbone}\n[scenes]\ninput_width_px = 96\ninput_height_px = 64\n[train]\nbatch = 4\n[optim]\nlearning_rate = 0.01\n[validation]\nframes = 3\nbatches = 1\n{data}\n[[labels]]\npack = \"drives\"\ncomplete = [\"car\"]\n"
    );
    std::fs::write(root.join("propose.toml"), propose).unwrap();
    // What a network of some hundred pairs believes is worth little: the bars are as low as they can be.
    let adapt = format!(
        "[train]\nbatch = 4\nvalidate_every = 2\ncheckpoint_every = 2\n[clips]\nframes = 6\nheld_out_every = 2\n[pseudo]\nmin_score = 0.0\nmin_presence = 0.0\nmin_similarity = -1.0\nframe_iou = 0.0\ntrack_iou = 0.0\nmin_frames = 2\n[select]\nseeds = 2\nregions = 16\nsource_batches = 2\nnorm_batches = 1\nmost_source_loss = 1.0\n[sampler]\nsearch_shift_px = 16\nwide_shift_px = 24\n[style]\nside_px = 16\ncrops = 16\n[style.network]\nchannels = [8]\nwidths = [16]\n[style.train]\nepochs = 2.0\nbatch = 4\n{data}"
    );
    std::fs::write(root.join("adapt.toml"), &adapt).unwrap();
    // Rates that leave nothing of a network, and a source that may not be lost.
    let ruinous = adapt.replace("most_source_loss = 1.0", "most_source_loss = 0.0");
    let ruinous = format!("[optim]\nlearning_rate = 0.9\nclip_norm = 1e6\n{ruinous}");
    std::fs::write(root.join("ruinous.toml"), ruinous).unwrap();
}

fn train(root: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadhound-train"))
        .args(line.split_whitespace())
        .current_dir(root)
        .output()
        .unwrap()
}

fn done(root: &Path, line: &str) -> String {
    let output = train(root, line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A bundle that has learned a little of the source.
fn write_bundle(root: &Path) {
    write_world(root);
    done(
        root,
        "tracker --config tracker.toml --data . --out tracker --pairs 400 --quiet",
    );
    done(
        root,
        "export --checkpoint tracker/last.safetensors --out plain --uncalibrated",
    );
    done(
        root,
        "propose --config propose.toml --data . --backbone plain --out propose --scenes 240 --quiet",
    );
    done(
        root,
        "export --checkpoint propose/last.safetensors --bundle plain --out source",
    );
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Every file below a folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let bytes = std::fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
    }
    found
}

/// An adaptation whose int8 graphs cannot be made.
fn a_bundle_that_cannot_be_made_leaves_the_one_before(root: &Path) {
    let out = root.join("again");
    std::fs::create_dir_all(out.join("bundle")).unwrap();
    for (name, bytes) in files(&root.join("still/bundle")) {
        std::fs::write(out.join("bundle").join(name), bytes).unwrap();
    }
    let before = tree(&out.join("bundle"));
    let mut run = AdaptRun::load(&root.join("still.toml")).unwrap();
    run.data.root = root.to_owned();
    run.train.pairs = 16;
    let sources = Sources {
        bundle: root.join("source"),
        target: vec![root.join("target")],
        out: out.clone(),
        checkpoint: None,
        proposals: None,
        score: Vec::new(),
        oracle: None,
    };
    let setting = Setting::open(sources, run, || ()).unwrap();
    let never = Box::leak(Box::new(AtomicBool::new(false)));
    let adapted = setting.adapted(&[Part::Adabn].into(), &out, never, true);
    let adapted = adapted.unwrap().unwrap();
    let fails = |folder: &Path, _: Calibration| -> anyhow::Result<()> {
        assert!(folder.join("bundle.toml").is_file());
        anyhow::bail!("no space left")
    };
    let said = setting.deliver(adapted, &out.join("bundle"), Some(fails));
    assert_eq!(said.unwrap_err().to_string(), "no space left");
    assert_eq!(tree(&out.join("bundle")), before);
    assert!(!out.join("bundle.partial").exists());
}

/// A few labelled tracks, an oracle, and scored clips: what they leave, and that they choose nothing.
fn labels_of_the_target_are_learned_from_and_score(root: &Path, common: &str) {
    // The target with its labels, and as evaluation clips: COCO's 2 is a car.
    let table = std::fs::read_to_string(root.join("drives/boxes.csv")).unwrap();
    for video in ["one", "two", "three", "later"] {
        let images = root.join("dusk/images").join(video);
        let clip = root.join("clips").join(video);
        std::fs::create_dir_all(&images).unwrap();
        std::fs::create_dir_all(clip.join("img")).unwrap();
        let mut truth = String::new();
        for (number, line) in table
            .lines()
            .filter(|l| l.split(',').next() == Some(video))
            .enumerate()
        {
            let frame = format!("{number}.png");
            let from = root.join("target").join(video).join(&frame);
            std::fs::copy(&from, images.join(&frame)).unwrap();
            std::fs::copy(&from, clip.join("img").join(&frame)).unwrap();
            let left = line.split(',').nth(4).unwrap();
            truth += &format!("{},1,{left},40,44,32,1,2,1\n", number + 1);
        }
        std::fs::write(clip.join("gt.txt"), truth).unwrap();
        std::fs::write(
            clip.join("sot_spans.csv"),
            "id,first_frame,last_frame\n1,1,6\n",
        )
        .unwrap();
    }
    std::fs::write(root.join("dusk/boxes.csv"), table).unwrap();
    let config = std::fs::read_to_string(root.join("adapt.toml")).unwrap();
    // So that some of the few videos are held out by their names.
    let config = format!("{config}\n[data]\nheld_out_share = 0.5\n");
    std::fs::write(root.join("labels.toml"), config).unwrap();
    let said = done(
        root,
        &format!(
            "adapt {common} --config labels.toml --out labels --no-int8 --parts fourier --labelled dusk --tracks 2 --oracle dusk --score clips"
        ),
    );
    let chosen = std::fs::read_to_string(root.join("labels/labelled.csv")).unwrap();
    assert_eq!(chosen.lines().count(), 3, "{chosen}");
    let csv = std::fs::read_to_string(root.join("labels/ablation.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|l| l.split(',').collect()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, ["parts", "source", "fourier+labelled", "oracle"]);
    assert_eq!(rows[0][8..], ["target_auc", "auc_clips"]);
    let number = |row: usize, column: usize| rows[row][column].parse::<f64>().unwrap();
    for row in 1..4 {
        assert!((0.0..=1.0).contains(&number(row, 8)) && (0.0..=1.0).contains(&number(row, 9)));
    }
    // Every term of the bound is printed, and is what the table says.
    let term = |name: &str| -> Vec<f64> {
        let line = said.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name:?} in {said}"));
        line[name.len()..]
            .split_whitespace()
            .filter_map(|v| v.parse().ok())
            .collect()
    };
    let lambda = 2.0 - number(3, 7) - number(3, 8);
    assert!(
        (term("lambda, of the joint oracle")[1] - lambda).abs() < 2e-4,
        "{said}"
    );
    assert!(
        (term("error on the source")[0] - (1.0 - number(1, 7))).abs() < 2e-4,
        "{said}"
    );
    assert!((term("error on the target (score only)")[1] - (1.0 - number(2, 8))).abs() < 2e-4);
    assert!(
        said.contains("clips: fourier+labelled closes") || said.contains("gains nothing"),
        "{said}"
    );
    let gains = std::fs::read_to_string(root.join("labels/gains.csv")).unwrap();
    let of: Vec<&str> = gains
        .lines()
        .skip(1)
        .map(|l| l.split(',').nth(1).unwrap())
        .collect();
    assert_eq!(
        of,
        ["all", "later", "one", "three", "two", "car"],
        "{gains}"
    );
    let losses = std::fs::read_to_string(root.join("labels/losses.csv")).unwrap();
    assert!(
        losses.lines().next().unwrap().contains(",labelled,"),
        "{losses}"
    );
    let report = std::fs::read_to_string(root.join("labels/report.html")).unwrap();
    for shown in [
        "Terms of the bound",
        "Gains on annotated clips",
        "Watch mode on",
        "Target scene",
    ] {
        assert!(report.contains(shown), "{shown}");
    }
    let scene = image::open(root.join("labels/scene_0.png")).unwrap();
    assert!(scene.width() > 600);
    // Labels that only score change nothing of what is learned.
    let blind = format!("adapt {common} --config labels.toml --no-int8 --parts fourier");
    let _ = done(root, &format!("{blind} --out blind"));
    let _ = done(
        root,
        &format!("{blind} --out judged --oracle dusk --score clips"),
    );
    let graphs = ["blind", "judged"]
        .map(|run| std::fs::read(root.join(run).join("last.safetensors")).unwrap());
    assert!(graphs[0] == graphs[1]);
}

/// Tiny data sets in the layouts of BDD100K's tracks and of IDD's detection set, and the configuration for them.
fn bdd100k_and_idd_are_read_as_they_are_published(root: &Path) {
    let bdd = root.join("sets/bdd100k");
    for (number, video) in ["one", "two", "three", "later"].into_iter().enumerate() {
        let images = bdd.join("images/track/train").join(video);
        std::fs::create_dir_all(&images).unwrap();
        let mut frames = Vec::new();
        for i in 0..6 {
            let name = format!("{video}-{:07}.jpg", i + 1);
            let day = image::open(root.join(format!("drives/images/{video}/{i}.png"))).unwrap();
            day.to_rgb8().save(images.join(&name)).unwrap();
            let left = 30 + 5 * i + 7 * number;
            frames.push(format!(
                r#"{{"name": "{name}", "videoName": "{video}", "frameIndex": {i}, "labels": [
                {{"id": "{number}", "category": "car", "attributes": {{"occluded": false, "truncated": false, "crowd": false}},
                "box2d": {{"x1": {left}, "y1": 40, "x2": {}, "y2": 71}}}}]}}"#,
                left + 43
            ));
        }
        let labels = bdd.join("labels/box_track_20/train");
        std::fs::create_dir_all(&labels).unwrap();
        std::fs::write(
            labels.join(format!("{video}.json")),
            format!("[{}]", frames.join(",")),
        )
        .unwrap();
    }
    let idd = root.join("sets/IDD_Detection");
    let drive = "frontFar/BLR-2018-03-22_17-39-26_2_frontFar";
    let (labels, images) = (
        idd.join("Annotations").join(drive),
        idd.join("JPEGImages").join(drive),
    );
    std::fs::create_dir_all(&labels).unwrap();
    std::fs::create_dir_all(&images).unwrap();
    let mut list = String::new();
    for i in 0..4 {
        let name = format!("{:06}_r", 150 * i);
        let dusk = image::open(root.join(format!("target/one/{i}.png"))).unwrap();
        dusk.to_rgb8()
            .save(images.join(format!("{name}.jpg")))
            .unwrap();
        let left = 30 + 5 * i;
        let xml = format!(
            "<annotation><filename>{name}.jpg</filename><size><width>160</width><height>112</height><depth>3</depth></size>            <object><name>autorickshaw</name><bndbox><xmin>{left}</xmin><ymin>40</ymin><xmax>{}</xmax><ymax>72</ymax></bndbox></object></annotation>",
            left + 44
        );
        std::fs::write(labels.join(format!("{name}.xml")), xml).unwrap();
        list += &format!("{drive}/{name}\n");
    }
    std::fs::write(idd.join("train.txt"), list).unwrap();

    // The configuration for users of both, with this test's sizes.
    let given = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../configs/adapt-bdd100k-idd.toml"
    );
    let mut config: toml::Table = toml::from_str(&std::fs::read_to_string(given).unwrap()).unwrap();
    let small: toml::Table =
        toml::from_str(&std::fs::read_to_string(root.join("adapt.toml")).unwrap()).unwrap();
    for (table, keys) in small {
        if table != "data" {
            let own = config
                .entry(table)
                .or_insert_with(|| toml::Table::new().into());
            own.as_table_mut()
                .unwrap()
                .extend(keys.as_table().unwrap().clone());
        }
    }
    let data = config["data"].as_table_mut().unwrap();
    data.insert("held_out_share".into(), 0.5.into());
    std::fs::write(root.join("sets.toml"), toml::to_string(&config).unwrap()).unwrap();
    let _ = done(
        root,
        "adapt --config sets.toml --bundle source --data sets --target target --labelled sets/IDD_Detection --tracks 3 --pairs 16 --threads 1 --quiet --no-int8 --out sets-run",
    );
    let chosen = std::fs::read_to_string(root.join("sets-run/labelled.csv")).unwrap();
    assert_eq!(chosen.lines().count(), 4, "{chosen}");
    assert!(
        chosen.contains("BLR-2018") && chosen.contains("auto"),
        "{chosen}"
    );
    let facts = std::fs::read_to_string(root.join("sets-run/facts.json")).unwrap();
    assert!(facts.contains("bdd100k"), "{facts}");
    assert!(root.join("sets-run/bundle/bundle.toml").is_file());
}

#[test]
fn a_bundle_is_adapted_or_given_back_and_what_cannot_be_is_said_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_bundle(root);
    let before = files(&root.join("source"));

    let common = "--bundle source --target target --data . --pairs 16 --threads 1 --quiet";
    let table = done(
        root,
        &format!(
            "adapt {common} --config adapt.toml --out out --parts region,image,teacher,prototypes,fourier,style,adabn --ablate --no-int8"
        ),
    );
    assert_eq!(
        files(&root.join("source")),
        before,
        "the source bundle was written to"
    );
    for name in [
        "config.toml",
        "facts.json",
        "report.html",
        "losses.csv",
        "validation.csv",
        "pseudo/boxes.csv",
        "style/report.html",
        "style/swaps.png",
        "restyled.png",
        "bundle/bundle.toml",
    ] {
        assert!(root.join("out").join(name).is_file(), "{name}");
    }
    let csv = std::fs::read_to_string(root.join("out/ablation.csv")).unwrap();
    let names: Vec<&str> = csv.lines().map(|l| l.split(',').next().unwrap()).collect();
    let all = "region+image+teacher+prototypes+fourier+style+adabn";
    assert_eq!(
        names,
        [
            "parts",
            "source",
            all,
            "control",
            "region",
            "image",
            "teacher",
            "prototypes",
            "fourier",
            "style",
            "adabn"
        ]
    );
    assert!(
        table.contains("adabn") && table.contains("agreement"),
        "{table}"
    );
    let losses = std::fs::read_to_string(root.join("out/losses.csv")).unwrap();
    for part in [
        "teacher",
        "prototypes",
        "region",
        "image",
        "consistency",
        "heads",
    ] {
        assert!(
            losses.lines().next().unwrap().contains(part),
            "{part}: {losses}"
        );
    }
    // The control sees nothing of the target, and is nevertheless a network that went on.
    let weights = |folder: &str| std::fs::read(root.join(folder).join("last.safetensors")).unwrap();
    assert_ne!(weights("out/parts/control"), weights("out/parts/fourier"));
    let kept = csv.lines().nth(2).unwrap().split(',').nth(1).unwrap();
    let bundle = files(&root.join("out/bundle"));
    match kept {
        "adapted" => {
            let graph = |files: &[(String, Vec<u8>)], name: &str| {
                files.iter().find(|f| f.0 == name).map(|f| f.1.clone())
            };
            assert_ne!(graph(&bundle, "search.onnx"), graph(&before, "search.onnx"));
            assert_eq!(
                graph(&bundle, "propose.onnx"),
                graph(&before, "propose.onnx")
            );
        }
        _ => assert_eq!(bundle, before),
    }

    // What changes nothing measures as the source does, and its graphs are quantised.
    let still = std::fs::read_to_string(root.join("adapt.toml")).unwrap();
    let still = format!("[adapt]\nparts = [\"adabn\"]\nadabn_share = 0.0\n{still}");
    std::fs::write(root.join("still.toml"), still).unwrap();
    let _ = done(
        root,
        &format!("adapt {common} --config still.toml --out still"),
    );
    let csv = std::fs::read_to_string(root.join("still/ablation.csv")).unwrap();
    let rows: Vec<Vec<f64>> = csv
        .lines()
        .skip(1)
        .map(|l| l.split(',').skip(2).map(|v| v.parse().unwrap()).collect())
        .collect();
    for (source, same) in rows[0].iter().zip(&rows[1]) {
        assert!((source - same).abs() < 2e-3, "{csv}");
    }
    assert!(root.join("still/bundle/search.int8.onnx").is_file());
    assert!(root.join("still/bundle/propose.onnx").is_file());
    a_bundle_that_cannot_be_made_leaves_the_one_before(root);
    // Threads are no part of a run; graphs of an earlier bundle do not stay in another.
    let two = common.replace("--threads 1", "--threads 2");
    let _ = done(
        root,
        &format!("adapt {two} --config still.toml --out still --no-int8"),
    );
    assert!(!root.join("still/bundle/search.int8.onnx").exists());

    labels_of_the_target_are_learned_from_and_score(root, common);
    bdd100k_and_idd_are_read_as_they_are_published(root);

    // An adaptation that ruins the network gives the source bundle back, to the byte.
    let said = done(
        root,
        &format!("adapt {common} --config ruinous.toml --out ruined --parts fourier"),
    );
    assert!(said.contains("source bundle is given back"), "{said}");
    assert_eq!(files(&root.join("ruined/bundle")), before);
    // The bound is that of what is kept.
    let error = said.lines().find(|l| l.starts_with("error on the source"));
    let columns: Vec<&str> = error.unwrap().split_whitespace().rev().take(2).collect();
    assert_eq!(columns[0], columns[1], "{said}");

    std::fs::create_dir(root.join("empty")).unwrap();
    // What lies where a run would put something of its own.
    std::fs::create_dir_all(root.join("mine/pseudo")).unwrap();
    std::fs::write(root.join("mine/pseudo/labels"), "a week of work").unwrap();
    let made = ["out", "still"].map(|out| tree(&root.join(out)));
    std::fs::write(root.join("wrong.toml"), "[adapt]\nparts = [\"regions\"]\n").unwrap();
    for (line, expected) in [
        (
            format!("adapt {common} --config wrong.toml --out no"),
            "regions",
        ),
        (
            format!("adapt {common} --config adapt.toml --out no --parts labelled"),
            "there are no labelled tracks",
        ),
        (
            format!("adapt {common} --config adapt.toml --out no --labelled nowhere"),
            "nowhere",
        ),
        (
            "adapt --bundle plain --target target --data . --config adapt.toml --out no".to_owned(),
            "has no propose.onnx",
        ),
        (
            "adapt --bundle source --target empty --data . --config adapt.toml --out no".to_owned(),
            "holds no video",
        ),
        (
            format!("adapt {common} --config adapt.toml --out mine"),
            "mine: holds other things than a run of this kind",
        ),
        (
            format!(
                "adapt {common} --config adapt.toml --out out --parts region,image,teacher,prototypes,fourier,style,adabn --no-int8 --seed 2"
            ),
            "out/config.toml: made with another configuration",
        ),
        (
            format!("adapt {common} --config still.toml --out still --no-int8 --seed 2"),
            "still/config.toml: made with another configuration",
        ),
        (
            "adapt --bundle source --target target/one --data . --config adapt.toml --out no"
                .to_owned(),
            "target/one: no clip can be held out to choose weights by, of 1 in all",
        ),
        (
            "adapt --bundle out/bundle --target target --data . --config adapt.toml --out out"
                .to_owned(),
            "out/bundle: would be written over",
        ),
        (
            "adapt --bundle nowhere --target target --data . --config adapt.toml --out no"
                .to_owned(),
            "nowhere",
        ),
    ] {
        let output = train(root, &line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        let errors: Vec<&str> = said
            .lines()
            .filter(|l| l.starts_with("roadhound-train:"))
            .collect();
        assert!(
            errors.len() == 1 && errors[0].contains(expected),
            "{line}: {said}"
        );
    }
    assert!(made == ["out", "still"].map(|out| tree(&root.join(out))));
    let mine = std::fs::read_to_string(root.join("mine/pseudo/labels"));
    assert_eq!(mine.unwrap(), "a week of work");
}
