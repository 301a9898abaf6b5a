//! JSON files of annotations, one entry at a time.
//!
//! In goes a file and what to do with its entries; nothing of it stays in memory but the entry being looked at. What is
//! wrong is told with the line and the column, since these files tend to be one line.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::marker::PhantomData;
use std::path::{Component, Path, PathBuf};

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use super::{DataError, LineProblem};

/// Reads one value from the whole of a file.
pub(crate) fn read<S, T>(path: &Path, seed: S) -> Result<T, DataError>
where
    S: for<'de> DeserializeSeed<'de, Value = T>,
{
    let file = File::open(path).map_err(DataError::io(path))?;
    let mut input = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 18, file));
    let value = seed
        .deserialize(&mut input)
        .map_err(|error| at(path, error))?;
    input.end().map_err(|error| at(path, error))?;
    Ok(value)
}

fn at(path: &Path, error: serde_json::Error) -> DataError {
    if error.is_io() {
        return DataError::io(path)(error.into());
    }
    let (line, column) = (error.line(), error.column());
    let said = error.to_string();
    let suffix = format!(" at line {line} column {column}");
    let reason = said.strip_suffix(&suffix).unwrap_or(&said).to_owned();
    let column = column as u64;
    DataError::line(
        path,
        line.max(1) as u64,
        LineProblem::Column { column, reason },
    )
}

/// Hands the entries of an array over, one by one.
pub(crate) struct Each<T, F> {
    take: F,
    entry: PhantomData<fn() -> T>,
}

impl<T, F: FnMut(T) -> Result<(), LineProblem>> Each<T, F> {
    pub(crate) fn new(take: F) -> Self {
        Self {
            take,
            entry: PhantomData,
        }
    }
}

impl<'de, T, F> DeserializeSeed<'de> for Each<T, F>
where
    T: DeserializeOwned,
    F: FnMut(T) -> Result<(), LineProblem>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de, T, F> Visitor<'de> for Each<T, F>
where
    T: DeserializeOwned,
    F: FnMut(T) -> Result<(), LineProblem>,
{
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<T>()? {
            (self.take)(entry).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// Yes or no, written as such or as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'de> serde::Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Flag;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("true, false, 0 or 1")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Flag, E> {
                Ok(Flag(value != 0))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Flag, E> {
                Ok(Flag(value != 0.0))
            }

            fn visit_unit<E>(self) -> Result<Flag, E> {
                Ok(Flag(false))
            }
        }
        input.deserialize_any(Either)
    }
}

/// A name, written as text or as a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(pub(crate) String);

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Name;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("text or a whole number")
            }

            fn visit_str<E>(self, value: &str) -> Result<Name, E> {
                Ok(Name(value.to_owned()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Name, E> {
                Ok(Name(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Name, E> {
                Ok(Name(value.to_string()))
            }
        }
        input.deserialize_any(Either)
    }
}

/// `folder/name`, unless that would be outside of `folder`.
pub(crate) fn inside(folder: &Path, name: &str) -> Result<PathBuf, LineProblem> {
    let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    match !name.is_empty() && Path::new(name).components().all(stays) {
        true => Ok(folder.join(name)),
        false => Err(LineProblem::Outside(name.to_owned())),
    }
}

/// A file's name without its extension, folders kept.
pub(crate) fn without_extension(name: &str) -> String {
    Path::new(name)
        .with_extension("")
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        let folder = Path::new("images");
        assert_eq!(
            inside(folder, "a/b.jpg").unwrap(),
            Path::new("images/a/b.jpg")
        );
        for name in ["../b.jpg", "/etc/b.jpg", "a/../../b.jpg", ""] {
            assert_eq!(inside(folder, name), Err(LineProblem::Outside(name.into())));
        }
    }

    #[test]
    fn flags_and_names_are_read_however_they_are_written() {
        let flags: Vec<Flag> = serde_json::from_str("[0, 1, true, false, 1.0, null]").unwrap();
        assert_eq!(
            flags.iter().map(|f| f.0).collect::<Vec<_>>(),
            [false, true, true, false, true, false]
        );
        let names: Vec<Name> = serde_json::from_str("[\"00012\", 12]").unwrap();
        assert_eq!((names[0].0.as_str(), names[1].0.as_str()), ("00012", "12"));
        assert!(
            serde_json::from_str::<Flag>("\"yes\"").is_err()
                && serde_json::from_str::<Name>("[]").is_err()
        );
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "[1,\n 2, x]").unwrap();
        let error = read(&path, Each::new(|_: u32| Ok(())))
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("a.json:2: column 5: expected value"),
            "{error}"
        );
        std::fs::write(&path, "[1, 2]\n").unwrap();
        let refuse = |n: u32| {
            if n == 2 {
                Err(LineProblem::Missing("two"))
            } else {
                Ok(())
            }
        };
        let error = read(&path, Each::new(refuse)).unwrap_err().to_string();
        assert!(
            error.contains("a.json:1: column ") && error.ends_with("no two"),
            "{error}"
        );
        std::fs::write(&path, "[1] 2").unwrap();
        assert!(
            read(&path, Each::new(|_: u32| Ok(())))
                .unwrap_err()
                .to_string()
                .contains("trailing")
        );
    }
}
