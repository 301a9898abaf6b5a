//! The one helper that touches the tracker's API: it puts objects into the outputs of a network.

use roadhound_shared::contract::{FollowContract, FollowSizes};
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::SearchOutputs;
use roadhound_shared::preprocess::CropWindow;
use roadhound_shared::tracker::{Report, Tracker, TrackerConfig};

pub(crate) const IMAGE_PX: (u32, u32) = (1280, 720);
pub(crate) const FRAME_MICROS: u64 = 33_333;

/// What the target looks like, and what something else looks like.
pub(crate) const TARGET: [f32; 4] = [1.0, 0.0, 0.0, 0.0];
pub(crate) const STRANGER: [f32; 4] = [0.0, 1.0, 0.0, 0.0];

pub(crate) fn car() -> BoxXywh {
    BoxXywh::new(600.0, 300.0, 80.0, 80.0)
}

/// Something that the network sees in the image.
#[derive(Clone, Copy)]
pub(crate) struct Object {
    pub(crate) box_in_image: BoxXywh,
    pub(crate) score: f32,
    pub(crate) looks: [f32; 4],
}

impl Object {
    pub(crate) fn target(box_in_image: BoxXywh) -> Self {
        Self {
            box_in_image,
            score: 0.9,
            looks: TARGET,
        }
    }

    pub(crate) fn stranger(box_in_image: BoxXywh) -> Self {
        Self {
            looks: STRANGER,
            ..Self::target(box_in_image)
        }
    }
}

pub(crate) fn contract() -> FollowContract {
    FollowContract::new(FollowSizes {
        embedding_size: 4,
        ..FollowSizes::default()
    })
    .unwrap()
}

/// A tracker that follows [`car`], and the clock of its camera.
pub(crate) struct Script {
    pub(crate) tracker: Tracker,
    outputs: SearchOutputs,
    search_px: u32,
    stride_px: u32,
    pub(crate) at: Timestamp,
    /// The usual window of the newest frame, and one looked at beside it.
    pub(crate) window: CropWindow,
    pub(crate) beside: Option<CropWindow>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::with(TrackerConfig::default())
    }

    pub(crate) fn with(config: TrackerConfig) -> Self {
        let contract = contract();
        let mut tracker = Tracker::new(config, &contract).unwrap();
        let at = Timestamp(1_000_000);
        let window = tracker.start(car(), IMAGE_PX.0, IMAGE_PX.1, at).unwrap();
        assert!(tracker.accept_template(&TARGET));
        Self {
            tracker,
            outputs: SearchOutputs::for_contract(&contract),
            search_px: contract.search_px,
            stride_px: contract.stride_px,
            at,
            window,
            beside: None,
        }
    }

    pub(crate) fn overridden(partial_toml: &str) -> Self {
        Self::with(TrackerConfig::default().overridden(partial_toml).unwrap())
    }

    /// The next frame, in which the network sees these objects.
    pub(crate) fn look(&mut self, presence: f32, objects: &[Object]) -> Report {
        self.look_after(FRAME_MICROS, presence, objects)
    }

    pub(crate) fn look_after(&mut self, micros: u64, presence: f32, objects: &[Object]) -> Report {
        let mut report = self.look_once_after(micros, presence, objects);
        while let Some(again) = self.look_again(presence, objects) {
            report = again;
        }
        report
    }

    /// Only the usual window of the next frame.
    pub(crate) fn look_once(&mut self, presence: f32, objects: &[Object]) -> Report {
        self.look_once_after(FRAME_MICROS, presence, objects)
    }

    fn look_once_after(&mut self, micros: u64, presence: f32, objects: &[Object]) -> Report {
        self.at.0 += micros;
        self.window = self.tracker.next_crop(self.at).unwrap();
        self.beside = None;
        self.write(self.window, presence, objects);
        self.tracker.accept(&self.outputs, self.at)
    }

    /// Another look at the same frame, if the tracker asks for one.
    pub(crate) fn look_again(&mut self, presence: f32, objects: &[Object]) -> Option<Report> {
        let window = self.tracker.next_look(self.at)?;
        self.beside = Some(window);
        self.write(window, presence, objects);
        Some(self.tracker.accept(&self.outputs, self.at))
    }

    /// The next frame, which shows the target at this place.
    pub(crate) fn see(&mut self, box_in_image: BoxXywh) -> Report {
        self.look(0.95, &[Object::target(box_in_image)])
    }

    /// The next frame, which shows nothing.
    pub(crate) fn see_nothing(&mut self) -> Report {
        self.look(0.1, &[])
    }

    pub(crate) fn skip(&mut self, micros: u64) -> Report {
        self.at.0 += micros;
        self.tracker.skip(self.at)
    }

    /// Frames that show nothing until the target is lost.
    pub(crate) fn lose(&mut self) -> Report {
        for _ in 0..100 {
            let report = self.see_nothing();
            if report.box_in_image.is_none() {
                return report;
            }
        }
        panic!("the target is never lost");
    }

    /// Writes what the search graph would say about this window.
    fn write(&mut self, window: CropWindow, presence: f32, objects: &[Object]) {
        let cells = self.search_px / self.stride_px;
        let plane = (cells * cells) as usize;
        self.outputs.score.fill(0.01);
        self.outputs.box_ltrb_px.fill(32.0);
        self.outputs.embedding.fill(0.5);
        self.outputs.presence = presence;
        for object in objects {
            let found = window
                .crop_from_image(self.search_px)
                .apply_box(&object.box_in_image);
            let (cx, cy) = found.center();
            let inside = 0.0..self.search_px as f32;
            if !inside.contains(&cx) || !inside.contains(&cy) {
                continue;
            }
            let (column, row) = (cx as u32 / self.stride_px, cy as u32 / self.stride_px);
            let cell = (row * cells + column) as usize;
            let x = (self.stride_px * column) as f32 + 0.5 * self.stride_px as f32;
            let y = (self.stride_px * row) as f32 + 0.5 * self.stride_px as f32;
            self.outputs.score[cell] = object.score;
            let ltrb = [
                x - found.x_px,
                y - found.y_px,
                found.right_px() - x,
                found.bottom_px() - y,
            ];
            for (side, distance) in ltrb.into_iter().enumerate() {
                self.outputs.box_ltrb_px[side * plane + cell] = distance;
            }
            for (channel, value) in object.looks.into_iter().enumerate() {
                self.outputs.embedding[channel * plane + cell] = value;
            }
        }
    }
}
