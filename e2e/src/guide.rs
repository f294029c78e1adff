//! The guides: what users copy from them is what is tried here, with other
//! addresses and paths where that has to be.

use anyhow::{Context as _, Result, ensure};

pub(crate) const DEPLOY: Guide = Guide(include_str!("../../deploy/README.md"));
pub(crate) const OPERATE: Guide = Guide(include_str!("../../docs/operate.md"));
pub(crate) const REVERSE_PROXY: Guide = Guide(include_str!("../../docs/reverse-proxy.md"));

/// The text of a guide, in Markdown.
pub(crate) struct Guide(&'static str);

impl Guide {
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    /// The first block in this language with this text in it.
    pub(crate) fn block(&self, language: &str, text: &str) -> Result<String> {
        let fence = format!("```{language}\n");
        self.0
            .split(&fence)
            .skip(1)
            .filter_map(|rest| rest.split_once("```"))
            .map(|(block, _)| block.to_owned())
            .find(|block| block.contains(text))
            .with_context(|| format!("the guide has no {language} block with {text:?}"))
    }
}

/// With every one of these texts replaced; each must be there.
pub(crate) fn replace(text: &str, replacements: &[(&str, &str)]) -> Result<String> {
    replacements.iter().try_fold(text.to_owned(), |text, (from, to)| {
        ensure!(text.contains(from), "no {from:?} in the guide's block:\n{text}");
        Ok(text.replace(from, to))
    })
}
