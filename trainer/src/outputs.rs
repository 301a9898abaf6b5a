//! What a run leaves: each file is there as a whole or not at all, and an error names it.
//!
//! In: a path and what belongs there. Out: the file ([`roadhound_host::whole`]). Logs that grow line by line are apart:
//! [`crate::train_loop`] has them.
//!
//! ```
//! use roadhound_trainer::outputs;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("a.png");
//! outputs::picture(&path, &image::RgbImage::new(4, 3))?;
//! assert_eq!(image::image_dimensions(&path)?, (4, 3));
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage};
use roadhound_host::whole;

/// Writes bytes or text.
///
/// # Errors
/// The file system's, with the path.
pub fn file(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    whole::write(path, bytes).with_context(|| format!("{}", path.display()))
}

/// Writes a picture in the format of its ending.
///
/// # Errors
/// An ending that is no format of pictures; the file system's. Both with the path.
pub fn picture(path: &Path, picture: &RgbImage) -> Result<()> {
    let shown = || format!("{}", path.display());
    let format = ImageFormat::from_path(path).with_context(shown)?;
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).with_context(shown)?;
    file(path, bytes.into_inner())
}
