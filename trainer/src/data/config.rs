//! Which packs there are, how they are laid out, and which of their boxes may be followed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use roadhound_shared::geometry::BoxXywh;
use serde::{Deserialize, Serialize};

use super::{DataError, voc};

/// How a pack is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackKind {
    /// `boxes.csv` and `images/SEQUENCE.EXT`: unrelated photographs.
    Stills,
    /// `boxes.csv` and `images/SEQUENCE/FRAME.EXT`: identities are kept from frame to frame.
    Video,
    /// `img/NAME.EXT` and `labels/NAME.txt` with lines `class cx cy w h` in shares of the image: [`yolo`](super::yolo).
    Yolo,
    /// `CLASS/CLASS-N/groundtruth.txt` and `img/`: [`lasot`](super::lasot).
    Lasot,
    /// `CLIP/groundtruth.txt` beside its images, with `absence.label` and `cover.label`: [`got10k`](super::got10k).
    Got10k,
    /// `RECORDING/gt/gt.txt` and `img1/`: [`mot`](super::mot).
    Mot,
    /// `label_02/DRIVE.txt` and `image_02/DRIVE/`: [`kitti`](super::kitti).
    Kitti,
    /// `TRAIN_0/anno/CLIP.txt` and `TRAIN_0/frames/CLIP/`: [`trackingnet`](super::trackingnet).
    #[serde(rename = "trackingnet")]
    TrackingNet,
    /// Scalabel JSON and `images/VIDEO/`: [`bdd100k`](super::bdd100k).
    Bdd100k,
    /// `Annotations/NAME.xml` and `JPEGImages/NAME.jpg`: [`voc`](super::voc).
    Voc,
    /// One JSON file and `images/`: [`coco`](super::coco).
    Coco,
}

impl PackKind {
    /// Keys of [`ReadConfig`] that a reader heeds; the others are refused, since they would do nothing.
    fn read_keys(self) -> &'static [&'static str] {
        match self {
            Self::Stills => &["classes"],
            Self::Video => &["classes", "fps"],
            Self::Yolo => &["class_names", "classes", "images", "labels"],
            Self::Lasot | Self::Got10k | Self::Mot | Self::TrackingNet => {
                &["classes", "fps", "keep_every", "list"]
            }
            Self::Bdd100k | Self::Coco => &["classes", "fps", "images", "keep_every", "labels"],
            Self::Voc => &["classes", "corners", "images", "labels", "list"],
            Self::Kitti => &["classes", "fps", "images", "keep_every", "labels", "list"],
        }
    }
}

/// Where the parts of a pack are and how they are read, for readers whose data sets come in several shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadConfig {
    /// Labels, relative to the pack's folder, instead of where the kind of pack has them.
    pub labels: Option<PathBuf>,
    /// Images, relative to the pack's folder, instead of where the kind of pack has them.
    pub images: Option<PathBuf>,
    /// A text file, relative to the pack's folder: only the clips or images whose names it lists, one a line.
    pub list: Option<PathBuf>,
    /// Names of numbered classes, from 0.
    pub class_names: Vec<String>,
    /// Of a video, every n-th frame only: neighbours show nearly the same, and large data sets then fit into memory.
    pub keep_every: u32,
    /// Frames a second of videos, by which frames have their numbers. Where not given, what a rendered pack's `truth.csv` says, or 30.
    pub fps: Option<f64>,
    /// How the corners of [`voc`](super::voc) boxes are counted.
    pub corners: voc::Corners,
    /// Our class by the pack's own spelling, before [`canonical`](super::classes::canonical); `"ignore"` makes ignore regions of a class.
    pub classes: BTreeMap<String, String>,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            labels: None,
            images: None,
            list: None,
            class_names: Vec::new(),
            classes: BTreeMap::new(),
            keep_every: 1,
            fps: None,
            corners: voc::Corners::default(),
        }
    }
}

impl ReadConfig {
    /// The first key that is set although `kind` does not heed it.
    fn unused_key(&self, kind: PackKind) -> Option<&'static str> {
        [
            ("labels", self.labels.is_some()),
            ("images", self.images.is_some()),
            ("list", self.list.is_some()),
            ("class_names", !self.class_names.is_empty()),
            ("classes", !self.classes.is_empty()),
            ("keep_every", self.keep_every != 1),
            ("fps", self.fps.is_some()),
            ("corners", self.corners != voc::Corners::default()),
        ]
        .into_iter()
        .find_map(|(key, set)| (set && !kind.read_keys().contains(&key)).then_some(key))
    }
}

/// One folder of training data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackConfig {
    /// Goes into object identities and messages.
    pub name: String,
    /// The folder's layout.
    pub kind: PackKind,
    /// Share of the pairs, relative to the other packs.
    pub weight: f32,
    /// Folder, relative to [`DataConfig::root`]; the pack's name where not given.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Kept for validation, by the name of a sequence or of a scene. Where not given, a hash of the scene's name decides
    /// ([`DataConfig::held_out_share`]).
    #[serde(default)]
    pub held_out: Option<Vec<String>>,
    /// Stills whose name starts so are not taken alone: names equal up to the last `_` show one scene, be it what a fixed
    /// camera, a drive or a simulated town shows. They may repeat a vehicle or a place, and therefore share a split and
    /// never serve as each other's negatives.
    #[serde(default)]
    pub fixed_camera_prefixes: Vec<String>,
    /// Where its parts are and how they are read.
    #[serde(default)]
    pub read: ReadConfig,
}

/// Which boxes may be followed. Measured in pixels of the image as held in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetFilter {
    /// Shorter side at least.
    pub min_side_px: f32,
    /// Area at least.
    pub min_area_px: f32,
    /// Longer over shorter side, below.
    pub max_aspect: f32,
    /// Share of the image's area, below.
    pub max_image_share: f32,
    /// Share of the box that lies on the image, at least.
    pub min_inside_share: f32,
}

impl Default for TargetFilter {
    fn default() -> Self {
        Self {
            min_side_px: 12.0,
            min_area_px: 360.0,
            max_aspect: 5.0,
            max_image_share: 0.6,
            min_inside_share: 0.7,
        }
    }
}

impl TargetFilter {
    /// Whether a box on an image of this size is worth following.
    pub fn accepts(&self, target: &BoxXywh, width_px: u32, height_px: u32) -> bool {
        let (w, h) = (target.w_px, target.h_px);
        w.min(h) >= self.min_side_px
            && w * h >= self.min_area_px
            && w.max(h) < self.max_aspect * w.min(h)
            && w * h < self.max_image_share * width_px as f32 * height_px as f32
            && target
                .clip(width_px, height_px)
                .is_some_and(|seen| seen.area() >= self.min_inside_share * w * h)
    }
}

/// Where the training data is and how much of it stays in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder that holds the packs.
    pub root: PathBuf,
    /// The packs to draw from.
    pub packs: Vec<PackConfig>,
    /// Decoded images kept, in MiB. Masks, where packs have any, take up to 64 beside them.
    pub cache_mib: u32,
    /// Images with a longer side are shrunk to it on load, their boxes with them.
    pub max_side_px: u32,
    /// Share of the sequences kept for validation where a pack does not list them.
    pub held_out_share: f32,
    /// Classes that mark ignore regions; `*_group` matches every name that ends in `_group`.
    pub ignore_classes: Vec<String>,
    /// Which boxes may be followed.
    pub target: TargetFilter,
}

impl Default for DataConfig {
    fn default() -> Self {
        let pack = |name: &str, kind, weight| PackConfig {
            name: name.into(),
            kind,
            weight,
            path: None,
            held_out: None,
            fixed_camera_prefixes: Vec::new(),
            read: ReadConfig::default(),
        };
        let mut davis = pack("vid_davis16val", PackKind::Video, 0.25);
        davis.held_out = Some(
            ["drift-chicane", "cows", "scooter-black", "bmx-trees"]
                .map(String::from)
                .to_vec(),
        );
        let mut mix = pack("in_traffic_mix", PackKind::Stills, 0.20);
        // Ten cameras, and a hundred pictures of one road; the others are photographs from all over the web.
        mix.fixed_camera_prefixes = vec!["in_cam_".into(), "in_web_11_".into()];
        // Five towns, none of which the hash takes: the one with the fewest pictures.
        let mut carla = pack("syn_carla", PackKind::Stills, 0.04);
        carla.fixed_camera_prefixes = vec!["carla_".into()];
        carla.held_out = Some(vec!["carla_Town04".into()]);
        let mut idd = pack("in_idd_lite", PackKind::Stills, 0.04);
        idd.fixed_camera_prefixes = vec!["idd_".into()];
        Self {
            root: "../shared/data/train".into(),
            packs: vec![
                davis,
                pack("bd_dhaka_road", PackKind::Stills, 0.22),
                mix,
                pack("in_autorickshaw_web", PackKind::Yolo, 0.08),
                carla,
                idd,
            ],
            cache_mib: 1536,
            max_side_px: 560,
            held_out_share: 0.05,
            ignore_classes: vec!["ignore".into(), "*_group".into()],
            target: TargetFilter::default(),
        }
    }
}

impl DataConfig {
    /// Checks what the types cannot: ranges and references between fields.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first field that cannot be used.
    pub fn validate(&self) -> Result<(), DataError> {
        let refuse = |field, value: String, reason| {
            Err(DataError::Config {
                field,
                value,
                reason,
            })
        };
        if self.packs.is_empty() {
            return refuse("packs", "[]".into(), "there is nothing to draw from");
        }
        for (index, pack) in self.packs.iter().enumerate() {
            if !(pack.weight.is_finite() && pack.weight >= 0.0) {
                return refuse(
                    "packs.weight",
                    pack.weight.to_string(),
                    "must be finite and not negative",
                );
            }
            if self.packs[..index]
                .iter()
                .any(|earlier| earlier.name == pack.name)
            {
                return refuse("packs.name", pack.name.clone(), "appears twice");
            }
            if let Some(key) = pack.read.unused_key(pack.kind) {
                let value = format!("{key} of {}", pack.name);
                return refuse("packs.read", value, "does nothing for this kind of pack");
            }
            if pack.read.keep_every == 0 {
                return refuse("packs.read.keep_every", "0".into(), "must be at least 1");
            }
            if let Some(fps) = pack.read.fps
                && !(0.01..=10_000.0).contains(&fps)
            {
                return refuse("packs.read.fps", fps.to_string(), "must be 0.01 to 10000");
            }
        }
        if !self.packs.iter().any(|pack| pack.weight > 0.0) {
            return refuse(
                "packs.weight",
                "0".into(),
                "at least one pack needs a weight above zero",
            );
        }
        if self.max_side_px < 32 {
            return refuse(
                "max_side_px",
                self.max_side_px.to_string(),
                "must be at least 32",
            );
        }
        if !(0.0..1.0).contains(&self.held_out_share) {
            return refuse(
                "held_out_share",
                self.held_out_share.to_string(),
                "must be in [0, 1)",
            );
        }
        Ok(())
    }

    pub(crate) fn ignores(&self, class: &str) -> bool {
        self.ignore_classes
            .iter()
            .any(|pattern| match pattern.strip_prefix('*') {
                Some(ending) => class.ends_with(ending),
                None => class == pattern,
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn group_pattern_matches_endings_only() {
        let config = DataConfig::default();
        assert!(
            config.ignores("ignore")
                && config.ignores("vehicle_group")
                && config.ignores("person_group")
        );
        assert!(
            !config.ignores("ignored")
                && !config.ignores("group_of_cars")
                && !config.ignores("car")
        );
    }

    #[test]
    fn configuration_round_trips_and_refuses_unknown_fields() {
        let config = DataConfig::default();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
        let error = toml::from_str::<DataConfig>("cache_mb = 3")
            .unwrap_err()
            .to_string();
        assert!(error.contains("cache_mb"), "{error}");
    }

    #[test]
    fn every_kind_of_pack_has_a_name_and_reading_keys_that_do_nothing_are_refused() {
        let parse = |kind: &str, key: &str| {
            let text = format!(
                "[[packs]]\nname = \"p\"\nkind = \"{kind}\"\nweight = 1.0\nread = {{ {key} }}\n"
            );
            toml::from_str::<DataConfig>(&text)
                .map_err(|e| e.to_string())
                .and_then(|config| config.validate().map_err(|e| e.to_string()))
        };
        let kinds = [
            "stills",
            "video",
            "yolo",
            "lasot",
            "got10k",
            "mot",
            "kitti",
            "trackingnet",
            "bdd100k",
            "voc",
            "coco",
        ];
        for kind in kinds {
            parse(kind, "").unwrap();
        }
        parse("voc", "corners = \"edges_from_zero\", list = \"train.txt\"").unwrap();
        parse(
            "bdd100k",
            "keep_every = 3, classes = { rider = \"cyclist\" }",
        )
        .unwrap();
        let error = parse("lasot", "labels = \"x\"").unwrap_err();
        assert!(
            error.contains("labels of p") && error.contains("does nothing"),
            "{error}"
        );
        assert!(
            parse("lasot", "keep_every = 0")
                .unwrap_err()
                .contains("keep_every")
        );
        assert!(parse("lasot", "stride = 2").unwrap_err().contains("stride"));
        parse("video", "fps = 10.0").unwrap();
        for (kind, key) in [
            ("stills", "fps = 10.0"),
            ("video", "fps = 0.0"),
            ("mot", "fps = nan"),
        ] {
            assert!(
                parse(kind, key).unwrap_err().contains("fps"),
                "{kind}: {key}"
            );
        }
    }

    #[test]
    fn impossible_settings_are_named() {
        let mut config = DataConfig::default();
        config.packs[1].weight = -1.0;
        assert!(config.validate().unwrap_err().to_string().contains("-1"));
        let config = DataConfig {
            held_out_share: 1.0,
            ..DataConfig::default()
        };
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("held_out_share")
        );
    }

    #[test]
    fn target_filter_draws_the_line_where_the_recipe_did() {
        let filter = TargetFilter::default();
        let accepts = |w, h| {
            filter.accepts(
                &BoxXywh {
                    x_px: 0.0,
                    y_px: 0.0,
                    w_px: w,
                    h_px: h,
                },
                400,
                300,
            )
        };
        assert!(accepts(12.0, 30.0) && accepts(59.0, 12.0) && accepts(300.0, 200.0));
        assert!(!accepts(11.9, 40.0), "too narrow");
        assert!(!accepts(18.0, 19.0), "too small");
        assert!(!accepts(60.0, 12.0), "too long");
        assert!(!accepts(390.0, 190.0), "fills the image");
        let at = |x_px| filter.accepts(&BoxXywh::new(x_px, 0.0, 100.0, 50.0), 400, 300);
        assert!(
            at(-20.0) && at(320.0) && !at(-40.0) && !at(340.0) && !at(1e9),
            "beyond the border"
        );
    }
}
