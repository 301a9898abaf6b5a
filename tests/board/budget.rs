//! How fast, how late, how large: what the board's file asks for, over some seconds.

use crate::reach::{fate, metric, session};

#[test]
fn the_board_keeps_within_its_budget() {
    let Some(session) = session() else { return };
    let board = &session.board;
    let table = |name: &str, table: &toml::Table| {
        let mut around = toml::Table::new();
        around.insert(name.into(), table.clone().into());
        around.to_string()
    };
    let camera = board.camera.as_ref().map_or_else(
        || {
            "[camera.v4l2]\ndevice = \"camera\"\nwidth_px = 640\nheight_px = 360\nfps = 30.0\n"
                .into()
        },
        |camera| table("camera", camera),
    );
    let target = board.target.as_ref().map_or_else(
        || "[target]\ninit = [280.0, 150.0, 80.0, 60.0]\n".into(),
        |target| table("target", target),
    );
    session.write(
        "roadhound.toml",
        format!(
            "{camera}{target}[sinks.jsonl]\npath = \"track.jsonl\"\nqueue = 1000\n\
             [metrics]\ntextfile = \"roadhound.prom\"\nevery_seconds = 1\n"
        ),
    );
    let load = if board.camera.is_none() {
        "load_vivid"
    } else {
        ""
    };
    let seconds = board.budget.seconds;
    let job = format!(
        "{load}
        cut -d' ' -f1 /proc/uptime >started
        ./roadhound run --config roadhound.toml 2>run.log & run=$!
        wait_for track.jsonl 60
        sleep {seconds}
        kill -TERM $run
        wait $run"
    );
    session.run(&job, 1_800);

    let prom = session.read("roadhound.prom");
    let lines = session.lines("track.jsonl");
    let fps = metric(&prom, "roadhound_fps");
    let p99_ms = metric(&prom, "roadhound_latency_recent_seconds{quantile=\"0.99\"}") * 1e3;
    let p50_ms = metric(&prom, "roadhound_latency_recent_seconds{quantile=\"0.5\"}") * 1e3;
    let resident_mib = metric(&prom, "roadhound_memory_resident_bytes") / f64::from(1 << 20);
    let captured = metric(&prom, "roadhound_captured_total");
    let dropped = (fate(&prom, "stale") + fate(&prom, "no_buffer")) / captured.max(1.0);
    let started_ms = session.read("started").trim().parse::<f64>().unwrap() * 1e3;
    let taken_ms = lines[0]["t_micros"].as_f64().unwrap() / 1e3;
    let first_ms = taken_ms + lines[0]["latency_ms"].as_f64().unwrap() - started_ms;
    println!(
        "{}: {fps:.2} fps, latency p50 {p50_ms:.0} ms, p99 {p99_ms:.0} ms, {resident_mib:.1} MiB, {:.0} % of {captured} frames \
         not looked at, first result {first_ms:.0} ms after the start, of a frame that was taken after {:.0} ms",
        board.name,
        dropped * 100.0,
        taken_ms - started_ms
    );
    let budget = &board.budget;
    for (what, found, most) in [
        ("p99 of the latency, ms", p99_ms, budget.latency_p99_ms),
        ("memory, MiB", resident_mib, budget.resident_mib),
        ("share not looked at", dropped, budget.dropped_share),
        ("first result, ms", first_ms, budget.first_tracked_ms),
    ] {
        assert!(found <= most, "{what}: {found}, at most {most}");
    }
    assert!(fps >= budget.fps, "{fps} fps, at least {}", budget.fps);
}
