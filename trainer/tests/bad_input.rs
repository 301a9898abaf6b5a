//! Every command, given what it cannot use: one line on standard error that names what is wrong and says it once, exit
//! status 2, and nothing half written.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the program in `folder`; its status and what it said on standard error, without the lines of the log.
fn run(folder: &Path, words: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_roadhound-train"))
        .args(words.split_whitespace())
        .current_dir(folder)
        .env("RUST_LOG", "off")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// One line that holds all of `parts`, each of them once.
fn check(folder: &Path, words: &str, parts: &[&str]) {
    let (status, said) = run(folder, words);
    assert_eq!(status, Some(2), "{words}: {said}");
    let line = said.strip_suffix('\n').unwrap_or(&said);
    assert!(
        line.starts_with("roadhound-train: ") && !line.contains('\n'),
        "{words}: {said}"
    );
    for part in parts {
        assert_eq!(line.matches(part).count(), 1, "{words}: {part:?} in {line}");
    }
}

/// A folder with files that are wrong in every way, and a pack of one still.
fn litter() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write("empty.toml", b"");
    write("binary", &[0xff, 0xfe, 0, 7, 200, 0x80]);
    write("type.toml", b"seed = \"three\"\n");
    write("cut.toml", b"[train]\nbat");
    write("unknown.toml", b"[train]\nbatsch = 3\n");
    write("zero.toml", b"[train]\nbatch = 0\n");
    write("nan.toml", b"[optim]\nlearning_rate = nan\n");
    write("world.toml", b"width_px = \"wide\"\n");
    write("cut.safetensors", &[7, 0, 0, 0, 0, 0, 0, 0, b'{']);
    write("run/config.toml", b"seed = 3\n");
    write("run/losses.csv", b"step,pairs,total\n1,8,x\n");
    std::fs::create_dir(folder.path().join("nothing")).unwrap();
    folder
}

#[test]
fn usage_that_does_not_parse_is_one_line() {
    let folder = litter();
    for (words, part) in [
        ("", "no command"),
        ("trian", "unrecognized subcommand 'trian'"),
        ("tracker", "--config"),
        (
            "tracker --config empty.toml --out o --pairs 0",
            "'--pairs <PAIRS>'",
        ),
        (
            "tracker --config empty.toml --out o --threads 0",
            "expected 1 to 4096",
        ),
        (
            "tracker --config empty.toml --out o --device tpu",
            "'--device <DEVICE>'",
        ),
        ("evaluate --model m", "--sequences"),
        ("evaluate --mot r", "--truth"),
        ("evaluate --mot r --truth t --model m", "'--model <MODEL>'"),
        (
            "evaluate --model m --sequences s --fps nan",
            "expected a positive number",
        ),
        (
            "evaluate --model m --sequences s --fps 0",
            "expected a positive number",
        ),
        (
            "evaluate --model m --sequences s --fps -5",
            "expected a positive number",
        ),
        (
            "samples --config empty.toml --out s.png --count 0",
            "'--count <COUNT>'",
        ),
        (
            "samples --config empty.toml --out s.png --count 99999999999",
            "'--count <COUNT>'",
        ),
        (
            "ablate --config empty.toml --out a --pairs 0",
            "'--pairs <PAIRS>'",
        ),
        (
            "ablate --config empty.toml --out a --pairs 8 --seeds 0",
            "'--seeds <SEEDS>'",
        ),
        (
            "tune --model m --config c --out t --false-alarm nan",
            "expected a number from 0 on",
        ),
        (
            "tune --model m --config c --out t --false-lost -1",
            "expected a number from 0 on",
        ),
        (
            "tune --model m --config c --out t --trials 0",
            "'--trials <TRIALS>'",
        ),
        (
            "tune --model m --config c --out t --threads 0",
            "expected 1 to 4096",
        ),
        ("tune --model m --out t", "--config"),
        ("report", "<RUN>..."),
        (
            "render --seed 1 --region mars --out r",
            "expected us or india",
        ),
        (
            "render --seed 1 --region us --size axb --out r",
            "expected WIDTHxHEIGHT",
        ),
        ("render --seed 1 --region us", "--out"),
        ("render --seed 1 --region us --bench --out r", "'--bench'"),
        (
            "render --seed 1 --region us --bench --sheet s.png",
            "'--bench'",
        ),
        (
            "render --seed 1 --region us --bench --threads 2",
            "'--bench'",
        ),
        (
            "render --seed 1 --region us --bench --layout pack",
            "'--bench'",
        ),
    ] {
        check(folder.path(), words, &[part, "see roadhound-train --help"]);
    }
}

#[test]
fn help_and_version_are_answers() {
    let folder = litter();
    for words in ["--help", "--version", "tracker --help"] {
        assert_eq!(
            run(folder.path(), words),
            (Some(0), String::new()),
            "{words}"
        );
    }
}

#[test]
fn configurations_that_cannot_be_used_are_named_with_their_reason_once() {
    let folder = litter();
    for command in [
        "tracker --out o",
        "ablate --pairs 8 --out o",
        "samples --out s.png",
        "evaluate --model nothing --held-out",
    ] {
        let with = |file: &str| match command.ends_with("--held-out") {
            true => format!("{command} {file}"),
            false => format!("{command} --config {file}"),
        };
        let bad = |file: &str, parts: &[&str]| check(folder.path(), &with(file), parts);
        bad("missing.toml", &["missing.toml: No such file"]);
        bad("nothing", &["nothing: Is a directory"]);
        bad("binary", &["binary: stream did not contain valid UTF-8"]);
        bad("type.toml", &["type.toml: line 1: invalid type: string"]);
        bad("cut.toml", &["cut.toml: line 2: "]);
        bad(
            "unknown.toml",
            &["unknown.toml: line 2: unknown field `batsch`"],
        );
        bad("zero.toml", &["zero.toml: train.batch is 0, expected"]);
        bad("nan.toml", &["nan.toml: optim.learning_rate is NaN"]);
        bad("empty.toml", &["boxes.csv: No such file"]);
    }
    assert!(!folder.path().join("o").exists() && !folder.path().join("s.png").exists());
}

#[test]
fn models_data_and_runs_that_are_not_what_they_should_be_are_named() {
    let folder = litter();
    for (words, part) in [
        (
            "export --checkpoint missing --out b",
            "missing: No such file",
        ),
        (
            "export --checkpoint nothing --out b",
            "nothing: Is a directory",
        ),
        (
            "export --checkpoint binary --out b",
            "binary: not a checkpoint: ",
        ),
        (
            "export --checkpoint cut.safetensors --out b",
            "cut.safetensors: not a checkpoint: ",
        ),
        (
            "evaluate --model nothing --sequences missing",
            "missing: No such file",
        ),
        (
            "evaluate --model nothing --sequences nothing",
            "nothing: no runs to follow",
        ),
        (
            "evaluate --model cut.safetensors --sequences nothing --csv cut.safetensors",
            "cut.safetensors: --csv and --model are the same file",
        ),
        ("report missing", "missing: holds neither"),
        ("report nothing", "nothing: holds neither"),
        ("report binary", "binary/config.toml: Not a directory"),
        ("report run", "run/losses.csv:2: "),
        ("report binary run", "binary/config.toml: Not a directory"),
        (
            "gap --model missing --a nothing --b nothing",
            "missing: No such file",
        ),
        (
            "gap --model nothing --a nothing --b nothing",
            "nothing/bundle.toml: No such file",
        ),
        (
            "gap --model nothing --a nothing --b nothing --config binary",
            "binary: stream did not",
        ),
        (
            "tune --model nothing --sequences nothing --out t",
            "no runs to follow",
        ),
        (
            "tune --model nothing --sequences missing --out t",
            "missing: No such file",
        ),
        (
            "tune --model nothing --config type.toml --out t",
            "type.toml: line 1: ",
        ),
        (
            "render --region us --seed 1 --out r --frames 0",
            "frames is 0, expected 1 to",
        ),
        (
            "render --region us --seed 1 --out r --fps nan",
            "fps is NaN, expected 1 to",
        ),
        (
            "render --region us --seed 1 --out r --size 0x0",
            "width_px is 0, expected 32 to",
        ),
        (
            "render --region us --seed 1 --out r --threads 0",
            "threads is 0, expected 1 to",
        ),
        (
            "render --region us --seed 1 --out r --sequences 0",
            "sequences is 0, expected 1 to",
        ),
        (
            "render --region us --seed 1 --bench --size 4294967295x4294967295",
            "width_px is 4294967300, expected 32 to",
        ),
        (
            "render --region us --seed 1 --bench --sequences 0",
            "sequences is 0, expected 1 to",
        ),
        (
            "render --region us --seed 1 --out r --frames 1 --sequences 1 --sheet s.xyz",
            "s.xyz: ",
        ),
        (
            "render --region us --seed 1 --out r --frames 1 --sequences 1 --sheet s.webp",
            "s.webp: expected a name that ends in .png or .jpg",
        ),
        (
            "render --region us --seed 1 --out r --world world.toml",
            "world.toml: line 1: ",
        ),
        (
            "render --region us --seed 1 --out r --world missing",
            "missing: No such file",
        ),
        (
            "render --region us --seed 1 --out binary --frames 1 --sequences 1",
            "binary: File exists",
        ),
    ] {
        check(folder.path(), words, &[part]);
    }
    assert!(
        !folder.path().join("r").exists(),
        "nothing is rendered first"
    );
}

#[test]
fn a_world_file_is_not_overruled_by_what_was_not_said() {
    let folder = litter();
    std::fs::write(
        folder.path().join("small.toml"),
        "width_px = 96\nheight_px = 64\nframes = 2\n",
    )
    .unwrap();
    let render = "render --region india --seed 1 --sequences 1 --quiet --world small.toml";
    assert_eq!(run(folder.path(), &format!("{render} --out r")).0, Some(0));
    assert_eq!(
        run(folder.path(), &format!("{render} --frames 1 --out s")).0,
        Some(0)
    );
    let frames = |out: &str| {
        let drives = folder.path().join(out).join("images");
        let drive = std::fs::read_dir(drives).unwrap().next().unwrap().unwrap();
        let frames = std::fs::read_dir(drive.path()).unwrap();
        let paths: Vec<_> = frames.map(|entry| entry.unwrap().path()).collect();
        (paths.len(), image::image_dimensions(&paths[0]).unwrap())
    };
    assert_eq!((frames("r"), frames("s")), ((2, (96, 64)), (1, (96, 64))));
}

/// `/dev/full` says what a full disk says.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_leaves_no_half_of_a_page() {
    let folder = litter();
    let losses = folder.path().join("run/losses.csv");
    std::fs::write(losses, "step,pairs,total\n1,8,0.5\n").unwrap();
    check(
        folder.path(),
        "report run --out /dev/full",
        &["/dev/full: No space left on device"],
    );
    check(
        folder.path(),
        "report run --out nowhere/page.html",
        &["nowhere/page.html: No such file"],
    );
    assert_eq!(run(folder.path(), "report run --out page.html").0, Some(0));
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
