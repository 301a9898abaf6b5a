//! `ablate` as a program: the same table however many runs are trained at a time, and after an interruption.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

/// A pack of stills, each with one chequered thing.
fn write_pack(root: &Path) {
    let images = root.join("stills/images");
    std::fs::create_dir_all(&images).unwrap();
    let mut table = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    for i in 0..8_u32 {
        let left = 30 + 6 * i;
        let picture = image::RgbImage::from_fn(160, 120, |x, y| {
            let inside = (left..left + 44).contains(&x) && (40..76).contains(&y);
            match inside {
                true if (x - left) / 8 % 2 == (y - 40) / 8 % 2 => image::Rgb([200, 30, 30]),
                true => image::Rgb([240, 220, 60]),
                false => image::Rgb([
                    (x / 9 * 20 % 90) as u8 + 60,
                    90 + 9 * i as u8,
                    (y / 7 * 16 % 80) as u8,
                ]),
            }
        });
        picture.save(images.join(format!("{i}.png"))).unwrap();
        table += &format!("{i},0,0,car,{left},40,44,36,-1\n");
    }
    std::fs::write(root.join("stills/boxes.csv"), table).unwrap();
    let config = r#"
        [model]
        stage_channels = [4, 8, 8, 16]
        feature_channels = 16
        head_channels = 16
        embedding = 8
        [train]
        batch = 4
        [validation]
        batches = 1
        [[data.packs]]
        name = "stills"
        kind = "stills"
        weight = 1.0
        held_out = ["2", "5"]
    "#;
    std::fs::write(root.join("run.toml"), config).unwrap();
}

fn ablate(root: &Path, out: &Path, jobs: &str) -> Output {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let config = text(&root.join("run.toml"));
    Command::new(env!("CARGO_BIN_EXE_roadhound-train"))
        .args(["ablate", "--config", &config, "--data", &text(root)])
        .args(["--out", &text(out), "--pairs", "8", "--seeds", "1"])
        .args(["--only", "glare,haze", "--jobs", jobs])
        .output()
        .unwrap()
}

#[test]
fn the_table_does_not_depend_on_how_many_runs_are_trained_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_pack(root);
    let [one, three] = ["one", "three"].map(|name| root.join(name));
    for (out, jobs) in [(&one, "1"), (&three, "3")] {
        let output = ablate(root, out, jobs);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            shown.contains("| glare |") && shown.contains("| haze |"),
            "{shown}"
        );
    }
    let table = |out: &Path| std::fs::read_to_string(out.join("ablation.csv")).unwrap();
    assert_eq!(table(&one), table(&three));
    assert_eq!(
        table(&one).lines().count(),
        4,
        "a title, the baseline, two tricks"
    );

    // What is scored already is not trained again; what is missing is.
    std::fs::remove_dir_all(three.join("without-haze")).unwrap();
    let untouched = three.join("without-glare/last.safetensors");
    let before = std::fs::metadata(&untouched).unwrap().modified().unwrap();
    assert!(ablate(root, &three, "2").status.success());
    assert_eq!(table(&one), table(&three));
    let after = std::fs::metadata(&untouched).unwrap().modified().unwrap();
    assert_eq!(before, after);
}
