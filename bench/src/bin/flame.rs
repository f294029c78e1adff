//! Draws what `perf` has seen as a flame graph: a picture without scripts, for a document.
//!
//! ```text
//! perf script -F comm,ip,sym,dso | flame --from server::serve --title "GET" > picture.svg
//! ```
//!
//! Each box is a function, as wide as the share of samples in which it was running or waited for
//! one above it to return.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use clap::Parser;

/// The picture, in its own units.
const WIDTH: f64 = 1200.0;
const ROW: f64 = 16.0;
const LETTER: f64 = 6.2;

/// What is narrower than this part of the whole is left out.
const LEAST: f64 = 0.002;

/// Crates of this project, as symbols begin.
const OURS: [&str; 12] = [
    "auth",
    "blobs",
    "layout",
    "metadata",
    "net",
    "oci",
    "orlop",
    "registry",
    "sendfile",
    "sha256",
    "web",
    "orlop_bench",
];

/// Draws a flame graph of what `perf script -F comm,ip,sym,dso` writes
#[derive(Parser)]
struct Options {
    /// What stands above the picture
    #[arg(long)]
    title: String,
    /// Leave out what is below the innermost function whose name contains this; may be repeated
    #[arg(long)]
    from: Vec<String>,
    /// Leave out threads of this name; may be repeated
    #[arg(long)]
    without: Vec<String>,
}

#[derive(Default)]
struct Frame {
    samples: u64,
    callees: BTreeMap<(Origin, String), Self>,
}

/// Where a function comes from; the colour of its box.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Origin {
    Ours,
    Library,
    Kernel,
}

impl Origin {
    fn color(self) -> &'static str {
        match self {
            Self::Ours => "#f2a65a",
            Self::Library => "#f3dfa2",
            Self::Kernel => "#9dc3d4",
        }
    }
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let root = read(io::stdin().lock(), &options)?;
    io::stdout().write_all(draw(&root, &options.title).as_bytes())
}

/// All samples, as a tree of who called whom.
fn read(input: impl BufRead, options: &Options) -> io::Result<Frame> {
    let mut root = Frame::default();
    let mut thread = String::new();
    let mut stack = Vec::new();
    for line in input.lines().chain([Ok(String::new())]) {
        let line = line?;
        if line.trim().is_empty() {
            if !stack.is_empty() && !options.without.iter().any(|name| name == thread.trim()) {
                add(&mut root, &stack, &options.from);
            }
            stack.clear();
        } else if line.starts_with(char::is_whitespace) {
            stack.extend(function(&line));
        } else {
            thread = line;
        }
    }
    Ok(root)
}

/// `55d0c2 web::server::serve+0x1f (/usr/bin/orlop)`, without what does not tell anything.
fn function(line: &str) -> Option<(Origin, String)> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (name, file) = rest.rsplit_once(" (").unwrap_or((rest, ""));
    let name = name.split("+0x").next().unwrap_or(name).replace("{{closure}}", "{}");
    let crate_of = name.trim_start_matches(['<', '&', '(']).split("::").next().unwrap_or("");
    let origin = if file.starts_with('[') && !file.starts_with("[vdso") {
        Origin::Kernel
    } else if OURS.contains(&crate_of) {
        Origin::Ours
    } else {
        Origin::Library
    };
    (name != "[unknown]").then_some((origin, name))
}

/// Counts one sample, whose innermost function comes first.
fn add(root: &mut Frame, stack: &[(Origin, String)], from: &[String]) {
    let begins = |name: &String| from.iter().any(|part| name.contains(part));
    let begin = stack.iter().position(|(_, name)| begins(name));
    let seen = stack.get(..begin.map_or(stack.len(), |begin| begin + 1)).unwrap_or(stack);
    root.samples += 1;
    let mut frame = root;
    for function in seen.iter().rev() {
        frame = frame.callees.entry(function.clone()).or_default();
        frame.samples += 1;
    }
}

fn draw(root: &Frame, title: &str) -> String {
    let least = LEAST * samples(root.samples);
    let depth = depth(root, least);
    let height = ROW * samples(depth) + 60.0;
    let mut boxes = String::new();
    draw_callees(root, 0.0, height - 10.0, WIDTH / samples(root.samples.max(1)), least, &mut boxes);
    let key = [(Origin::Ours, "Orlop"), (Origin::Library, "libraries"), (Origin::Kernel, "kernel")];
    let mut x = WIDTH - 260.0;
    let key = key.map(|(origin, name)| {
        x += 85.0;
        format!(
            "<rect x=\"{}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"20\">{name}</text>\n",
            x - 85.0,
            origin.color(),
            x - 69.0
        )
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"monospace\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"21\" font-size=\"14\">{}</text>\n\
         <text x=\"8\" y=\"38\">{} samples</text>\n{}{boxes}</svg>\n",
        escape(title),
        root.samples,
        key.concat()
    )
}

/// One box for each callee, side by side on `bottom`, the widest first; above each what it calls.
fn draw_callees(
    frame: &Frame,
    mut x: f64,
    bottom: f64,
    scale: f64,
    least: f64,
    boxes: &mut String,
) {
    let mut callees: Vec<_> = frame.callees.iter().collect();
    callees.sort_by_key(|(_, callee)| std::cmp::Reverse(callee.samples));
    for ((origin, name), callee) in callees {
        let count = samples(callee.samples);
        if count < least {
            break;
        }
        let width = count * scale;
        let share = 100.0 * width / WIDTH;
        boxes.extend([
            format!("<g><title>{}: {share:.1} %</title><rect x=\"{x:.1}\" ", escape(name)),
            format!("y=\"{:.1}\" width=\"{:.1}\" ", bottom - ROW, (width - 0.4).max(0.2)),
            format!("height=\"{}\" fill=\"{}\"/>", ROW - 1.0, origin.color()),
            label(name, x, bottom, width),
            "</g>\n".to_owned(),
        ]);
        draw_callees(callee, x, bottom - ROW, scale, least, boxes);
        x += width;
    }
}

/// As much of the name as there is room for; its end says more than its beginning.
fn label(name: &str, x: f64, bottom: f64, width: f64) -> String {
    let room = (width / LETTER).floor();
    if room < 4.0 {
        return String::new();
    }
    let skipped = (0..name.len()).find(|&at| samples((name.len() - at) as u64) <= room - 1.0);
    let text = name.get(skipped.unwrap_or(0)..).unwrap_or(name);
    let mark = if text.len() < name.len() { "…" } else { "" };
    let text = escape(text);
    format!("<text x=\"{:.1}\" y=\"{:.1}\">{mark}{text}</text>", x + 2.0, bottom - 5.0)
}

fn depth(frame: &Frame, least: f64) -> u64 {
    let callees = frame.callees.values().filter(|callee| samples(callee.samples) >= least);
    callees.map(|callee| 1 + depth(callee, least)).max().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "no profile has 2^52 samples")]
fn samples(count: u64) -> f64 {
    count as f64
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "tokio-rt-worker\n\
        \t1 tcp_sendmsg+0x10 ([kernel.kallsyms])\n\
        \t2 <net::stream::Stream as Write>::write (/bin/orlop)\n\
        \t3 web::server::serve::{{closure}} (/bin/orlop)\n\
        \t4 start_thread (/lib/libc.so.6)\n\
        \n\
        tokio-rt-worker\n\
        \t5 malloc (/lib/libc.so.6)\n\
        \t3 web::server::serve::{{closure}} (/bin/orlop)\n\
        \t4 start_thread (/lib/libc.so.6)\n\
        \n\
        other\n\
        \t6 main (/bin/other)\n";

    #[test]
    fn samples_become_a_tree() {
        let options = Options {
            title: String::new(),
            from: vec!["serve".to_owned()],
            without: vec!["other".to_owned()],
        };
        let root = read(SCRIPT.as_bytes(), &options).unwrap();
        assert_eq!(root.samples, 2);
        let serve = &root.callees[&(Origin::Ours, "web::server::serve::{}".to_owned())];
        assert_eq!((serve.samples, serve.callees.len()), (2, 2));
        assert!(serve.callees.contains_key(&(Origin::Library, "malloc".to_owned())));
        let write = (Origin::Ours, "<net::stream::Stream as Write>::write".to_owned());
        let kernel = (Origin::Kernel, "tcp_sendmsg".to_owned());
        assert!(serve.callees[&write].callees.contains_key(&kernel));
    }

    #[test]
    fn the_picture_has_a_box_for_each_function() {
        let options = Options { title: "a < b".to_owned(), from: Vec::new(), without: Vec::new() };
        let picture = draw(&read(SCRIPT.as_bytes(), &options).unwrap(), &options.title);
        assert!(picture.contains("a &lt; b") && picture.contains("3 samples"));
        assert_eq!(picture.matches("<title>").count(), 6);
        assert!(picture.contains("web::server::serve::{}: 66.7 %"));
    }
}
