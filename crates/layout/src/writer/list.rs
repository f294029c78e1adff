//! A JSON list that grows on disk: that of a whole registry may be long.

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Seek, Write};

use serde::Serialize;

use crate::Error;

/// A list whose end is not known yet.
pub(super) struct List {
    file: BufWriter<File>,
    length: u64,
}

/// A document of known length.
pub(super) struct Document {
    pub(super) length: u64,
    pub(super) content: Box<dyn Read>,
}

impl List {
    pub(super) fn new() -> Result<Self, Error> {
        let file = tempfile::tempfile().map_err(failed)?;
        Ok(Self { file: BufWriter::new(file), length: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn add(&mut self, element: &impl Serialize) -> Result<(), Error> {
        let mut text = if self.is_empty() { Vec::new() } else { b",".to_vec() };
        serde_json::to_writer(&mut text, element).map_err(|error| failed(error.into()))?;
        self.length += text.len() as u64;
        self.file.write_all(&text).map_err(failed)
    }

    /// The whole document: `start`, the elements, `end`.
    pub(super) fn finish(self, start: &'static str, end: &'static str) -> Result<Document, Error> {
        let length = self.length + start.len() as u64 + end.len() as u64;
        let mut file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.rewind().map_err(failed)?;
        let content = Box::new(Cursor::new(start).chain(file).chain(Cursor::new(end)));
        Ok(Document { length, content })
    }
}

fn failed(error: std::io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::io("write a file in", &folder, error)
}
