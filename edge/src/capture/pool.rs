//! Frames that are used again once nobody holds them any more.
//!
//! Leaves: an empty frame to fill, and shared handles of full ones. The tracker, the recorder and the preview may all
//! hold the same picture without a copy; the pool is bounded, so a reader that never lets go costs frames, not memory.
//!
//! ```
//! use roadhound_edge::capture::pool::Pool;
//! let mut pool = Pool::new(2);
//! let a = pool.fill(|frame| frame.sequence = 1).expect("one of two");
//! let b = pool.fill(|frame| frame.sequence = 2).expect("two of two");
//! assert!(pool.fill(|_| ()).is_none()); // both are held
//! drop(a);
//! assert_eq!(pool.fill(|frame| frame.sequence = 3).expect("used again").sequence, 3);
//! # drop(b);
//! ```

use std::sync::Arc;

use super::Frame;

/// The frames.
#[derive(Debug)]
pub struct Pool {
    frames: Vec<Arc<Frame>>,
}

impl Pool {
    /// A pool of this many frames; their buffers grow when they are first filled.
    pub fn new(frames: usize) -> Self {
        Self {
            frames: (0..frames).map(|_| Arc::default()).collect(),
        }
    }

    /// Hands a frame that nobody holds to `fill` and shares it; `None` where all are held.
    pub fn fill(&mut self, fill: impl FnOnce(&mut Frame)) -> Option<Arc<Frame>> {
        let free = self
            .frames
            .iter_mut()
            .find_map(|frame| Arc::get_mut(frame).is_some().then_some(frame))?;
        fill(Arc::get_mut(free)?);
        Some(Arc::clone(free))
    }
}
