//! `adapt` as a program: what it leaves, what comes back where the adaptation is bad, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

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
        "[train]\nbatch = 4\nvalidate_every = 2\ncheckpoint_every = 2\n[clips]\nframes = 6\nheld_out_every = 2\n[pseudo]\nmin_score = 0.0\nmin_presence = 0.0\nmin_similarity = -1.0\nframe_iou = 0.0\ntrack_iou = 0.0\nmin_frames = 2\n[select]\nseeds = 2\nregions = 16\nsource_batches = 2\nnorm_batches = 1\nmost_source_loss = 1.0\n[sampler]\nsearch_shift_px = 16\nwide_shift_px = 24\n{data}"
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
        "propose --config propose.toml --data . --backbone plain --out propose --scenes 120 --quiet",
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
            "adapt {common} --config adapt.toml --out out --parts region,image,teacher,prototypes,fourier,adabn --ablate --no-int8"
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
        "bundle/bundle.toml",
    ] {
        assert!(root.join("out").join(name).is_file(), "{name}");
    }
    let csv = std::fs::read_to_string(root.join("out/ablation.csv")).unwrap();
    let names: Vec<&str> = csv.lines().map(|l| l.split(',').next().unwrap()).collect();
    let all = "region+image+teacher+prototypes+fourier+adabn";
    assert_eq!(
        names,
        [
            "parts",
            "source",
            all,
            "region",
            "image",
            "teacher",
            "prototypes",
            "fourier",
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

    // An adaptation that ruins the network gives the source bundle back, to the byte.
    let said = done(
        root,
        &format!("adapt {common} --config ruinous.toml --out ruined --parts fourier"),
    );
    assert!(said.contains("source bundle is given back"), "{said}");
    assert_eq!(files(&root.join("ruined/bundle")), before);

    std::fs::create_dir(root.join("empty")).unwrap();
    // What lies where a run would put something of its own.
    std::fs::create_dir_all(root.join("mine/pseudo")).unwrap();
    std::fs::write(root.join("mine/pseudo/labels"), "a week of work").unwrap();
    std::fs::write(root.join("wrong.toml"), "[adapt]\nparts = [\"regions\"]\n").unwrap();
    for (line, expected) in [
        (
            format!("adapt {common} --config wrong.toml --out no"),
            "regions",
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
    assert_eq!(files(&root.join("out/bundle")), bundle);
    let mine = std::fs::read_to_string(root.join("mine/pseudo/labels"));
    assert_eq!(mine.unwrap(), "a week of work");
}
