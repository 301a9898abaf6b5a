//! What the readers' tests share: folders of small files, and packs made of them.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::{DataConfig, Dataset, PackConfig, PackKind, ReadConfig};

/// A folder that holds these files and is gone when dropped.
pub(crate) fn write_files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// A configuration with this folder as its only pack.
pub(crate) fn config_of(folder: &Path, kind: PackKind, read: ReadConfig) -> DataConfig {
    DataConfig {
        root: folder.to_owned(),
        packs: vec![PackConfig {
            name: "pack".into(),
            kind,
            weight: 1.0,
            path: Some(".".into()),
            held_out: None,
            fixed_camera_prefixes: vec![],
            read,
        }],
        ..DataConfig::default()
    }
}

/// Opens a configuration that must open.
pub(crate) fn open(config: &DataConfig) -> Dataset {
    Dataset::open(config).unwrap_or_else(|error| panic!("{error}"))
}
