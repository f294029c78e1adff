//! The few types that both engines share.

use oci::Digest;

use crate::{Error, ErrorKind};

/// A parameter or a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// One row of an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Row(pub(super) Vec<Value>);

impl Row {
    pub(crate) fn values(&self) -> &[Value] {
        &self.0
    }

    pub(crate) fn integer(&self, column: usize) -> Result<i64, Error> {
        match self.0.get(column) {
            Some(Value::Integer(value)) => Ok(*value),
            other => Err(unexpected("an integer", column, other)),
        }
    }

    /// A size or count: an integer that is not negative.
    pub(crate) fn unsigned(&self, column: usize) -> Result<u64, Error> {
        let value = self.integer(column)?;
        u64::try_from(value).map_err(|_| unexpected("a size", column, Some(&Value::Integer(value))))
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, Error> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(value.clone()),
            other => Err(unexpected("a text", column, other)),
        }
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<String>, Error> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.text(column).map(Some),
        }
    }

    pub(crate) fn is_null(&self, column: usize) -> bool {
        matches!(self.0.get(column), Some(Value::Null))
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], Error> {
        match self.0.get(column) {
            Some(Value::Bytes(value)) => Ok(value),
            other => Err(unexpected("bytes", column, other)),
        }
    }

    pub(crate) fn digest(&self, column: usize) -> Result<Digest, Error> {
        let bytes = self.bytes(column)?;
        Digest::from_bytes(bytes).map_err(|error| {
            Error::new(ErrorKind::Damaged, format!("column {column} is not a digest: {error}"))
        })
    }

    /// A text that must parse, such as a repository's name.
    pub(crate) fn parse<T>(&self, column: usize) -> Result<T, Error>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.text(column)?;
        text.parse().map_err(|error| {
            Error::new(ErrorKind::Damaged, format!("column {column} holds {text:?}: {error}"))
        })
    }
}

fn unexpected(expected: &str, column: usize, found: Option<&Value>) -> Error {
    Error::new(
        ErrorKind::Damaged,
        format!("expected {expected} in column {column}, found {found:?}"),
    )
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&Digest> for Value {
    fn from(digest: &Digest) -> Self {
        Self::Bytes(digest.to_bytes())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A size as the database keeps it. Sizes over `i64::MAX` do not occur: uploads are counted.
pub(crate) fn size(size: u64) -> Value {
    Value::Integer(i64::try_from(size).unwrap_or(i64::MAX))
}
