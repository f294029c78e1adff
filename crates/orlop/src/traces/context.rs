//! Which trace a request belongs to (W3C Trace Context), and whether it is recorded.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::span::{SpanId, TraceId};

/// `tracestate` is handed on up to this length (W3C Trace Context §3.3.1.5).
const MAX_STATE: usize = 512;

/// The caller's span, as `traceparent` names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Remote {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// Whether the caller records the trace.
    pub(super) is_sampled: bool,
}

impl Remote {
    /// Reads `traceparent`; `None` if it is not valid: a new trace begins then (§3.2).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        // A later version may have more to say.
        let is_known = version != 0xff && (version > 0 || parts.next().is_none());
        (is_known && trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// `tracestate`, if it can be handed on.
pub(super) fn state(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_STATE).then(|| text.to_owned())
}

/// A number of exactly so many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(is_digit))
        .then(|| u128::from_str_radix(text, 16).ok())?
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampler {
    /// Whether a caller decides for the traces that it began.
    pub(super) follows_parent: bool,
    /// The part of the others, from 0 to 1.
    pub(super) ratio: f64,
}

impl Sampler {
    /// Whether the trace is recorded. All programs with the same ratio decide the same.
    pub(super) fn takes(self, trace: TraceId, parent: Option<Remote>) -> bool {
        match parent {
            Some(parent) if self.follows_parent => parent.is_sampled,
            _ => {
                // Of the lower half, as other programs do it, but with no more bits than are needed.
                let part = u32::try_from((trace >> 32) & u128::from(u32::MAX)).unwrap_or_default();
                f64::from(part) < self.ratio * 2_f64.powi(32)
            }
        }
    }
}

/// Ids need to be different, not secret.
pub(super) fn new_trace() -> TraceId {
    (u128::from(random()) << 64) | u128::from(random())
}

pub(super) fn new_span() -> SpanId {
    random()
}

/// Each state of a hash map's keys is another one.
fn random() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparent() {
        let parent = Remote {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span: 0xb7ad_6b71_6920_3331,
            is_sampled: true,
        };
        assert_eq!(Remote::parse(VALID), Some(parent));
        let unsampled = Remote { is_sampled: false, ..parent };
        assert_eq!(Remote::parse(&VALID.replace("-01", "-02")), Some(unsampled));
        let later = format!("{}-more", VALID.replacen("00", "01", 1));
        assert_eq!(Remote::parse(&later), Some(parent));
        for bad in [
            "",
            "00",
            &VALID.to_uppercase(),
            &VALID.replacen("00", "ff", 1),
            &VALID.replace("b7ad6b7169203331", "0000000000000000"),
            &VALID.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &VALID.replace("-01", "-1"),
            &VALID.replace("-01", "-+1"),
            &format!("{VALID}-more"),
            &format!(" {VALID}"),
        ] {
            assert_eq!(Remote::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_caller_decides_for_its_own_traces() {
        let remote = |is_sampled| Some(Remote { trace: 1, span: 1, is_sampled });
        let some = |follows_parent, ratio| Sampler { follows_parent, ratio };
        assert!(some(true, 0.0).takes(1, remote(true)));
        assert!(!some(true, 1.0).takes(1, remote(false)));
        assert!(!some(false, 0.0).takes(1, remote(true)));
        assert!(some(false, 1.0).takes(u128::MAX, remote(false)));
        let taken = (0..10_000).filter(|_| some(true, 0.25).takes(new_trace(), None)).count();
        assert!((2200..2800).contains(&taken), "{taken} of 10000");
    }
}
