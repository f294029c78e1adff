//! How far long work is: a bar on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the bar changes.
const REFRESH: Duration = Duration::from_millis(200);

/// How often there is a plain line.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Characters of the bar.
const WIDTH: usize = 24;

/// Runs `work` and shows on standard error how far it is: `status` says how many steps are done,
/// of how many (0: not known yet), and what else there is to say. A step is one of `what`.
pub(crate) async fn watch<T>(
    what: &str,
    work: impl Future<Output = T>,
    status: impl Fn() -> (u64, u64, String),
) -> T {
    let started = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let mut due = tokio::time::interval(if terminal { REFRESH } else { LINE_EVERY });
    // The first tick is at once, when there is nothing to say yet.
    due.tick().await;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                clear(terminal);
                return done;
            }
            _ = due.tick() => {
                let (steps, total, more) = status();
                show(&describe(what, steps, total, &more, started.elapsed(), terminal), terminal);
            }
        }
    }
}

/// Nobody is told if it fails: whoever closed standard error does not want to know.
fn show(line: &str, terminal: bool) {
    let mut talk = std::io::stderr().lock();
    let _ = if terminal {
        write!(talk, "\r\x1b[K{line}").and_then(|()| talk.flush())
    } else {
        writeln!(talk, "{line}")
    };
}

fn clear(terminal: bool) {
    if terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn describe(
    what: &str,
    steps: u64,
    total: u64,
    more: &str,
    elapsed: Duration,
    bar: bool,
) -> String {
    if total == 0 {
        return format!("looking for {what} ({})", seconds(elapsed));
    }
    let percent = (steps * 100 / total).min(100);
    let filled = usize::try_from(percent).unwrap_or(0) * WIDTH / 100;
    let bar = if bar {
        format!("[{:.<width$}] ", "#".repeat(filled), width = WIDTH)
    } else {
        String::new()
    };
    let rate = u128::from(steps) * 1000 / elapsed.as_millis().max(1);
    let left = match steps {
        0 => "?".to_owned(),
        steps => {
            let left = elapsed.as_millis() * u128::from(total.saturating_sub(steps));
            let left = u64::try_from(left / u128::from(steps)).unwrap_or(u64::MAX);
            seconds(Duration::from_millis(left))
        }
    };
    format!("{bar}{percent} %, {steps} of {total} {what}, {rate}/s, {left} left; {more}")
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} {name}") } else { format!("{value:.1} {name}") }
}

/// A time as people read it.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let at = Duration::from_secs(10);
        assert_eq!(
            describe("repositories", 25, 100, "7 manifests", at, false),
            "25 %, 25 of 100 repositories, 2/s, 30 s left; 7 manifests"
        );
        let bar = describe("images", 50, 100, "", at, true);
        assert!(bar.starts_with("[############............] 50 %"), "{bar}");
        assert_eq!(describe("repositories", 0, 0, "", at, true), "looking for repositories (10 s)");
        assert!(describe("repositories", 0, 5, "", at, false).contains("? left"));
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1500), "1.5 kB");
        assert_eq!(size(5_000_000_000), "5.0 GB");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(seconds(Duration::from_millis(900)), "0 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(seconds(Duration::from_mins(121)), "2 h 1 min");
    }
}
