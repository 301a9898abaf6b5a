//! An error with its causes, as the one line that a program says.
//!
//! Enters: an error. Leaves: its text and that of its causes, from the outermost to the innermost, without a line break.
//!
//! An error of ours has all of its reason in its own text and no source, or adds nothing and is transparent. Many of
//! other people's have it both in their text and as their source: what a line ends with already is not said again.

use std::error::Error;

/// The chain in one line, parts apart by `: `.
///
/// ```
/// use roadhound_host::line::of;
/// let error = "x".parse::<u8>().unwrap_err();
/// assert_eq!(of(&error), "invalid digit found in string");
/// ```
pub fn of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    joined(&text)
}

/// What a parser of arguments says, in one line: its first paragraph, without the head that it gives itself.
///
/// ```
/// use roadhound_host::line::usage;
/// let said = "error: the following arguments are missing:\n  --out <OUT>\n\nUsage: x --out <OUT>\n";
/// assert_eq!(usage(said), "the following arguments are missing: --out <OUT>");
/// ```
pub fn usage(said: &str) -> String {
    let lines = said.trim_start().lines().map(str::trim);
    let head: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    joined(head.join(" ").trim_start_matches("error: "))
}

/// Text without line breaks and without repeated spaces.
pub fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::io;

    use super::*;

    /// An error with a cause, whose text holds that of the cause or not.
    #[derive(Debug)]
    struct Outer {
        holds_cause: bool,
        cause: io::Error,
    }

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.holds_cause {
                true => write!(f, "a.txt: {}", self.cause),
                false => write!(f, "a.txt"),
            }
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.cause)
        }
    }

    #[test]
    fn a_cause_is_said_once_whether_the_text_before_holds_it_or_not() {
        for holds_cause in [true, false] {
            let cause = io::Error::other("no such file");
            assert_eq!(of(&Outer { holds_cause, cause }), "a.txt: no such file");
        }
    }

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        let cause = io::Error::other("first\n   second\r\n");
        let error = Outer {
            holds_cause: true,
            cause,
        };
        assert_eq!(of(&error), "a.txt: first second");
    }
}
