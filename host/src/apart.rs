//! Files of one command that have to be different files.
//!
//! Enters: what a command reads and what it writes, each with the name that its user knows it by. Leaves: the first file that
//! is written and is also something else, before anything is opened. A source that is written over is gone; two outputs
//! in one file are neither.
//!
//! Files are the same where the file system says so, through links as well. Devices and pipes may be shared.
//!
//! ```
//! use roadhound_host::apart::{Read, Written, clash};
//! let folder = tempfile::tempdir()?;
//! let drive = folder.path().join("drive.mp4");
//! std::fs::write(&drive, "pictures")?;
//! let source = [Read { name: "the source", path: &drive, holds: &[] }];
//! let video = folder.path().join(".").join("drive.mp4");
//! let found = clash(&[Written { name: "--video", path: &video }], &source).expect("one file");
//! assert!(found.to_string().ends_with("drive.mp4: --video and the source are the same file"));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// A file or folder that is read.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// What its user calls it.
    pub name: &'a str,
    /// Where it is.
    pub path: &'a Path,
    /// Endings, in lower case, of what is read where `path` is a folder.
    pub holds: &'a [&'a str],
}

/// A file that is written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// What its user calls it.
    pub name: &'a str,
    /// Where it is, or will be.
    pub path: &'a Path,
}

/// A file with two meanings.
#[derive(Clone, Copy, Debug)]
pub struct Clash<'a> {
    /// What would be written.
    pub written: Written<'a>,
    /// What it is besides.
    pub other: &'a str,
}

impl fmt::Display for Clash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { name, path } = self.written;
        let other = self.other;
        let path = path.display();
        write!(f, "{path}: {name} and {other} are the same file")
    }
}

impl std::error::Error for Clash<'_> {}

/// The first of `written` that is also read, or written under another name.
pub fn clash<'a>(written: &[Written<'a>], read: &[Read<'a>]) -> Option<Clash<'a>> {
    for (n, file) in written.iter().enumerate() {
        let found = |other| {
            let written = *file;
            Some(Clash { written, other })
        };
        let Some(place) = Place::of(file.path) else {
            continue;
        };
        if let Some(other) = read.iter().find(|other| is_read(file.path, &place, other)) {
            return found(other.name);
        }
        let mut before = written[..n].iter();
        if let Some(other) = before.find(|other| Place::of(other.path).as_ref() == Some(&place)) {
            return found(other.name);
        }
    }
    None
}

fn is_read(path: &Path, place: &Place, read: &Read<'_>) -> bool {
    if !read.path.is_dir() {
        return Place::of(read.path).as_ref() == Some(place);
    }
    let ending = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    let is_held = ending.is_some_and(|ending| read.holds.contains(&ending.as_str()));
    // A file that is not there yet is not one of those that are read.
    is_held
        && path.is_file()
        && matches!((folder_of(path).canonicalize(), read.path.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// What makes two names one file.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A file that is there, by device and number: names of hard links differ.
    #[cfg(unix)]
    Node(u64, u64),
    /// Its whole path, links resolved as far as they go.
    Path(PathBuf),
}

impl Place {
    /// Nothing for devices, pipes and folders.
    fn of(path: &Path) -> Option<Self> {
        match std::fs::metadata(path) {
            Ok(at) if at.is_file() => Self::of_file(path, &at),
            Ok(_) => None,
            Err(_) => {
                let folder = folder_of(path);
                let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
                Some(Self::Path(folder.join(path.file_name()?)))
            }
        }
    }

    #[cfg(unix)]
    fn of_file(_: &Path, at: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self::Node(at.dev(), at.ino()))
    }

    #[cfg(not(unix))]
    fn of_file(path: &Path, _: &Metadata) -> Option<Self> {
        path.canonicalize().ok().map(Self::Path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written<'a>(paths: &'a [PathBuf]) -> Vec<Written<'a>> {
        let names = ["--out", "--jsonl", "--video"];
        let named = names.into_iter().zip(paths);
        named.map(|(name, path)| Written { name, path }).collect()
    }

    fn source(path: &Path) -> [Read<'_>; 1] {
        let name = "the source";
        let holds = &["png", "jpg"];
        [Read { name, path, holds }]
    }

    #[test]
    fn two_outputs_in_one_file_are_found_before_the_file_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let paths = [at("a.txt"), at("b.txt"), at("./a.txt")];
        let files = written(&paths);
        let drive = at("drive.mp4");
        let found = clash(&files, &source(&drive)).unwrap();
        assert_eq!((found.written.name, found.other), ("--video", "--out"));
        assert!(clash(&files[..2], &[]).is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_source_is_known_by_every_name_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("drive.mp4"), "pictures").unwrap();
        std::fs::hard_link(at("drive.mp4"), at("hard.mp4")).unwrap();
        std::os::unix::fs::symlink(at("drive.mp4"), at("soft.mp4")).unwrap();
        for name in ["drive.mp4", "hard.mp4", "soft.mp4"] {
            let paths = [at(name)];
            let (files, drive) = (written(&paths), at("drive.mp4"));
            let found = clash(&files, &source(&drive)).unwrap();
            assert_eq!(found.other, "the source", "{name}");
        }
        let paths = [at("drive.txt")];
        assert!(clash(&written(&paths), &source(&at("drive.mp4"))).is_none());
    }

    #[test]
    fn of_a_folder_only_what_is_read_from_it_is_kept_from_being_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["0001.JPG", "boxes.txt"] {
            std::fs::write(at(name), "").unwrap();
        }
        for (name, is_read) in [("0001.JPG", true), ("boxes.txt", false), ("new.jpg", false)] {
            let paths = [at(name)];
            let files = written(&paths);
            let found = clash(&files, &source(folder.path()));
            assert_eq!(found.is_some(), is_read, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_device_may_be_shared() {
        let paths = ["/dev/null".into(), "/dev/null".into()];
        assert!(clash(&written(&paths), &source(Path::new("/dev/null"))).is_none());
    }
}
