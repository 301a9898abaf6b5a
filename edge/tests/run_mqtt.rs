//! The MQTT sink against a real broker: mosquitto, where it is installed.
#![cfg(feature = "mqtt")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::good_bundle;
use serde_json::Value;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The broker, where what listens to it is there as well: they are two packages.
fn mosquitto() -> Option<&'static str> {
    Command::new("mosquitto_sub").arg("--help").output().ok()?;
    [
        "/usr/sbin/mosquitto",
        "/usr/bin/mosquitto",
        "/usr/local/sbin/mosquitto",
    ]
    .into_iter()
    .find(|path| std::path::Path::new(path).exists())
}

fn broker(program: &str, port: u16, folder: &std::path::Path) -> Ended {
    let config = folder.join("mosquitto.conf");
    std::fs::write(
        &config,
        format!("listener {port} 127.0.0.1\nallow_anonymous true\n"),
    )
    .unwrap();
    let child = Command::new(program)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Ended(child)
}

/// Messages of a topic, as `mosquitto_sub` prints them: topic, space, payload.
fn subscribe(port: u16, seconds: u32, most: u32) -> Vec<(String, String)> {
    let output = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-v", "-t", "car/#"])
        .args([
            "-p",
            &port.to_string(),
            "-W",
            &seconds.to_string(),
            "-C",
            &most.to_string(),
        ])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(topic, payload)| (topic.to_owned(), payload.to_owned()))
        .collect()
}

#[test]
fn a_broker_gets_events_and_status_also_after_it_was_away() {
    let Some(program) = mosquitto() else {
        println!(
            "passed over: mosquitto is not installed (apt-get install mosquitto mosquitto-clients)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    std::fs::write(folder.path().join("a.grey"), vec![200; 96 * 96 * 30]).unwrap();
    let config = folder.path().join("roadhound.toml");
    let at = folder.path().display();
    std::fs::write(
        &config,
        format!(
            "[model]\nbundle = \"{}\"\n[target]\ninit = [30.0, 31.0, 24.5, 25.0]\n\
             [camera.replay]\npath = \"{at}/a.grey\"\nraw = \"96x96@50\"\nrepeat = true\n\
             [sinks.mqtt]\nhost = \"127.0.0.1\"\nport = {port}\ntopic = \"car\"\n",
            bundle.display()
        ),
    )
    .unwrap();
    let said = folder.path().join("stderr");
    // The board is up before the broker is.
    let mut board = Ended(
        Command::new(env!("CARGO_BIN_EXE_roadhound"))
            .args(["run", "--config"])
            .arg(&config)
            .stderr(std::fs::File::create(&said).unwrap())
            .spawn()
            .unwrap(),
    );
    std::thread::sleep(Duration::from_millis(700));
    for round in 0..2 {
        let running = broker(program, port, folder.path());
        let end = Instant::now() + Duration::from_secs(20);
        let messages = loop {
            let messages = subscribe(port, 5, 20);
            if messages.len() == 20 {
                break messages;
            }
            assert!(
                Instant::now() < end,
                "round {round}: only {} messages",
                messages.len()
            );
        };
        let events: Vec<Value> = messages
            .iter()
            .filter(|(topic, _)| topic == "car")
            .map(|(_, payload)| serde_json::from_str(payload).unwrap())
            .collect();
        assert!(events.len() >= 18, "{messages:?}");
        assert!(events.iter().all(|e| e["phase"] == "tracking"));
        let status = subscribe(port, 5, 1);
        assert_eq!(status[0], ("car/status".to_owned(), "online".to_owned()));
        if round == 1 {
            // A clean end says goodbye, and the broker keeps it for whoever asks later.
            let done = Command::new("kill")
                .arg(board.0.id().to_string())
                .status()
                .unwrap();
            assert!(done.success() && board.0.wait().unwrap().success());
            let status = subscribe(port, 5, 1);
            assert_eq!(status[0], ("car/status".to_owned(), "offline".to_owned()));
        }
        drop(running);
    } // The broker was not there at first and went away once; that the board left is no trouble.
    let said = std::fs::read_to_string(said).unwrap();
    let troubles: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .collect();
    assert_eq!(troubles.len(), 2, "{said}");
    assert!(
        troubles
            .iter()
            .all(|line| line.contains(&format!("mqtt: 127.0.0.1:{port}: "))),
        "{said}"
    );
}
