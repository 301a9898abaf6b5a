//! Files that are there as a whole or not at all.
//!
//! Enters: a path and bytes. Leaves: the file, written beside its place and renamed, so that whoever reads sees the old
//! one or the new one, and a full disk or a cut of power leaves no half of it. What was written beside is taken away
//! again when something fails.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("page.html");
//! roadhound_host::whole::write(&path, "<p>all of it</p>")?;
//! assert_eq!(std::fs::read_to_string(&path)?, "<p>all of it</p>");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Puts `bytes` at `path`.
///
/// # Errors
/// The system's; what was at `path` is then still there, unchanged.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes.as_ref()))
}

/// Puts at `path` what `fill` writes.
///
/// # Errors
/// Those of `fill` and the system's; what was at `path` is then still there, unchanged.
pub fn write_with<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    // A pipe or a device (`/dev/stdout`) cannot be renamed over, and has no half of a file to leave.
    if std::fs::metadata(path).is_ok_and(|at| !at.is_file() && !at.is_dir()) {
        return fill(&mut File::options().write(true).open(path)?);
    }
    let beside = partial(path)?;
    let written = File::create(&beside)
        .map_err(E::from)
        .and_then(|mut file| {
            fill(&mut file)?;
            // Before the new name: a system that crashes may otherwise remember the name and not the bytes.
            Ok(file.sync_all()?)
        })
        .and_then(|()| Ok(std::fs::rename(&beside, path)?));
    if written.is_err() {
        // There may be none; the first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// The name beside the place: the whole name and an ending, so that `a.csv` and `a.html` do not meet.
fn partial(path: &Path) -> io::Result<PathBuf> {
    let mut name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?
        .to_owned();
    name.push(".partial");
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write(&path, "old").unwrap();
        write(&path, "new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a.csv"]);
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_file_and_no_half_of_the_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write(&path, "old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.csv"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_in_place() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_folder_in_the_way_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::create_dir(&path).unwrap();
        assert!(write(&path, "new").is_err());
        assert!(write(Path::new("/"), "new").is_err());
        assert_eq!(names(folder.path()), ["a.csv"]);
    }
}
