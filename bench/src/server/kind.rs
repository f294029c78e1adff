//! Which programs are compared.

use clap::ValueEnum;

/// Which program a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    Orlop,
    /// Debian's package of `registry:2`.
    DockerRegistry,
    /// `registry:3`.
    Distribution,
    Zot,
    /// The same bytes as static files at the same paths.
    Nginx,
    /// This program itself: the least that the work takes.
    Bare,
}

impl Kind {
    pub(crate) const REGISTRIES: [Self; 4] =
        [Self::Orlop, Self::DockerRegistry, Self::Distribution, Self::Zot];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orlop => "orlop",
            Self::DockerRegistry => "docker-registry",
            Self::Distribution => "distribution",
            Self::Zot => "zot",
            Self::Nginx => "nginx",
            Self::Bare => "bare",
        }
    }

    /// Whether content can be pushed to it.
    pub(crate) fn is_registry(self) -> bool {
        Self::REGISTRIES.contains(&self)
    }
}
