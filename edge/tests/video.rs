//! Videos in and out: the right pictures, in the right order, at the right times.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::data;
use proptest::prelude::*;
use roadhound_edge::sink::video::VideoSink;
use roadhound_edge::source::{Options, Pixels, open};
use roadhound_shared::frame::{PixelFormat, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::tracker::{Phase, Report};

/// The fixtures show a white square, 16 px wide, whose left edge is at `4 + 3 * frame`.
fn square_left_px(pixels: &Pixels<'_>) -> usize {
    let width = pixels.width_px() as usize;
    let row = 32 * width;
    let bright = |x: usize| match *pixels {
        Pixels::Nv12 { luma, .. } => luma[row + x] > 160,
        Pixels::Packed {
            format: PixelFormat::Rgb8,
            data,
            ..
        } => data[(row + x) * 3 + 1] > 160,
        Pixels::Packed { .. } => panic!("a colour video became {pixels:?}"),
    };
    (0..width).find(|&x| bright(x)).unwrap()
}

fn check_walk(name: &str) {
    let mut source = open(&data(name), &Options::default()).unwrap();
    assert_eq!(source.frames_expected(), Some(24));
    assert!((source.fps() - 25.0).abs() < 0.01, "{}", source.fps());
    for index in 0..24 {
        let frame = source.next_frame().unwrap().unwrap();
        assert_eq!(
            (frame.pixels.width_px(), frame.pixels.height_px()),
            (96, 64)
        );
        assert_eq!(frame.captured_at, Timestamp(40_000 * index));
        let expected = 4 + 3 * index as usize;
        let found = square_left_px(&frame.pixels);
        assert!(
            found.abs_diff(expected) <= 1,
            "frame {index}: square at {found}, expected {expected}"
        );
    }
    assert!(source.next_frame().unwrap().is_none());
    assert!(source.next_frame().unwrap().is_none());
}

#[test]
fn h264_with_b_frames_comes_in_display_order() {
    check_walk("walk_bframes.mp4");
}

#[test]
fn mjpeg_avi_comes_frame_by_frame() {
    check_walk("walk_mjpeg.avi");
}

fn report(captured_at: Timestamp) -> Report {
    Report {
        box_in_image: Some(BoxXywh::new(20.0, 20.0, 30.0, 20.0)),
        phase: Phase::Tracking,
        score: 0.9,
        presence: 0.8,
        similarity: 0.7,
        captured_at,
        since: Timestamp(0),
    }
}

#[test]
fn a_video_larger_than_8k_is_refused_and_one_of_8k_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let first_frame = |width_px: u32, height_px: u32| {
        let path = folder.path().join(format!("{height_px}.mp4"));
        let data = vec![120; (width_px * height_px) as usize];
        let pixels = Pixels::Packed {
            format: PixelFormat::Grey8,
            width_px,
            height_px,
            data: &data,
        };
        let mut sink = VideoSink::create(&path, 25.0).unwrap();
        sink.write(&pixels, &report(Timestamp(0))).unwrap();
        sink.finish().unwrap();
        let mut source = open(&path, &Options::default()).unwrap();
        let frame = source.next_frame();
        frame.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(first_frame(7680, 4320), Ok(()));
    let said = first_frame(7680, 4336).unwrap_err();
    assert!(said.contains("larger than this program decodes"), "{said}");
}

#[test]
fn annotated_video_reads_back_with_its_size_times_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    let (width, height) = (160usize, 96usize);
    let picture = |k: usize| -> Vec<u8> {
        (0..width * height)
            .flat_map(|i| [(i % width + 3 * k) as u8, (i / width * 2) as u8, 90])
            .collect()
    };
    // Uneven times: the second half at half the rate.
    let times: Vec<u64> = (0..20u64)
        .map(|k| {
            if k < 10 {
                k * 40_000
            } else {
                k * 80_000 - 400_000
            }
        })
        .collect();
    let mut sink = VideoSink::create(&path, 25.0).unwrap();
    for (k, &micros) in times.iter().enumerate() {
        let data = picture(k);
        let pixels = Pixels::Packed {
            format: PixelFormat::Rgb8,
            width_px: width as u32,
            height_px: height as u32,
            data: &data,
        };
        sink.write(&pixels, &report(Timestamp(micros))).unwrap();
    }
    sink.finish().unwrap();

    let mut source = open(&path, &Options::default()).unwrap();
    for (k, &micros) in times.iter().enumerate() {
        let frame = source.next_frame().unwrap().unwrap();
        assert!(
            frame.captured_at.0.abs_diff(micros) <= 12,
            "{k}: {:?}",
            frame.captured_at
        );
        let Pixels::Nv12 { luma, .. } = frame.pixels else {
            panic!("H.264 decodes to NV12")
        };
        let expected = picture(k);
        // Away from the drawing, luma is that of the picture up to compression.
        let mut error = 0.0;
        let mut count = 0.0;
        for y in 60..height {
            for x in 0..width {
                let p = &expected[(y * width + x) * 3..][..3];
                let y_true = 16.0
                    + 0.257 * f64::from(p[0])
                    + 0.504 * f64::from(p[1])
                    + 0.098 * f64::from(p[2]);
                error += (f64::from(luma[y * width + x]) - y_true).powi(2);
                count += 1.0;
            }
        }
        let psnr = 10.0 * (255.0f64.powi(2) / (error / count)).log10();
        assert!(psnr > 32.0, "frame {k}: {psnr} dB");
        // The green frame of the box is there.
        assert!(
            luma[20 * width + 35].abs_diff(150) < 25,
            "{}",
            luma[20 * width + 35]
        );
    }
    assert!(source.next_frame().unwrap().is_none());
}

/// Reads all that can be read; gives the number of frames.
fn drain(path: &Path) -> usize {
    let Ok(mut source) = open(path, &Options::default()) else {
        return 0;
    };
    let mut count = 0;
    while let Ok(Some(_)) = source.next_frame() {
        count += 1;
        assert!(count <= 1000, "a source of 24 frames has no end");
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_videos_are_read_to_an_end(
        avi: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        kept in 0.2f64..1.2,
    ) {
        let name = if avi { "walk_mjpeg.avi" } else { "walk_bframes.mp4" };
        let mut bytes = std::fs::read(data(name)).unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate((bytes.len() as f64 * kept) as usize);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(drain(&path) <= 30);
    }
}
