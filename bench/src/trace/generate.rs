//! Deals the operations: first how many of each kind, then one after the other what they are about.

use std::collections::HashSet;

use super::size::{CLASSES, Class};
use super::{Action, Extent, Image, Layer, Operation, REPOSITORIES, Trace};
use crate::random::{Random, Zipf};

const SEED: u64 = 0xfa57_2018;

const CLIENTS: usize = 64;
const LAYERS: u32 = 600;
const IMAGES: usize = 300;
const POPULARITY: f64 = 1.0;

/// Half of the images have no more than 8 layers, nine of ten no more than 18.
const MEDIAN_LAYERS: f64 = 8.0;
const LAYERS_DEVIATION: f64 = 0.633;
const MOST_LAYERS: f64 = 60.0;

/// Part of the blobs that the client has fetched before.
const AGAIN: f64 = 0.26;
/// Part of the reads that go to what was pushed a short time before.
const FRESH: f64 = 0.25;
/// For so many pushed images is something fresh.
const FRESH_IMAGES: usize = 6;
/// A client pulls what another has pushed so many operations before.
const DISTANCE: usize = 100;

/// What an operation is, before it is known what it is about. The shares are of all requests, and
/// make 79.0 % GET, 11.0 % HEAD, 5.2 % PUT, 2.9 % POST and 1.9 % PATCH, and blobs 31 % of all.
#[derive(Clone, Copy, Debug)]
enum Kind {
    GetBlob,
    GetManifest,
    HeadBlob,
    HeadManifest,
    PutManifest,
    StreamBlob,
    PutBlob,
}

const KINDS: [(Kind, f64); 7] = [
    (Kind::GetBlob, 0.310),
    (Kind::GetManifest, 0.480),
    (Kind::HeadBlob, 0.055),
    (Kind::HeadManifest, 0.055),
    (Kind::PutManifest, 0.023),
    (Kind::StreamBlob, 0.019),
    (Kind::PutBlob, 0.010),
];

pub(super) fn generate(extent: Extent) -> Trace {
    let mut random = Random::new(SEED);
    let layers = layers(&mut random, extent.divisor);
    let images: Vec<Image> =
        (0..IMAGES).map(|number| image(&mut random, &layers, number)).collect();
    let mut dealer = Dealer {
        blob_classes: shuffled(&mut random, &CLASSES, share(extent.requests, 0.310)),
        upload_classes: shuffled(&mut random, &CLASSES, share(extent.requests, 0.029)),
        image_ranks: Zipf::new(IMAGES, POPULARITY),
        by_class: CLASSES.map(|(class, _)| {
            let numbers = (0..).zip(&layers).filter(|(_, layer)| layer.class == class);
            let numbers: Vec<usize> = numbers.map(|(number, _)| number).collect();
            (class, Zipf::new(numbers.len(), POPULARITY), numbers)
        }),
        fetched: vec![Vec::new(); CLIENTS],
        owed: 0,
        uploads: Vec::new(),
        fresh: Vec::new(),
        trace: Trace {
            seed: SEED,
            extent,
            stored_layers: layers.len(),
            stored_images: images.len(),
            layers,
            images,
            operations: Vec::new(),
        },
        random,
    };
    let requests: f64 = KINDS.iter().map(|(_, share)| share).sum();
    let kinds = shuffled(&mut dealer.random, &KINDS, share(extent.requests, requests));
    for kind in kinds {
        dealer.deal(kind);
    }
    dealer.trace
}

/// Sizes are spread evenly over each class, however few it has.
fn layers(random: &mut Random, divisor: u64) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (class, share) in CLASSES {
        let count = (share * f64::from(LAYERS)).round().max(1.0);
        let mut sizes: Vec<u64> = std::iter::successors(Some(0.5), |place| Some(place + 1.0))
            .take_while(|&place| place < count)
            .map(|place| class.size(place / count, divisor))
            .collect();
        random.shuffle(&mut sizes);
        for size in sizes {
            layers.push(Layer { repository: layers.len() % REPOSITORIES, size, class });
        }
    }
    layers
}

/// An image whose layers are any of its repository's.
fn image(random: &mut Random, layers: &[Layer], number: usize) -> Image {
    let repository = number % REPOSITORIES;
    let mut there: Vec<usize> = (0..)
        .zip(layers)
        .filter(|(_, layer)| layer.repository == repository)
        .map(|(number, _)| number)
        .collect();
    random.shuffle(&mut there);
    there.truncate(layer_count(random));
    Image { repository, layers: there }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 60")]
fn layer_count(random: &mut Random) -> usize {
    let count = MEDIAN_LAYERS * (LAYERS_DEVIATION * random.normal()).exp();
    count.round().clamp(1.0, MOST_LAYERS) as usize
}

struct Dealer {
    trace: Trace,
    random: Random,
    /// The classes of the blobs that are still to be pulled and pushed.
    blob_classes: Vec<Class>,
    upload_classes: Vec<Class>,
    image_ranks: Zipf,
    /// The stored layers of each class, the most popular first.
    by_class: [(Class, Zipf, Vec<usize>); 6],
    /// The layers that each client has fetched, with what they had to wait for.
    fetched: Vec<Vec<Wanted>>,
    /// Repeated fetches that were due when the client had nothing to repeat.
    owed: u32,
    /// Layers that no manifest lists yet, and the operations that push them.
    uploads: Vec<(usize, usize)>,
    /// Images that are pushed, and the operations that do it.
    fresh: Vec<(usize, usize)>,
}

/// An index, and the operation that makes it if it is not stored.
type Wanted = (usize, Option<usize>);

impl Dealer {
    fn deal(&mut self, kind: Kind) {
        let client = usize::try_from(self.random.below(CLIENTS as u64)).unwrap_or(0);
        let (action, after) = match kind {
            Kind::GetBlob => {
                let (layer, after) = self.blob(client);
                (Action::GetBlob(layer), after.into_iter().collect())
            }
            Kind::HeadBlob => {
                let (layer, after) = self.any_blob();
                (Action::HeadBlob(layer), after.into_iter().collect())
            }
            Kind::GetManifest => {
                let (image, after) = self.image();
                (Action::GetManifest(image), after.into_iter().collect())
            }
            Kind::HeadManifest => {
                let (image, after) = self.image();
                (Action::HeadManifest(image), after.into_iter().collect())
            }
            Kind::StreamBlob => (Action::StreamBlob(self.upload()), Vec::new()),
            Kind::PutBlob => (Action::PutBlob(self.upload()), Vec::new()),
            Kind::PutManifest => self.push(),
        };
        self.trace.operations.push(Operation { client, action, after });
    }

    /// A blob for this client to fetch: one that it has fetched before, one that was just pushed,
    /// or a popular one; of the class that is next.
    fn blob(&mut self, client: usize) -> Wanted {
        let class = self.blob_classes.pop().unwrap_or(Class::UnderOneMegabyte);
        let wants_again = self.random.share() < AGAIN;
        if wants_again {
            self.owed += 1;
        }
        if self.owed > 0
            && let Some(wanted) = self.fetched_before(client, class)
        {
            self.owed -= 1;
            return wanted;
        }
        let wanted = self.new_blob(client, class);
        if let Some(fetched) = self.fetched.get_mut(client) {
            fetched.push(wanted);
        }
        wanted
    }

    fn fetched_before(&mut self, client: usize, class: Class) -> Option<Wanted> {
        let layers = &self.trace.layers;
        let fitting: Vec<Wanted> = self
            .fetched
            .get(client)?
            .iter()
            .filter(|(layer, _)| layers.get(*layer).is_some_and(|layer| layer.class == class))
            .copied()
            .collect();
        self.random.pick(&fitting).copied()
    }

    /// One that the client has not fetched, if there is one.
    fn new_blob(&mut self, client: usize, class: Class) -> Wanted {
        let known: HashSet<usize> =
            self.fetched.get(client).into_iter().flatten().map(|(layer, _)| *layer).collect();
        if self.random.share() < FRESH
            && let Some(wanted) = self.fresh_blob(class, &known)
        {
            return wanted;
        }
        let mut wanted = self.popular_blob(class);
        for _ in 0..16 {
            if !known.contains(&wanted.0) {
                break;
            }
            wanted = self.popular_blob(class);
        }
        wanted
    }

    fn fresh_blob(&mut self, class: Class, known: &HashSet<usize>) -> Option<Wanted> {
        let mut fitting = Vec::new();
        for &(image, operation) in self.pullable() {
            let Some(image) = self.trace.images.get(image) else { continue };
            fitting.extend(
                self.trace
                    .layers_of(image)
                    .filter(|(number, layer)| layer.class == class && !known.contains(number))
                    .map(|(number, _)| (number, Some(operation))),
            );
        }
        self.random.pick(&fitting).copied()
    }

    fn popular_blob(&mut self, class: Class) -> Wanted {
        let found = self.by_class.iter().find(|(of, ..)| *of == class);
        let layer = found.and_then(|(_, ranks, layers)| layers.get(ranks.rank(&mut self.random)));
        (layer.copied().unwrap_or(0), None)
    }

    /// For HEAD the size does not matter.
    fn any_blob(&mut self) -> Wanted {
        let (image, after) = self.image();
        let layers = self.trace.images.get(image).map(|image| image.layers.as_slice());
        (self.random.pick(layers.unwrap_or_default()).copied().unwrap_or(0), after)
    }

    fn image(&mut self) -> Wanted {
        let fresh = self.pullable().to_vec();
        if self.random.share() < FRESH
            && let Some(&(image, operation)) = self.random.pick(&fresh)
        {
            return (image, Some(operation));
        }
        (self.image_ranks.rank(&mut self.random), None)
    }

    /// The images that were pushed lately, but not only just now.
    fn pullable(&self) -> &[(usize, usize)] {
        let now = self.trace.operations.len();
        let end = self.fresh.partition_point(|&(_, operation)| operation + DISTANCE < now);
        self.fresh.get(end.saturating_sub(FRESH_IMAGES)..end).unwrap_or_default()
    }

    /// A new layer, for the repository whose image is pushed next.
    fn upload(&mut self) -> usize {
        let class = self.upload_classes.pop().unwrap_or(Class::UnderOneMegabyte);
        let size = class.size(self.random.share(), self.trace.extent.divisor);
        let repository = self.next_repository();
        let layer = self.trace.layers.len();
        self.trace.layers.push(Layer { repository, size, class });
        self.uploads.push((layer, self.trace.operations.len()));
        layer
    }

    /// A manifest of what was uploaded since the last one, and of layers that are there.
    fn push(&mut self) -> (Action, Vec<usize>) {
        let number = self.trace.images.len();
        let mut pushed = Image { repository: self.next_repository(), layers: Vec::new() };
        let mut after = Vec::new();
        for (layer, operation) in self.uploads.drain(..) {
            pushed.layers.push(layer);
            after.push(operation);
        }
        let stored = self.trace.layers.get(..self.trace.stored_layers).unwrap_or_default();
        let base = image(&mut self.random, stored, pushed.repository);
        let missing = base.layers.len().saturating_sub(pushed.layers.len());
        pushed.layers.extend(base.layers.into_iter().take(missing));
        self.trace.images.push(pushed);
        self.fresh.push((number, self.trace.operations.len()));
        (Action::PutManifest(number), after)
    }

    fn next_repository(&self) -> usize {
        self.trace.images.len() % REPOSITORIES
    }
}

/// So many of each, in any order.
fn shuffled<T: Copy>(random: &mut Random, shares: &[(T, f64)], count: f64) -> Vec<T> {
    let whole: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut list = Vec::new();
    let mut sum = 0.0;
    for &(item, share) in shares {
        sum += share / whole * count;
        while f64::from(u32::try_from(list.len()).unwrap_or(u32::MAX)) + 0.5 < sum {
            list.push(item);
        }
    }
    random.shuffle(&mut list);
    list
}

#[allow(clippy::cast_precision_loss, reason = "requests of one sample are few")]
fn share(requests: u64, share: f64) -> f64 {
    requests as f64 * share
}
