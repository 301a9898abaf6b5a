//! The scripts, with stand-ins for the programs that they call: what they find, what they leave, what they overlook.
//! Where a tool is missing a test says so and passes over.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use system_tests::{say, workspace};

/// A program that does what a line of shell says.
fn stand_in(folder: &Path, name: &str, line: &str) {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A script with these programs before all others, and a folder of its own for what is temporary.
fn script(name: &str, programs: &Path, temporary: &Path) -> Command {
    let others = std::env::var("PATH").unwrap();
    let mut command = Command::new(workspace().join("scripts").join(name));
    command
        .env("PATH", format!("{}:{others}", programs.display()))
        .env("TMPDIR", temporary)
        .env_remove("LIBCLANG_PATH")
        .env_remove("CUDA_HOME");
    command
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

fn there_is(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        say(&format!("skipped: no {program}"));
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn an_installed_libclang_is_found_in_any_of_its_places() {
    if !cfg!(target_os = "linux") {
        return;
    }
    for (file, found) in [
        ("lib/llvm-14/lib/libclang-14.so.1", true),
        ("lib64/libclang.so", true),
        ("lib/x86_64-linux-gnu/libclang-14.so.1", true),
        ("lib/llvm-14/lib/libclang-cpp.so.14", false),
        ("lib/libc.so", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let library = at("usr").join(file);
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        fs::write(library, "").unwrap();
        // Headers are there; nothing can be fetched.
        stand_in(&at("bin"), "cc", "exit 0");
        stand_in(&at("bin"), "python3", "exit 1");
        stand_in(&at("bin"), "cargo", "echo cargo $1");
        fs::create_dir(at("tmp")).unwrap();
        let output = script("check-camera.sh", &at("bin"), &at("tmp"))
            .env("CC", "cc")
            .env("ROADHOUND_USR", at("usr"))
            .env("CARGO_TARGET_DIR", at("target"))
            .output()
            .unwrap();
        let said = said(&output);
        assert!(output.status.success(), "{file}: {said}");
        assert_eq!(said.contains("cargo clippy"), found, "{file}: {said}");
        assert_ne!(said.contains("no libclang"), found, "{file}: {said}");
        assert!(names(&at("tmp")).is_empty(), "{:?}", names(&at("tmp")));
    }
}

#[test]
fn a_cuda_build_whose_toolkit_cannot_be_fetched_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("tmp")).unwrap();
    // The first wheel arrives, and then the network is gone.
    let pip = "while [ \"$1\" != --dest ]; do shift; done; echo wheel >\"$2/first.whl\"; exit 1";
    stand_in(&at("bin"), "python3", pip);
    stand_in(&at("bin"), "cargo", "echo cargo $1");
    let output = script("build-cuda.sh", &at("bin"), &at("tmp"))
        .env("CARGO_TARGET_DIR", at("target"))
        .output()
        .unwrap();
    let said = said(&output);
    assert!(
        !output.status.success() && !said.contains("cargo"),
        "{said}"
    );
    assert!(names(&at("tmp")).is_empty(), "{:?}", names(&at("tmp")));
}

/// A package whose removal leaves the service switched on.
#[test]
fn a_unit_that_purging_leaves_is_found() {
    let root = Command::new("id").arg("-u").output().unwrap();
    if root.stdout.trim_ascii() != b"0" {
        say("skipped: only root installs packages");
        return;
    }
    if !there_is("dpkg-deb") || !there_is("dpkg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| {
        let path = at("package").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    stand_in(&at("package/usr/bin"), "roadhound", "exit 0");
    let packaging = |name: &str| fs::read_to_string(workspace().join("packaging").join(name));
    for (from, to) in [
        ("roadhound.service", "lib/systemd/system/roadhound.service"),
        ("60-roadhound.rules", "lib/udev/rules.d/60-roadhound.rules"),
        ("roadhound.toml", "etc/roadhound/roadhound.toml"),
        ("roadhound.1", "usr/share/man/man1/roadhound.1"),
        (
            "completion.bash",
            "usr/share/bash-completion/completions/roadhound",
        ),
    ] {
        write(to, &packaging(from).unwrap());
    }
    let manual = at("package/usr/share/man/man1/roadhound.1");
    let zipped = Command::new("gzip").arg(manual).status().unwrap();
    assert!(zipped.success());
    write("DEBIAN/conffiles", "/etc/roadhound/roadhound.toml\n");
    let processor = Command::new("dpkg")
        .arg("--print-architecture")
        .output()
        .unwrap();
    let processor = String::from_utf8(processor.stdout).unwrap();
    write(
        "DEBIAN/control",
        &format!(
            "Package: roadhound\nVersion: 1\nArchitecture: {}\nMaintainer: a <a@example.invalid>\nDescription: a\n",
            processor.trim()
        ),
    );
    let check = |scripts: &[(&str, &str)]| {
        for (name, line) in scripts {
            stand_in(&at("package/DEBIAN"), name, line);
        }
        let deb = at("roadhound.deb");
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([at("package"), deb.clone()])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", said(&built));
        fs::create_dir_all(at("tmp")).unwrap();
        let output = script("check-package.sh", &at("bin"), &at("tmp"))
            .arg(&deb)
            .output()
            .unwrap();
        assert!(names(&at("tmp")).is_empty(), "{:?}", names(&at("tmp")));
        output
    };
    let purge = (
        "postrm",
        "[ \"$1\" != purge ] || rm -rf \"$DPKG_ROOT/etc/roadhound\"",
    );
    let clean = check(&[purge]);
    if clean.status.code() == Some(77) {
        say("skipped: check-package.sh misses a tool");
        return;
    }
    assert!(clean.status.success(), "{}", said(&clean));
    let wants = "$DPKG_ROOT/etc/systemd/system/multi-user.target.wants";
    let switched_on = format!("mkdir -p \"{wants}\"; : >\"{wants}/roadhound.service\"");
    let left = check(&[purge, ("postinst", switched_on.as_str())]);
    let line = "multi-user.target.wants/roadhound.service";
    assert!(
        !left.status.success() && said(&left).contains(line),
        "{}",
        said(&left)
    );
}

/// Clips of an earlier call, and what its trackers said of them.
#[test]
fn a_comparison_scores_nothing_of_an_earlier_one() {
    if !there_is("python3") {
        return;
    }
    let program = "
import importlib.util, pathlib, sys, types
for name in ('cv2', 'numpy'):
    module = types.ModuleType(name)
    module.setNumThreads = lambda count: None
    sys.modules[name] = module
spec = importlib.util.spec_from_file_location('compare', sys.argv[1])
compare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare)
for name in ('onnxruntime', 'trackers'):
    sys.modules[name] = types.ModuleType(name)
compare.detector_module = lambda: None
def run(*arguments):
    (out,) = arguments[-1][-1:]
    for out in arguments[-1]:
        out.write_text('new')
    return [1.0, 1.0]
compare.run_peer = lambda auto, model, clip, outs: run(outs)
compare.run_ours = lambda program, model, clip, outs, precision: run(outs)
compare.subprocess.run = lambda command, check: None
root = pathlib.Path(sys.argv[2])
def call(clips):
    sys.argv = ['compare', '--model', 'm', '--skip-int8', '--shared', str(root), '--clips', clips, '--out', str(root / 'out')]
    compare.main()
call('a,b')
call('b')
print(sorted(str(path.relative_to(root / 'out')) for path in (root / 'out').glob('*/*')))
(root / 'out/truth/mine.txt').write_text('mine')
try:
    call('b')
except SystemExit as refused:
    print(refused)
print((root / 'out/truth/mine.txt').read_text())
";
    let folder = tempfile::tempdir().unwrap();
    for clip in ["a", "b"] {
        fs::create_dir_all(folder.path().join("data/sequences").join(clip)).unwrap();
    }
    let output = Command::new("python3")
        .args(["-B", "-c", program])
        .arg(workspace().join("scripts/compare-watch.py"))
        .arg(folder.path())
        .output()
        .unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        !said.contains("a.txt") && !said.contains("truth/a"),
        "{said}"
    );
    assert!(
        said.contains("truth/b") && said.contains("roadhound-watch/b.txt"),
        "{said}"
    );
    assert!(
        said.contains("mine.txt: not of an earlier comparison"),
        "{said}"
    );
    assert!(said.trim_end().ends_with("mine"), "{said}");
}
