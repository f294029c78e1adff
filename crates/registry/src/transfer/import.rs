//! Import: images out of files become images of the registry.

mod image;
mod names;
mod stored;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use layout::{Entry, Images};
use tokio::sync::mpsc;

use super::{ImageName, Refusal, Stop, TransferProgress, add, blocking};
use crate::{Error, Registry};
use image::{Image, Seen};
use names::{Names, Survey};

/// Entries of an index that are read ahead.
const READ_AHEAD: usize = 64;

/// An import of images out of files.
pub struct ImportImages {
    /// Where to; without one, it is only looked whether all is well.
    pub registry: Option<Registry>,
    /// Where from.
    pub images: Arc<Images>,
    /// What the image is to be called, or the repository of all; `None`: as it is called there.
    pub name: Option<ImageName>,
    /// Reads everything and stores nothing.
    pub dry_run: bool,
    /// How far it is.
    pub progress: Arc<TransferProgress>,
}

impl ImportImages {
    /// Takes all images in. One that is not what it should be, or that names what is nowhere, is
    /// handed to `refuse`, and the others go on; it gets no tag.
    pub async fn run(&self, mut refuse: impl FnMut(&Refusal) + Send) -> Result<(), Error> {
        let mut names = match self.survey().await {
            Ok(names) => names,
            Err(Stop::Refused(problem) | Stop::Output(problem)) => {
                self.refuse("", &problem, &mut refuse);
                return Ok(());
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
        self.progress.expected.store(names.entries(), Ordering::Relaxed);
        let mut seen = Seen::default();
        let (sender, mut entries) = mpsc::channel(READ_AHEAD);
        let images = Arc::clone(&self.images);
        let reading = tokio::task::spawn_blocking(move || {
            images.each_entry(|entry| match sender.blocking_send(entry) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        while let Some(entry) = entries.recv().await {
            let place = entry.place.clone();
            match self.import(entry, &mut names, &mut seen).await {
                Ok(()) => {}
                Err(Stop::Refused(problem) | Stop::Output(problem)) => {
                    self.refuse(&place, &problem, &mut refuse);
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
            add(&self.progress.done, 1);
        }
        match reading.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.refuse("", &error.to_string(), &mut refuse),
            Err(error) => {
                let problem = format!("the files were not read to their end: {error}");
                self.refuse("", &problem, &mut refuse);
            }
        }
        Ok(())
    }

    fn refuse(&self, place: &str, problem: &str, refuse: &mut impl FnMut(&Refusal)) {
        add(&self.progress.refused, 1);
        refuse(&Refusal::new(place, problem));
    }

    /// Goes through the index once, to know what can be said without looking at one image.
    async fn survey(&self) -> Result<Names, Stop> {
        let images = Arc::clone(&self.images);
        let name = self.name.clone();
        let survey = blocking(move || {
            let mut survey = Survey::new(name);
            images.each_entry(|entry| {
                survey.add(&entry);
                ControlFlow::Continue(())
            })?;
            Ok(survey)
        });
        survey.await?.finish().map_err(Stop::Refused)
    }

    async fn import(&self, entry: Entry, names: &mut Names, seen: &mut Seen) -> Result<(), Stop> {
        let (descriptor, label) = entry.found.map_err(Stop::Refused)?;
        let name = names.of(label.as_ref(), &descriptor.digest).map_err(Stop::Refused)?;
        let Some(ImageName { repository, tag }) = name else { return Ok(()) };
        seen.enter(&repository);
        let mut image = Image { import: self, repository: &repository, seen };
        image.take(&descriptor, 0, tag.as_ref()).await?;
        add(&self.progress.images, 1);
        Ok(())
    }
}
