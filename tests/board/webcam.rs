//! The second backend on the same cameras. Passed over where the program was built without it:
//! `FEATURES="camera mqtt webcam" scripts/board-test.sh webcam` builds one with it.

use crate::common;
use crate::reach::{metric, vivid_session};

#[test]
fn by_the_second_backend_a_camera_is_followed_and_opened_again_after_a_stall_and_after_it_was_unplugged()
 {
    let Some(session) = vivid_session() else {
        return;
    };
    common::good_bundle(session.folder());
    session.write(
        "webcam.toml",
        "[model]\nbundle = \"bundle\"\n[target]\ninit = [100.0, 80.0, 60.0, 50.0]\n\
         [camera.webcam]\nindex = NUMBER\nwidth_px = 320\nheight_px = 180\nfps = 30\n\
         [sinks.jsonl]\npath = \"track.jsonl\"\nqueue = 1000\n[metrics]\ntextfile = \"roadhound.prom\"\nevery_seconds = 1\n",
    );
    let job = "
        prepare() { control test_pattern=6,osd_text_mode=2; }
        load_vivid
        sed s/NUMBER/${capture#/dev/video}/ webcam.toml >roadhound.toml
        ./roadhound run --config roadhound.toml 2>run.log & run=$!
        until [ -s track.jsonl ]; do
            if ! kill -0 $run; then
                grep 'without the feature' run.log >missing
                exit
            fi
            sleep 0.1
        done
        more_lines 20
        # A thread that waits for a frame cannot be told to stop: the camera is open again once there are frames.
        control percentage_of_dropped_buffers=100
        until_more \"says 'still held by a stream'\" 0
        control percentage_of_dropped_buffers=0
        until_more \"says ': open, '\" 1
        more_lines 20
        open=$(says ': open, ')
        unplug
        until_more \"says 'Could not capture frame'\" 0
        plug
        until_more \"says ': open, '\" $open
        more_lines 20
        kill -TERM $run
        wait $run
    ";
    session.run(job, 1_800);
    if !session.read("missing").is_empty() {
        println!("passed over: {}", session.read("missing").trim());
        return;
    }
    println!("{}", session.read("run.log"));
    let prom = session.read("roadhound.prom");
    let closed = |cause: &str| {
        let name = format!("roadhound_camera_closed_total{{cause=\"{cause}\"}}");
        metric(&prom, &name)
    };
    assert_eq!((closed("stalled"), closed("io")), (1.0, 1.0), "{prom}");
    let lines = session.lines("track.jsonl");
    assert_eq!(lines.last().unwrap()["phase"], "tracking");
    assert!(
        lines
            .iter()
            .all(|line| line["image"] == serde_json::json!([320, 180]))
    );
}
