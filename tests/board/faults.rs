//! Unplugged cameras and failing drivers, by unbinding the driver and by its error controls.

use serde_json::Value;

use crate::clip::{Clip, Layout};
use crate::common;
use crate::reach::{Session, fate, metric, vivid_session};

/// A small network that takes what is bright for the target, and a white camera.
fn configure_white(session: &Session, fps: u32, rest: &str) {
    common::good_bundle(session.folder());
    session.write(
        "roadhound.toml",
        format!(
            "[model]\nbundle = \"bundle\"\n[target]\ninit = [100.0, 80.0, 60.0, 50.0]\n\
             [camera.v4l2]\ndevice = \"camera\"\nwidth_px = 320\nheight_px = 180\nfps = {fps}.0\n\
             [sinks.jsonl]\npath = \"track.jsonl\"\nqueue = 1000\n[metrics]\ntextfile = \"roadhound.prom\"\nevery_seconds = 1\n{rest}"
        ),
    );
}

/// What every job with a white camera begins and ends with.
const START_WHITE: &str = "
prepare() { control test_pattern=6,osd_text_mode=2; }
load_vivid
./roadhound run --config roadhound.toml 2>run.log & run=$!
wait_for track.jsonl 60
more_lines 20
";
const END: &str = "
kill -TERM $run
wait $run
";

/// From the first frame after a silence of at least this long to the target being tracked again, in milliseconds.
fn recoveries_ms(lines: &[Value], silent_ms: f64) -> Vec<f64> {
    let t = |line: &Value| line["t_micros"].as_f64().unwrap() / 1e3;
    let frames: Vec<&Value> = lines
        .iter()
        .filter(|line| !line["frame"].is_null())
        .collect();
    (1..frames.len())
        .filter(|&n| t(frames[n]) - t(frames[n - 1]) > silent_ms)
        .map(|n| {
            let back = frames[n..].iter().find(|line| line["phase"] == "tracking");
            let back =
                back.unwrap_or_else(|| panic!("never tracked again after {}", frames[n - 1]));
            t(back) + back["latency_ms"].as_f64().unwrap() - t(frames[n])
        })
        .collect()
}

fn worst(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, &b| a.max(b))
}

/// What `holds` of `vivid.sh` printed: open files, mapped regions, resident KiB, the kernel's KiB.
fn holds(session: &Session, name: &str) -> [i64; 4] {
    let text = session.read(name);
    let numbers: Vec<i64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    numbers.try_into().unwrap()
}

fn closed(prom: &str, cause: &str) -> f64 {
    metric(
        prom,
        &format!("roadhound_camera_closed_total{{cause=\"{cause}\"}}"),
    )
}

#[test]
fn a_hundred_times_unplugged_the_camera_is_opened_again_and_nothing_is_leaked() {
    let Some(session) = vivid_session() else {
        return;
    };
    // Few frames, and short pauses: it is a hundred times.
    configure_white(&session, 10, "[camera.retry]\nlongest_millis = 200\n");
    // Every tenth time it stays away for long enough to lose the target.
    let job = format!(
        "{START_WHITE}
        n=0
        while [ $n -lt 100 ]; do
            gone=$(says ': gone: ') open=$(says ': open, ')
            unplug
            until_more \"says ': gone: '\" $gone
            if [ $((n % 10)) = 9 ]; then sleep 3; fi
            plug
            until_more \"says ': open, '\" $open
            more_lines 3
            n=$((n + 1))
            if [ $n = 10 ]; then holds >before; fi
        done
        holds >after
        {END}"
    );
    session.run(&job, 1_800);
    let prom = session.read("roadhound.prom");
    let lines = session.lines("track.jsonl");
    let reconnects = metric(&prom, "roadhound_reconnects_total");
    let recoveries = recoveries_ms(&lines, 2_500.0);
    let [before, after] = ["before", "after"].map(|name| holds(&session, name));
    println!(
        "{reconnects} reconnections; after {} long absences tracked again at most {:.0} ms after the first frame; open files, \
         mapped regions, resident and kernel's KiB {before:?} after ten, {after:?} after all",
        recoveries.len(),
        worst(&recoveries)
    );
    assert_eq!(reconnects, 100.0, "{prom}");
    assert_eq!(closed(&prom, "gone"), 100.0, "{prom}");
    assert!(lines.iter().any(|line| line["phase"] == "lost"));
    assert_eq!(recoveries.len(), 10, "{recoveries:?}");
    assert!(worst(&recoveries) < 1_000.0, "{recoveries:?}");
    let [files, regions, resident, kernel] = [0, 1, 2, 3].map(|n| after[n] - before[n]);
    assert_eq!((files, regions), (0, 0), "{before:?} {after:?}");
    // Four buffers of 112 KiB leaked each time would be 40 MiB on either side.
    assert!(resident < 1_024 && kernel < 1_024, "{before:?} {after:?}");
}

#[test]
fn every_error_of_the_driver_is_survived() {
    let Some(session) = vivid_session() else {
        return;
    };
    configure_white(&session, 30, "");
    let job = format!(
        "{START_WHITE}
        holds >before
        # A damaged buffer costs a frame, and nothing else.
        for n in 1 2 3; do control inject_v4l2_buf_flag_error=1; more_lines 5; done
        says ': open, ' >opened
        # These cost the stream; opening it again fails in ever other ways, and works in the end.
        for way in inject_vidioc_qbuf_error=1 inject_fatal_streaming_error=1 inject_vidioc_reqbufs_error=1,inject_fatal_streaming_error=1 \\
            inject_vidioc_streamon_error=1,inject_fatal_streaming_error=1 disconnect=1; do
            for n in 1 2 3; do
                open=$(says ': open, ')
                control $way
                until_more \"says ': open, '\" $open
                more_lines 5
            done
        done
        # Every buffer is dropped: the stream stalls.
        stalled=$(says 'closed (stalled)')
        control percentage_of_dropped_buffers=100
        until_more \"says 'closed (stalled)'\" $((stalled + 1))
        control percentage_of_dropped_buffers=0
        more_lines 20
        holds >after
        {END}"
    );
    session.run(&job, 1_800);
    let prom = session.read("roadhound.prom");
    println!("{}", session.read("run.log"));
    let lines = session.lines("track.jsonl");
    let [before, after] = ["before", "after"].map(|name| holds(&session, name));
    println!("{before:?} before, {after:?} after");
    assert_eq!(session.read("opened").trim(), "1");
    assert_eq!(fate(&prom, "corrupt"), 3.0, "{prom}");
    assert_eq!(closed(&prom, "gone"), 3.0, "{prom}");
    assert_eq!(closed(&prom, "io"), 12.0, "{prom}");
    assert_eq!(closed(&prom, "stalled"), 2.0, "{prom}");
    assert_eq!(lines.last().unwrap()["phase"], "tracking");
    assert_eq!(before[0], after[0], "open files");
}

/// Without requests, which no camera needs, `vivid` starts once it has two buffers, as cameras of boards do with theirs.
#[test]
fn a_driver_that_starts_with_all_its_buffers_and_not_before_delivers() {
    let Some(session) = vivid_session() else {
        return;
    };
    configure_white(&session, 30, "");
    let config = session.read("roadhound.toml");
    let two = config.replace("width_px = 320", "buffers = 2\nwidth_px = 320");
    assert_ne!(two, config);
    session.write("roadhound.toml", two);
    let start = START_WHITE.replace("load_vivid", "load_vivid supports_requests=0");
    session.run(&format!("{start}{END}"), 1_800);
    let prom = session.read("roadhound.prom");
    let lines = session.lines("track.jsonl");
    println!("{} frames with two buffers", lines.len());
    assert_eq!(lines.last().unwrap()["phase"], "tracking");
    for cause in ["stalled", "io", "gone"] {
        assert_eq!(closed(&prom, cause), 0.0, "{prom}");
    }
}

#[test]
fn a_camera_that_comes_back_with_another_size_is_followed_in_on() {
    let Some(session) = vivid_session() else {
        return;
    };
    configure_white(&session, 30, "");
    // The second input has the size of its signal, whatever it is asked for.
    let job = format!(
        "{START_WHITE}
        open=$(says ': open, ')
        prepare() {{
            v4l2-ctl -d \"$capture\" -i 1 >/dev/null
            v4l2-ctl -d \"$capture\" --set-dv-bt-timings index=3 >/dev/null
            control test_pattern=6,osd_text_mode=2,enable_capture_scaler=0,enable_capture_cropping=0,enable_capture_composing=0
        }}
        unplug; plug
        until_more \"says ': open, '\" $open
        more_lines 5
        {END}"
    );
    session.run(&job, 1_800);
    println!("{}", session.read("run.log"));
    let lines = session.lines("track.jsonl");
    let changed = lines
        .windows(2)
        .position(|pair| pair[0]["image"] != pair[1]["image"]);
    let (last, first) = {
        let n = changed.expect("another size");
        (&lines[n], &lines[n + 1])
    };
    assert_eq!(last["image"], serde_json::json!([320, 180]), "{last}");
    assert_eq!(first["image"], serde_json::json!([1280, 720]), "{first}");
    // Where the target was, in the new pixels, but for one step of the tracker.
    let center = |line: &Value| {
        [(0, 2), (1, 3)].map(|(from, length)| {
            line["box"][from].as_f64().unwrap() + line["box"][length].as_f64().unwrap() / 2.0
        })
    };
    for (before, after) in center(last).into_iter().zip(center(first)) {
        assert!((after - 4.0 * before).abs() < 40.0, "{last}\n{first}");
    }
    let end = lines.last().unwrap();
    assert_eq!(end["phase"], "tracking", "{end}");
}

#[test]
fn time_stamps_that_cannot_be_are_replaced_by_the_time_of_arrival() {
    let Some(session) = vivid_session() else {
        return;
    };
    configure_white(&session, 30, "");
    // Far in the future, and then before the beginning of time.
    let job = format!(
        "{}
        sleep 17
        {END}",
        START_WHITE.replace("osd_text_mode=2", "osd_text_mode=2,wrap_timestamp=1")
    );
    session.run(&job, 1_800);
    let lines = session.lines("track.jsonl");
    let at: Vec<i64> = lines
        .iter()
        .map(|line| line["t_micros"].as_i64().unwrap())
        .collect();
    assert!(lines.len() > 100);
    for (pair, line) in at.windows(2).zip(&lines[1..]) {
        assert!((1..1_000_000).contains(&(pair[1] - pair[0])), "{line}");
        assert!(line["latency_ms"].as_f64().unwrap() < 1_000.0, "{line}");
    }
}

#[test]
fn the_shipped_network_finds_its_target_again_within_a_second_of_frames_returning() {
    let Some(session) = vivid_session() else {
        return;
    };
    let clip = Clip::drive(Layout::Yuyv, 640, 480);
    session.write("frames", clip.frames[..1].concat());
    session.write(
        "roadhound.toml",
        format!(
            "{}[camera.v4l2]\ndevice = \"camera\"\nformat = \"yuyv\"\nwidth_px = 640\nheight_px = 480\n\
             [sinks.jsonl]\npath = \"track.jsonl\"\nqueue = 1000\n",
            clip.target()
        ),
    );
    let job = format!(
        "prepare() {{ loop_camera 640x480; }}
        load_vivid
        ./feed_camera $output YUYV 640 480 frames 100 & feed=$!
        wait_for ready 60
        ./roadhound run --config roadhound.toml 2>run.log & run=$!
        wait_for track.jsonl 60
        for n in 1 2 3; do
            more_lines 5
            control percentage_of_dropped_buffers=100
            sleep $((2 + n))
            control percentage_of_dropped_buffers=50
        done
        more_lines 10
        {END}
        echo yes >stop
        wait $feed"
    );
    session.run(&job, 1_800);
    let lines = session.lines("track.jsonl");
    let recoveries = recoveries_ms(&lines, 2_000.0);
    println!("tracked again after {recoveries:.0?} ms");
    assert!(lines.iter().any(|line| line["phase"] == "lost"));
    assert_eq!(recoveries.len(), 3, "{recoveries:?}");
    assert!(worst(&recoveries) < 1_000.0, "{recoveries:?}");
}
