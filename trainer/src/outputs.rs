//! What a run leaves: each file, and each folder of files that belong together, is there as a whole or not at all, and an
//! error names it.
//!
//! In: a path and what belongs there. Out: the file ([`roadhound_host::whole`]) or the folder. Nothing is deleted that was not
//! put there by the same function. Logs that grow line by line are apart: [`crate::train_loop`] has them.
//!
//! ```
//! use roadhound_trainer::outputs;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("a.png");
//! outputs::picture(&path, &image::RgbImage::new(4, 3))?;
//! assert_eq!(image::image_dimensions(&path)?, (4, 3));
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::{ImageFormat, RgbImage};
use roadhound_host::whole;

/// Writes bytes or text.
///
/// # Errors
/// The file system's, with the path.
pub fn file(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    whole::write(path, bytes).with_context(|| format!("{}", path.display()))
}

/// The format of a picture by its ending: for those who want to know before they make it.
///
/// # Errors
/// An ending that is no format of pictures, or of none that we write; with the path.
pub fn picture_format(path: &Path) -> Result<ImageFormat> {
    let shown = || format!("{}", path.display());
    let format = ImageFormat::from_path(path).with_context(shown)?;
    if !format.writing_enabled() {
        bail!(
            "{}: expected a name that ends in .png or .jpg",
            path.display()
        );
    }
    Ok(format)
}

/// Writes a picture in the format of its ending.
///
/// # Errors
/// An ending that is no format of pictures; the file system's. Both with the path.
pub fn picture(path: &Path, picture: &RgbImage) -> Result<()> {
    let shown = || format!("{}", path.display());
    let format = picture_format(path)?;
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).with_context(shown)?;
    file(path, bytes.into_inner())
}

/// Puts a folder of `files` in the place of what is at `path`: nothing, an empty folder, or an older one of the kind, which
/// has a file `mark`. Whatever else that held, folders included, is in the new one too.
///
/// # Errors
/// Something else at `path`; the file system's, with the path. What was there is then there as it was.
pub fn folder<'a>(
    path: &Path,
    mark: &str,
    files: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<()> {
    let shown = |path: &Path| format!("{}", path.display());
    let old = entries(path).with_context(|| shown(path))?;
    if !old.is_empty() && !old.iter().any(|entry| entry.as_os_str() == mark) {
        bail!(
            "{}: holds other things and no {mark}; name a new folder",
            path.display()
        );
    }
    let fresh = beside(path).with_context(|| shown(path))?;
    let filled = fill(&fresh, files).and_then(|()| {
        keep(path, &fresh, &old).with_context(|| shown(path))?;
        swap(&fresh, path).with_context(|| shown(path))
    });
    if filled.is_err() {
        // What is in there was written or copied just now; the first error is the one to tell.
        let _ = std::fs::remove_dir_all(&fresh);
        return filled;
    }
    // The old folder, if there was one, is at `fresh` now. What of it is copied or replaced goes, the rest moves over.
    for entry in entries(&fresh).with_context(|| shown(&fresh))? {
        let (from, to) = (fresh.join(&entry), path.join(&entry));
        let done = match to.symlink_metadata() {
            Ok(_) => std::fs::remove_file(&from),
            Err(_) => std::fs::rename(&from, &to),
        };
        done.with_context(|| shown(&from))?;
    }
    match std::fs::remove_dir(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| shown(&fresh))
        }
        _ => Ok(()),
    }
}

/// Names of what is in a folder; none where there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| Ok(e?.file_name().into())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A new, empty folder beside `path`, under a name that nobody has.
fn beside(path: &Path) -> io::Result<PathBuf> {
    // `.` and `a/..` have no name of their own.
    let path = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize()?,
    };
    let name = path.file_name().unwrap_or_default().to_owned();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    for number in 0_u32.. {
        let mut name = name.clone();
        name.push(format!(".partial{number}"));
        let fresh = path.with_file_name(name);
        match std::fs::create_dir(&fresh) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| fresh),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn fill<'a>(folder: &Path, files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<()> {
    for (name, bytes) in files {
        file(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// Copies the files of the old folder that the new one has not got.
fn keep(old: &Path, fresh: &Path, entries: &[PathBuf]) -> io::Result<()> {
    for entry in entries {
        let (from, to) = (old.join(entry), fresh.join(entry));
        if from.is_file() && !to.exists() {
            std::fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// Puts `fresh` at `path`, and what was there, if anything, at `fresh`.
fn swap(fresh: &Path, path: &Path) -> io::Result<()> {
    if !path.exists() {
        return std::fs::rename(fresh, path);
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        // In one step, where the file system can: at no time there is nothing.
        if renameat_with(CWD, fresh, CWD, path, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    let aside = beside(path)?;
    // Onto an empty folder.
    std::fs::rename(path, &aside)?;
    if let Err(error) = std::fs::rename(fresh, path) {
        std::fs::rename(&aside, path)?;
        return Err(error);
    }
    std::fs::rename(&aside, fresh)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    const NEW: [(&str, &[u8]); 2] = [("graph", b"new"), ("mark", b"new")];

    /// Every file below a folder, and what it says.
    fn tree(root: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in entries(&folder).unwrap() {
                let path = folder.join(entry);
                if path.is_dir() {
                    open.push(path);
                } else {
                    let name = path.strip_prefix(root).unwrap().display().to_string();
                    found.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        found
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn is(found: &BTreeMap<String, String>, meant: &[(&str, &str)]) {
        let meant = meant
            .iter()
            .map(|(n, t)| ((*n).to_owned(), (*t).to_owned()));
        assert_eq!(*found, meant.collect());
    }

    #[test]
    fn an_older_folder_is_replaced_and_what_else_it_holds_stays() {
        let root = tempfile::tempdir().unwrap();
        let before = [
            ("b/graph", "old"),
            ("b/mark", "old"),
            ("b/notes.md", "mine"),
            ("b/clips/1.txt", "mine"),
            // Names that a program might think are its own.
            ("b.old/mark", "a copy"),
            ("b.partial/mark", "a copy"),
            ("b.partial0/mark", "a copy"),
        ];
        write(root.path(), &before);
        folder(&root.path().join("b"), "mark", NEW.into_iter()).unwrap();
        let mut after = before;
        (after[0].1, after[1].1) = ("new", "new");
        is(&tree(root.path()), &after);
    }

    #[test]
    fn a_new_or_empty_folder_is_filled() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("empty")).unwrap();
        for name in ["empty", "no/such/yet"] {
            folder(&root.path().join(name), "mark", NEW.into_iter()).unwrap();
        }
        let after = [
            "empty/graph",
            "empty/mark",
            "no/such/yet/graph",
            "no/such/yet/mark",
        ];
        is(&tree(root.path()), &after.map(|name| (name, "new")));
    }

    #[test]
    fn a_folder_of_other_things_is_refused_and_left_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let before = [("runs/s/last.safetensors", "a week"), ("file", "mine")];
        write(root.path(), &before);
        let refused = |name: &str| {
            let error = folder(&root.path().join(name), "mark", NEW.into_iter()).unwrap_err();
            format!("{error:#}")
        };
        assert!(
            refused("runs").ends_with("runs: holds other things and no mark; name a new folder")
        );
        assert!(refused("file").contains("Not a directory"));
        is(&tree(root.path()), &before);
    }

    #[test]
    fn an_error_on_the_way_leaves_the_old_folder_alone() {
        let root = tempfile::tempdir().unwrap();
        let before = [("b/graph", "old"), ("b/mark", "old")];
        write(root.path(), &before);
        let files = [("graph", &b"new"[..]), ("no/such/folder", b"new")];
        folder(&root.path().join("b"), "mark", files.into_iter()).unwrap_err();
        is(&tree(root.path()), &before);
        assert_eq!(entries(root.path()).unwrap(), [PathBuf::from("b")]);
    }
}
