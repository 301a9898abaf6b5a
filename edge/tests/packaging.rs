//! What comes with the program says what the program says: manual, completion, unit.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use common::roadhound;

fn packaging(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../packaging", name]
        .iter()
        .collect()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(packaging(name)).unwrap()
}

fn help(arguments: &[&str]) -> String {
    let output = roadhound(&[arguments, &["--help"]].concat());
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The commands, each with its options.
fn commands() -> Vec<(String, BTreeSet<String>)> {
    let help_of_all = help(&[]);
    let (_, list) = help_of_all.split_once("Commands:\n").unwrap();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(|name| {
            let options = help(&[name])
                .split(|c: char| c.is_whitespace() || "[]=,<".contains(c))
                .filter(|word| word.len() > 2 && word.starts_with("--"))
                .map(str::to_owned)
                .collect();
            (name.to_owned(), options)
        })
        .collect()
}

#[test]
fn the_manual_has_every_command_and_option_and_no_other() {
    let manual = text("roadhound.1").replace("\\-", "-").replace("\\~", " ");
    let mut known: BTreeSet<String> = ["--version".to_owned()].into();
    for (command, options) in commands() {
        assert!(
            manual.contains(&format!("\n.SS {command}\n")),
            "no command {command}"
        );
        for option in &options {
            assert!(
                manual.contains(option.as_str()),
                "{command} {option} is not in the manual"
            );
        }
        known.extend(options);
    }
    for word in manual.split(|c: char| c.is_whitespace() || c == '"') {
        if word.starts_with("--") {
            assert!(
                known.contains(word),
                "{word} is in the manual and nowhere else"
            );
        }
    }
}

#[test]
fn the_shell_completes_what_the_program_knows() {
    if !Command::new("bash")
        .arg("-c")
        .arg("true")
        .status()
        .is_ok_and(|s| s.success())
    {
        println!("passed over: no bash");
        return;
    }
    let complete = |words: &[&str]| -> BTreeSet<String> {
        let script = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _roadhound; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            packaging("completion.bash").display(),
            words
                .iter()
                .map(|word| format!("'{word}'"))
                .collect::<Vec<_>>()
                .join(" ")
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let offered = complete(&["roadhound", ""]);
    for (command, options) in commands() {
        assert!(offered.contains(&command), "{command}: {offered:?}");
        assert_eq!(
            complete(&["roadhound", &command, "--"]),
            options,
            "{command}"
        );
    }
    assert_eq!(
        complete(&["roadhound", "bench", "--precision", ""]),
        ["f32".to_owned(), "int8".to_owned()].into()
    );
}

/// `RestartPreventExitStatus` is about the program itself: a command before it that failed would be tried again for ever.
#[test]
fn a_mistake_in_the_configuration_ends_the_service_and_is_not_tried_again() {
    let unit = text("roadhound.service");
    let setting = |name: &str| -> Vec<&str> {
        let lines = unit.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .collect()
    };
    let commands = unit.lines().filter_map(|line| line.split_once('='));
    let started: Vec<&str> = commands
        .map(|(key, _)| key)
        .filter(|key| key.starts_with("Exec") && *key != "ExecReload")
        .collect();
    assert_eq!(started, ["ExecStart"]);

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("roadhound.toml");
    std::fs::write(&config, "[camera.rendered]\nfps = -1.0\n").unwrap();
    let command = setting("ExecStart")[0].replace(
        "/etc/roadhound/roadhound.toml",
        &config.display().to_string(),
    );
    let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
    let ended = roadhound(&arguments).status.code().unwrap().to_string();
    assert_eq!(setting("RestartPreventExitStatus"), [ended.as_str()]);
}

#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    // The unit names the program where the package puts it; here it is somewhere else.
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("roadhound.service");
    let content = text("roadhound.service");
    std::fs::write(
        &unit,
        content.replace("/usr/bin/roadhound", env!("CARGO_BIN_EXE_roadhound")),
    )
    .unwrap();
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output();
    let Ok(verified) = verified else {
        println!("passed over: no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(
        verified.status.success() && said.trim().is_empty(),
        "{said}"
    );
    // 2.0 of 10: what is left is the network, and one kind of device.
    let exposed = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(&unit)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&exposed.stdout);
    assert!(exposed.status.success(), "{said}");
    println!("{}", said.lines().last().unwrap_or_default());
}
