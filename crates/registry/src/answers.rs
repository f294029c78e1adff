//! What the database has answered, kept for as long as nothing is written.

use std::hash::Hash;

use metadata::blobs::Blob;
use metadata::manifests::Manifest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Memory that the answers of each kind take, at most, in bytes.
const CAPACITY: u64 = 6 << 20;

/// What a question and its answer take, about, in bytes, without texts of any length.
const USUAL: u64 = 400;

/// Answers to questions of one kind. That there is no such thing is an answer, too.
pub(crate) struct Answers<Q, A> {
    /// Each with the version of the database that gave it.
    kept: Cache<Q, (u64, Option<A>), BySize>,
}

/// Something that an answer tells.
pub(crate) trait Told: Clone {
    /// Bytes of its texts that may be of any length.
    fn text_length(&self) -> usize;
}

impl Told for Manifest {
    fn text_length(&self) -> usize {
        self.media_type.len() + self.blob.text_length()
    }
}

impl Told for Blob {
    fn text_length(&self) -> usize {
        self.location.as_ref().map_or(0, String::len)
    }
}

#[derive(Clone)]
struct BySize;

impl<Q, A: Told> Weighter<Q, (u64, Option<A>)> for BySize {
    fn weight(&self, _question: &Q, (_, answer): &(u64, Option<A>)) -> u64 {
        USUAL + answer.as_ref().map_or(0, Told::text_length) as u64
    }
}

impl<Q: Clone + Eq + Hash, A: Told> Answers<Q, A> {
    pub(crate) fn new() -> Self {
        Self { kept: Cache::with_weighter(64, CAPACITY, BySize) }
    }

    /// The answer to `question`: the one that is kept, if it is of this `version`, else what
    /// `asking` brings. The version must have been looked up before.
    pub(crate) async fn get<E, F: Future<Output = Result<Option<A>, E>>>(
        &self,
        version: Option<u64>,
        question: &Q,
        asking: impl FnOnce() -> F,
    ) -> Result<Option<A>, E> {
        // Boxed, so that those whose answer is kept do not carry the room for it around.
        let Some(version) = version else { return Box::pin(asking()).await };
        if let Some((of, answer)) = self.kept.get(question)
            && of == version
        {
            return Ok(answer);
        }
        let answer = Box::pin(asking()).await?;
        self.kept.insert(question.clone(), (version, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    impl Told for u32 {
        fn text_length(&self) -> usize {
            0
        }
    }

    #[tokio::test]
    async fn an_answer_holds_while_the_version_is_the_same() {
        let answers = Answers::new();
        let ask = async |version, answer: Option<u32>| {
            let asking = || async move { Ok::<_, Infallible>(answer) };
            answers.get(version, &"question", asking).await.unwrap()
        };
        assert_eq!(ask(Some(2), Some(7)).await, Some(7));
        assert_eq!(ask(Some(2), None).await, Some(7), "kept");
        assert_eq!(ask(None, None).await, None, "nothing is known about the version");
        assert_eq!(ask(Some(4), None).await, None, "something was written");
        assert_eq!(ask(Some(4), Some(8)).await, None, "that there is none is kept, too");
    }
}
