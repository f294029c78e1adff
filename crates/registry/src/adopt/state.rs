//! How the database stands to the link files beside it.

use std::fmt;
use std::str::FromStr;

use metadata::adoption::Precedence;
use metadata::{Error, ErrorKind};

/// The setting that holds the state.
pub(super) const SETTING: &str = "adoption";

/// How the database stands to the link files. Times are microseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// No link file was ever read or written.
    Never,
    /// A round is on.
    Reading(Rule),
    /// All were read, the last one then. The database counts, the link files are out of date.
    Done(i64),
    /// An export is writing them, or was cut short.
    Exporting,
    /// An export has written them then. What registry:2 makes of them counts from then on.
    Exported(i64),
}

/// What a round does with what the database knows already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// The first round: links add to the database, which is right where both say something.
    Merge,
    /// After an export: the links are right, and what they do not have was deleted.
    Mirror,
    /// Asked for without an export: links that were written after `since` can only be of another
    /// registry and add to the database. Which links it removed can not be told.
    Update {
        /// When the database had them all.
        since: i64,
    },
}

impl Rule {
    /// Links that are not newer are left out.
    pub(crate) fn since(self) -> Option<i64> {
        match self {
            Self::Merge | Self::Mirror => None,
            Self::Update { since } => Some(since),
        }
    }

    pub(crate) fn precedence(self) -> Precedence {
        match self {
            Self::Merge => Precedence::Database,
            Self::Mirror => Precedence::Link,
            Self::Update { .. } => Precedence::Later,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Reading(Rule::Merge) => f.write_str("merging"),
            Self::Reading(Rule::Mirror) => f.write_str("mirroring"),
            Self::Reading(Rule::Update { since }) => write!(f, "updating {since}"),
            Self::Done(at) => write!(f, "done {at}"),
            Self::Exporting => f.write_str("exporting"),
            Self::Exported(at) => write!(f, "exported {at}"),
        }
    }
}

impl FromStr for State {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (word, time) = text.split_once(' ').unwrap_or((text, "0"));
        let state = match (word, time.parse()) {
            ("never", _) => Self::Never,
            ("merging", _) => Self::Reading(Rule::Merge),
            ("mirroring", _) => Self::Reading(Rule::Mirror),
            ("updating", Ok(since)) => Self::Reading(Rule::Update { since }),
            ("done", Ok(at)) => Self::Done(at),
            ("exporting", _) => Self::Exporting,
            ("exported", Ok(at)) => Self::Exported(at),
            _ => {
                let message = format!("the state of the adoption is {text:?}, which is unknown");
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        };
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_text() {
        for state in [
            State::Never,
            State::Reading(Rule::Merge),
            State::Reading(Rule::Mirror),
            State::Reading(Rule::Update { since: 7 }),
            State::Done(-1),
            State::Exporting,
            State::Exported(9),
        ] {
            assert_eq!(state.to_string().parse::<State>().unwrap(), state);
        }
        assert!("gone".parse::<State>().is_err());
        assert!("done soon".parse::<State>().is_err());
    }
}
