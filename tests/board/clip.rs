//! What is played into a camera: a rendered drive, a clip of a real one, in the layouts that cameras deliver.

use std::path::PathBuf;

use roadhound_edge::drive::{Drive, DriveConfig};
use roadhound_edge::source::{self, Options, Pixels};
use roadhound_shared::geometry::BoxXywh;

use crate::reach::repository;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    Yuyv,
    Nv12,
}

impl Layout {
    pub(crate) fn fourcc(self) -> &'static str {
        match self {
            Self::Yuyv => "YUYV",
            Self::Nv12 => "NV12",
        }
    }

    /// As configurations have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Yuyv => "yuyv",
            Self::Nv12 => "nv12",
        }
    }

    /// Rows of pixels as a camera would deliver them: limited range, chroma of the left and upper pixel.
    fn of(self, rgb: &[[u8; 3]], width: usize) -> Vec<u8> {
        let yuv = |p: &[u8; 3]| -> [u8; 3] {
            let [r, g, b] = p.map(f32::from);
            let y = 16.0 + 0.2568 * r + 0.5041 * g + 0.0979 * b;
            let u = 128.0 - 0.1482 * r - 0.2910 * g + 0.4392 * b;
            let v = 128.0 + 0.4392 * r - 0.3678 * g - 0.0714 * b;
            [y, u, v].map(|c| c.round() as u8)
        };
        let mut bytes = Vec::with_capacity(2 * rgb.len());
        match self {
            Self::Yuyv => {
                for pair in rgb.as_chunks::<2>().0 {
                    let ([y0, u, v], [y1, ..]) = (yuv(&pair[0]), yuv(&pair[1]));
                    bytes.extend([y0, u, y1, v]);
                }
            }
            Self::Nv12 => {
                bytes.extend(rgb.iter().map(|p| yuv(p)[0]));
                for row in rgb.chunks_exact(width).step_by(2) {
                    for p in row.iter().step_by(2) {
                        bytes.extend(&yuv(p)[1..]);
                    }
                }
            }
        }
        bytes
    }
}

/// Frames, one after another, and what is to be followed in the first.
pub(crate) struct Clip {
    pub(crate) name: &'static str,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) layout: Layout,
    pub(crate) target: BoxXywh,
    /// How long each frame is shown.
    pub(crate) frame_millis: u32,
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Clip {
    /// Five seconds of a rendered drive, in the middle of which the target is hidden for two.
    pub(crate) fn drive(layout: Layout, width: usize, height: usize) -> Self {
        const FRAMES: std::ops::Range<u32> = 25..80;
        let config = DriveConfig {
            width_px: width as u32,
            height_px: height as u32,
            frames: 100,
            fps: 10.0,
            ..DriveConfig::default()
        };
        let mut drive = Drive::new(config).unwrap();
        let mut rgb = Vec::new();
        let target = drive.render(FRAMES.start, &mut rgb).box_in_image.unwrap();
        let frames = FRAMES.map(|n| {
            drive.render(n, &mut rgb);
            layout.of(rgb.as_chunks::<3>().0, width)
        });
        Self {
            name: "rendered drive",
            width,
            height,
            layout,
            target,
            frame_millis: 100,
            frames: frames.collect(),
        }
    }

    /// Every second frame of a camera in a car, 3 s of it, brought to the size; `None`, and the reason, without the shared data.
    pub(crate) fn real(layout: Layout, width: usize, height: usize) -> Option<Self> {
        const FRAMES: usize = 40;
        let shared = std::env::var_os("ROADHOUND_SHARED")
            .map_or_else(|| repository().join("../shared"), PathBuf::from);
        let folder = shared.join("data/sequences/us_i280_highway");
        if !folder.is_dir() {
            println!("passed over: no {}", folder.display());
            return None;
        }
        // MOTChallenge: frame, identity, left, top, width, height. The largest that the border does not cut.
        let truth = std::fs::read_to_string(folder.join("gt.txt")).unwrap();
        let first: Vec<f32> = truth
            .lines()
            .map(|line| line.split(',').filter_map(|v| v.parse().ok()).collect())
            .filter(|v: &Vec<f32>| v[0] == 2.0 && v[2] > 8.0 && v[2] + v[4] < 952.0)
            .max_by(|a, b| (a[4] * a[5]).total_cmp(&(b[4] * b[5])))
            .unwrap();
        let options = Options {
            fps: Some(30.0),
            raw: None,
        };
        let mut source = source::open(&folder.join("img"), &options).unwrap();
        let mut frames = Vec::new();
        let mut scale = (1.0, 1.0);
        while frames.len() < FRAMES {
            let long_enough = "a clip of a few seconds";
            source.next_frame().unwrap().expect(long_enough);
            let frame = source.next_frame().unwrap().expect(long_enough);
            let Pixels::Packed {
                width_px,
                height_px,
                data,
                ..
            } = frame.pixels
            else {
                panic!("JPEG decodes to RGB")
            };
            let (w, h) = (width_px as usize, height_px as usize);
            scale = (width as f32 / w as f32, height as f32 / h as f32);
            let pixels = data.as_chunks::<3>().0;
            let resized: Vec<[u8; 3]> = (0..width * height)
                .map(|at| pixels[at / width * h / height * w + at % width * w / width])
                .collect();
            frames.push(layout.of(&resized, width));
        }
        Some(Self {
            name: "highway",
            width,
            height,
            layout,
            target: BoxXywh::new(
                first[2] * scale.0,
                first[3] * scale.1,
                first[4] * scale.0,
                first[5] * scale.1,
            ),
            frame_millis: 80,
            frames,
        })
    }

    /// Size and layout as replays want to know them.
    pub(crate) fn raw(&self) -> String {
        format!("{}x{}:{}", self.width, self.height, self.layout.name())
    }

    /// `[target]` of the configuration.
    pub(crate) fn target(&self) -> String {
        let b = self.target;
        format!(
            "[target]\ninit = [{:?}, {:?}, {:?}, {:?}]\n",
            b.x_px, b.y_px, b.w_px, b.h_px
        )
    }
}
