//! A synthetic replay of what production registries were asked: the mix of operations, the sizes
//! and the popularity that "Improving Docker Registry Design based on Production Workload Analysis"
//! (FAST '18) and its published logs show. The same seed gives the same trace for every server.

mod generate;
mod replay;
mod size;

pub(crate) use replay::{Replay, Stage};

use std::fmt;

use generate::generate;
use size::Class;

/// Repositories; every layer lies in one of them.
const REPOSITORIES: usize = 8;

/// How much a trace is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) requests: u64,
    /// Sizes above 1 MB are divided by this (and stay above 1 MB), so that a sample ends.
    pub(crate) divisor: u64,
}

/// What is there, and what is done with it in which order.
struct Trace {
    seed: u64,
    extent: Extent,
    layers: Vec<Layer>,
    images: Vec<Image>,
    /// How many of `layers` and `images` are there before the first operation, the others being
    /// pushed.
    stored_layers: usize,
    stored_images: usize,
    operations: Vec<Operation>,
}

#[derive(Clone, Debug)]
struct Layer {
    repository: usize,
    size: u64,
    class: Class,
}

#[derive(Clone, Debug)]
struct Image {
    repository: usize,
    /// Indexes of [`Trace::layers`].
    layers: Vec<usize>,
}

/// Numbers are indexes of [`Trace::layers`] and [`Trace::images`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    GetBlob(usize),
    GetManifest(usize),
    HeadBlob(usize),
    HeadManifest(usize),
    PutManifest(usize),
    /// POST, PATCH and PUT.
    StreamBlob(usize),
    /// POST and PUT.
    PutBlob(usize),
}

#[derive(Clone, Debug)]
struct Operation {
    /// Who does it: clients fetch some things again.
    client: usize,
    action: Action,
    /// Indexes of the operations that have to be done before.
    after: Vec<usize>,
}

impl Action {
    fn requests(self) -> u64 {
        match self {
            Self::StreamBlob(_) => 3,
            Self::PutBlob(_) => 2,
            _ => 1,
        }
    }
}

impl Trace {
    fn requests(&self) -> u64 {
        self.operations.iter().map(|operation| operation.action.requests()).sum()
    }

    /// Bytes of blobs that are pulled or pushed.
    fn bytes(&self) -> u64 {
        let layers = self.operations.iter().filter_map(|operation| match operation.action {
            Action::GetBlob(layer) | Action::StreamBlob(layer) | Action::PutBlob(layer) => {
                self.layers.get(layer)
            }
            _ => None,
        });
        layers.map(|layer| layer.size).sum()
    }

    /// The layers of an image.
    fn layers_of(&self, image: &Image) -> impl Iterator<Item = (usize, &Layer)> {
        image.layers.iter().filter_map(|&number| Some((number, self.layers.get(number)?)))
    }

    /// Requests per thousand: GET, HEAD, PUT, POST, PATCH, and GET of blobs among them.
    fn shares(&self) -> [f64; 6] {
        let mut counts = [0_u32; 6];
        for operation in &self.operations {
            let methods: &[usize] = match operation.action {
                Action::GetBlob(_) => &[0, 5],
                Action::GetManifest(_) => &[0],
                Action::HeadBlob(_) | Action::HeadManifest(_) => &[1],
                Action::PutManifest(_) => &[2],
                Action::StreamBlob(_) => &[2, 3, 4],
                Action::PutBlob(_) => &[2, 3],
            };
            for &method in methods {
                counts.iter_mut().skip(method).take(1).for_each(|count| *count += 1);
            }
        }
        let all: u32 = counts.iter().take(5).sum();
        counts.map(|count| 100.0 * f64::from(count) / f64::from(all.max(1)))
    }

    /// The share of blob GETs of a client that has fetched the blob before, in percent.
    fn repeats(&self) -> f64 {
        let mut seen = std::collections::HashSet::new();
        let (mut all, mut again) = (0_u32, 0_u32);
        for operation in &self.operations {
            if let Action::GetBlob(layer) = operation.action {
                all += 1;
                again += u32::from(!seen.insert((operation.client, layer)));
            }
        }
        100.0 * f64::from(again) / f64::from(all.max(1))
    }
}

impl fmt::Display for Trace {
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [get, head, put, post, patch, blobs] = self.shares();
        write!(
            text,
            "seed {:#x}, {} requests (GET {get:.1} %, HEAD {head:.1} %, PUT {put:.1} %, POST \
             {post:.1} %, PATCH {patch:.1} %; GET of blobs {blobs:.1} %, {:.1} % of them again by \
             the same client), {} layers and {} images beforehand, sizes above 1 MB divided by \
             {}, {:.2} GB of blobs moved",
            self.seed,
            self.requests(),
            self.repeats(),
            self.stored_layers,
            self.stored_images,
            self.extent.divisor,
            self.bytes() as f64 / 1e9,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { requests: 8_000, divisor: 8 };

    fn near(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "expected {expected}, found {found}");
    }

    #[test]
    fn methods_have_the_published_shares() {
        let shares = generate(EXTENT).shares();
        for (found, expected) in shares.into_iter().zip([79.0, 11.0, 5.2, 2.9, 1.9, 31.0]) {
            near(found, expected, 0.1);
        }
    }

    #[test]
    fn a_quarter_of_the_blobs_is_fetched_again() {
        near(generate(EXTENT).repeats(), 26.0, 1.5);
    }

    #[test]
    fn sizes_have_the_published_shares() {
        let trace = generate(Extent { divisor: 1, ..EXTENT });
        let sizes: Vec<u64> = trace
            .operations
            .iter()
            .filter_map(|operation| match operation.action {
                Action::GetBlob(layer) => Some(trace.layers[layer].size),
                _ => None,
            })
            .collect();
        let below = |limit: u64| {
            let count = sizes.iter().filter(|&&size| size <= limit).count();
            100.0 * f64::from(u32::try_from(count).unwrap())
                / f64::from(u32::try_from(sizes.len()).unwrap())
        };
        near(below(1_000_000), 65.0, 1.0);
        near(below(10_000_000), 80.0, 1.0);
        near(below(64 << 20), 94.14, 1.0);
        near(below(256 << 20), 99.44, 0.3);
        #[allow(clippy::cast_precision_loss)]
        let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
        near(mean / 1e6, 14.0, 3.0);
    }

    #[test]
    fn images_have_the_published_number_of_layers() {
        let trace = generate(EXTENT);
        let mut counts: Vec<usize> = trace.images.iter().map(|image| image.layers.len()).collect();
        counts.sort_unstable();
        assert!((7..=9).contains(&counts[counts.len() / 2]), "{counts:?}");
        assert!((15..=22).contains(&counts[counts.len() * 9 / 10]), "{counts:?}");
    }

    #[test]
    fn what_is_pushed_is_pulled_afterwards_and_not_before() {
        let trace = generate(EXTENT);
        let mut made_at = std::collections::HashMap::new();
        let mut pulls = 0;
        for (number, operation) in trace.operations.iter().enumerate() {
            match operation.action {
                Action::PutManifest(image) => {
                    made_at.insert(image, number);
                    for (layer, _) in trace.layers_of(&trace.images[image]) {
                        let is_stored = layer < trace.stored_layers;
                        let uploads =
                            operation.after.iter().map(|&before| &trace.operations[before]);
                        let is_uploaded = uploads.into_iter().any(|upload| {
                            matches!(upload.action, Action::StreamBlob(it) | Action::PutBlob(it) if it == layer)
                        });
                        assert!(is_stored || is_uploaded);
                    }
                }
                Action::GetManifest(image) if image >= trace.stored_images => {
                    assert!(operation.after.contains(&made_at[&image]));
                    pulls += 1;
                }
                Action::GetBlob(layer) if layer >= trace.stored_layers => {
                    assert!(!operation.after.is_empty());
                    pulls += 1;
                }
                _ => {}
            }
            assert!(operation.after.iter().all(|&before| before < number));
        }
        assert!(pulls > made_at.len() * 2, "{pulls} pulls of {} images", made_at.len());
    }

    #[test]
    fn a_trace_is_the_same_every_time() {
        let [first, second] = [generate(EXTENT), generate(EXTENT)];
        let actions = |trace: &Trace| -> Vec<Action> {
            trace.operations.iter().map(|operation| operation.action).collect()
        };
        assert_eq!(actions(&first), actions(&second));
        assert!(first.bytes() <= 8 << 30, "{}", first.bytes());
    }
}
