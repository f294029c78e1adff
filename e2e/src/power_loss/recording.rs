//! What strace wrote down: every system call with which a registry changes its
//! data folder or answers a client, in order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// All that changes files, or writes to a socket. What is listed here and not
/// understood by [`Recording::read`] fails the test when it touches a file
/// that the recording follows.
pub(super) const SYSTEM_CALLS: &str = "open,openat,creat,close,dup,dup2,dup3,lseek,write,pwrite64,\
    writev,pwritev,pwritev2,sendto,sendmsg,ftruncate,truncate,fallocate,rename,renameat,renameat2,\
    link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,sync,syncfs,\
    sync_file_range,copy_file_range,sendfile,splice,mmap,io_uring_enter";

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Event {
    Open {
        path: PathBuf,
        create: bool,
        truncate: bool,
        append: bool,
        fd: i32,
    },
    Close {
        fd: i32,
    },
    /// Without an offset it goes where the descriptor stands.
    Write {
        fd: i32,
        offset: Option<usize>,
        data: Vec<u8>,
    },
    SetLength {
        fd: i32,
        length: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeFolder {
        path: PathBuf,
    },
    /// A sync covers what was complete when it began, and is worth something
    /// only when it has ended.
    SyncBegins {
        fd: i32,
        thread: u32,
    },
    /// Of the whole file system.
    SyncAllBegins {
        thread: u32,
    },
    SyncEnds {
        thread: u32,
    },
    /// Bytes that went into something else than a file: perhaps an answer.
    Sent {
        data: Vec<u8>,
    },
    /// What cannot be replayed, if it is about a file that is followed.
    Unknown {
        fd: i32,
        line: String,
    },
    /// The process has ended: its descriptors are gone.
    Ended,
}

/// Reads the log of one process.
pub(super) fn read(log: &Path) -> Result<Vec<Event>> {
    let text =
        std::fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut recording = Recording::default();
    for line in text.lines() {
        recording.line(line).with_context(|| {
            format!("not understood: {}", line.chars().take(300).collect::<String>())
        })?;
    }
    recording.events.push(Event::Ended);
    Ok(recording.events)
}

#[derive(Default)]
struct Recording {
    events: Vec<Event>,
    /// By thread: the call that has begun and not ended.
    begun: HashMap<u32, String>,
}

impl Recording {
    fn line(&mut self, line: &str) -> Result<()> {
        let (thread, rest) = line.split_once(' ').context("no thread id")?;
        let thread: u32 = thread.parse()?;
        let rest = rest.trim_start();
        if rest.starts_with("---") || rest.starts_with("+++") {
            return Ok(());
        }
        if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
            self.begin(thread, &Call::parse(beginning)?)?;
            self.begun.insert(thread, beginning.to_owned());
            return Ok(());
        }
        let whole = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, end) = resumed.split_once(" resumed>").context("resumed, but how")?;
                self.begun.remove(&thread).context("resumed, but not begun")? + end
            }
            None => rest.to_owned(),
        };
        let (text, result) = whole.rsplit_once(" = ").context("no result")?;
        let call = Call::parse(text)?;
        if !rest.starts_with("<... ") {
            self.begin(thread, &call)?;
        }
        let result = result.split(' ').next().unwrap_or_default();
        // A call without a number as its result never returned.
        match result.parse::<i64>() {
            Ok(result) if result >= 0 => self.end(thread, &call, result, text),
            _ => Ok(()),
        }
    }

    /// What counts from the moment at which it is asked for.
    fn begin(&mut self, thread: u32, call: &Call<'_>) -> Result<()> {
        match call.name {
            "close" => self.events.push(Event::Close { fd: call.number(0)? }),
            "fsync" | "fdatasync" => {
                self.events.push(Event::SyncBegins { fd: call.number(0)?, thread });
            }
            "syncfs" => self.events.push(Event::SyncAllBegins { thread }),
            "sendto" | "sendmsg" | "write" | "writev" => {
                self.events.push(Event::Sent { data: call.texts.concat() });
            }
            _ => {}
        }
        Ok(())
    }

    /// What counts only when it has been done.
    fn end(&mut self, thread: u32, call: &Call<'_>, result: i64, line: &str) -> Result<()> {
        let unknown = |fd| Event::Unknown { fd, line: line.chars().take(200).collect() };
        self.events.push(match call.name {
            "open" | "openat" | "creat" => {
                let flags = &call.skeleton;
                Event::Open {
                    path: call.path(0)?,
                    create: flags.contains("O_CREAT"),
                    truncate: flags.contains("O_TRUNC"),
                    append: flags.contains("O_APPEND"),
                    fd: i32::try_from(result)?,
                }
            }
            "write" | "writev" => written(call, None, result)?,
            "pwrite64" | "pwritev" | "pwritev2" => {
                let offset = call.number(3)?;
                written(call, Some(offset), result)?
            }
            "ftruncate" => Event::SetLength { fd: call.number(0)?, length: call.number(1)? },
            "rename" | "renameat" | "renameat2" => {
                Event::Rename { from: call.path(0)?, to: call.path(1)? }
            }
            "link" | "linkat" => Event::Link { from: call.path(0)?, to: call.path(1)? },
            "unlink" | "unlinkat" | "rmdir" => Event::Remove { path: call.path(0)? },
            "mkdir" | "mkdirat" => Event::MakeFolder { path: call.path(0)? },
            "fsync" | "fdatasync" | "syncfs" => Event::SyncEnds { thread },
            "close" | "sendto" | "sendmsg" => return Ok(()),
            // Reading, or memory of its own; SQLite's index of the log is
            // rebuilt from the log.
            "mmap" if !(call.skeleton.contains("MAP_SHARED") && line.contains("PROT_WRITE")) => {
                return Ok(());
            }
            "mmap" => unknown(call.number(4)?),
            _ => unknown(call.number(0)?),
        });
        Ok(())
    }
}

/// A write, as far as it went.
fn written(call: &Call<'_>, offset: Option<usize>, result: i64) -> Result<Event> {
    let mut data = call.texts.concat();
    let written = usize::try_from(result)?;
    ensure!(data.len() >= written, "{written} bytes were written, {} recorded", data.len());
    data.truncate(written);
    Ok(Event::Write { fd: call.number(0)?, offset, data })
}

/// A call as strace prints it: `name(1, "\x61", [{iov_base="\x61", iov_len=1}], 2`.
struct Call<'a> {
    name: &'a str,
    /// The arguments with nothing between quotes and brackets.
    skeleton: String,
    texts: Vec<Vec<u8>>,
}

impl<'a> Call<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let (name, arguments) = text.split_once('(').context("no arguments")?;
        let (mut skeleton, mut texts, mut depth) = (String::new(), Vec::new(), 0_usize);
        let mut parts = arguments.split('"');
        while let Some(between) = parts.next() {
            ensure!(!between.starts_with("..."), "a text was cut off: raise strace's -s");
            for letter in between.chars() {
                depth = match letter {
                    '[' | '{' => depth + 1,
                    ']' | '}' => depth.saturating_sub(1),
                    _ => depth,
                };
                if depth == 0 {
                    skeleton.push(letter);
                }
            }
            if let Some(text) = parts.next() {
                texts.push(unescape(text)?);
            }
        }
        Ok(Self { name, skeleton, texts })
    }

    fn number<T: std::str::FromStr>(&self, argument: usize) -> Result<T> {
        let text = self.skeleton.split(", ").nth(argument).context("too few arguments")?;
        let text = text.trim_end_matches([')', ' ']);
        text.parse().ok().with_context(|| format!("not a number: {text:?} in {}", self.skeleton))
    }

    fn path(&self, text: usize) -> Result<PathBuf> {
        let text = self.texts.get(text).context("no path")?;
        Ok(PathBuf::from(String::from_utf8(text.clone())?))
    }
}

/// `\x61\x62`, as strace -xx prints every byte.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(4)
        .map(|escape| match *escape {
            [b'\\', b'x', high, low] => {
                digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low).context("not hex")
            }
            _ => bail!("not an escape"),
        })
        .collect()
}
