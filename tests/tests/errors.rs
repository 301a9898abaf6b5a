//! Errors say each reason once. The rule is checked on the source, so that a new error cannot break it unseen.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use system_tests::workspace;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// What the text of every error says and what its fields are: from one `#[error(` to the next, or to the end of the type.
fn errors(text: &str) -> Vec<&str> {
    let starts: Vec<usize> = text.match_indices("#[error(").map(|(at, _)| at).collect();
    starts
        .iter()
        .enumerate()
        .map(|(i, &start)| {
            let rest = &text[start..starts.get(i + 1).copied().unwrap_or(text.len())];
            rest.find("\n}").map_or(rest, |end| &rest[..end])
        })
        .collect()
}

/// Whether an error's text holds what its chain of causes says again.
fn says_twice(error: &str) -> bool {
    let (text, fields) = error.split_once(")]").unwrap_or((error, ""));
    if text.contains("transparent") {
        return false;
    }
    let chained = fields.contains("#[from]")
        || fields.contains("#[source]")
        || fields.lines().any(|line| {
            line.trim_start()
                .trim_start_matches("pub ")
                .starts_with("source:")
        });
    chained && text.contains(['{'])
}

#[test]
fn the_rule_knows_right_from_wrong() {
    let wrong = [
        "#[error(\"{path}: {source}\")]\n    Io {\n        source: io::Error,\n    },",
        "#[error(\"cannot crop: {0}\")]\n    Crop(#[from] PreprocessError),",
        "#[error(\"{0}\")]\n    Io(#[source] io::Error),",
    ];
    let right = [
        "#[error(\"{path}: {reason}\")]\n    Io {\n        reason: io::Error,\n    },",
        "#[error(transparent)]\n    Io(#[from] io::Error),",
        "#[error(\"the function under test failed\")]\n    Candle(#[from] Error),",
    ];
    assert!(wrong.iter().all(|error| says_twice(error)));
    assert!(!right.iter().any(|error| says_twice(error)));
}

#[test]
fn no_error_holds_the_words_of_its_cause() {
    let mut files = Vec::new();
    for part in ["shared/src", "host/src", "trainer/src", "edge/src"] {
        sources(&workspace().join(part), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for error in errors(&text) {
            seen += 1;
            assert!(!says_twice(error), "{}: {error}", file.display());
        }
    }
    assert!(
        seen > 60,
        "only {seen} errors were found: the search is broken"
    );
}
