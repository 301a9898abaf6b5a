//! What every reader produces: named sequences of frames with annotated boxes.
//!
//! Nothing here touches pixels. A frame names its image; [`super::store::ImageStore`] decodes it when somebody asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roadhound_shared::geometry::BoxXywh;

/// Identities from here on belong to regions that the pack does not name: two of them are never the same object.
pub const FIRST_UNNAMED_INSTANCE: u32 = 1 << 31;

/// One annotated object on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// Pixels of the image file as stored, origin top-left, 0-based.
    pub box_in_image: BoxXywh,
    /// Identity within the sequence.
    pub instance: u32,
    /// Our name of the class: see [`super::classes`].
    pub class: Arc<str>,
    /// Whether something hides a part of the object; `None` where the pack does not say.
    pub occluded: Option<bool>,
    /// The region holds objects that are not boxed one by one: never a target, and no proof of background.
    pub ignore: bool,
}

/// One image of a sequence and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The image file.
    pub path: Arc<Path>,
    /// Number of the frame as the pack counts them. Gaps are allowed, repeats are not.
    pub number: u32,
    /// Width and height of the image file where the annotation gives them; `None` means that its header has to be read.
    pub size_px: Option<(u32, u32)>,
    /// Everything annotated on this frame; empty means nothing known, not nothing there.
    pub annotations: Vec<Annotation>,
}

/// A video or a single still, frames in ascending order of their number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// Unique within its pack.
    pub name: Arc<str>,
    /// At least one frame.
    pub frames: Vec<Frame>,
    /// One recording: every image is as large as the first, so one header tells the size of all.
    pub is_video: bool,
    /// Sequences with the same scene may show the same objects and stay in one split. `None`: the sequence stands alone.
    pub scene: Option<Arc<str>>,
}

/// One target to be followed from its first frame: the unit of evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The folder's name, with `_ID` added where a folder holds several targets.
    pub name: String,
    /// Image files in order.
    pub frames: Vec<PathBuf>,
    /// One entry a frame, pixels of the stored image, 0-based; `None` where the target is absent.
    pub truth: Vec<Option<BoxXywh>>,
    /// Frames a second of the recording.
    pub fps: f64,
    /// Boxes were made with a detector's help and checked by eye: report them apart.
    pub assisted: bool,
    /// What the target is, where the data set says so.
    pub class: Option<Arc<str>>,
}
