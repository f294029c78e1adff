//! Starting clients, which end by themselves, and daemons, which do not.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::scenario::Stage;

/// How much of what a program said goes into an error.
const TAIL_LINES: usize = 20;
const TAIL_LINE_CHARACTERS: usize = 400;

impl Stage {
    /// A client command: killed at the scenario's deadline, without standard
    /// input, and with a home of its own, so that no configuration, login or
    /// cache of this machine matters.
    pub(crate) fn client(&self, program: &str) -> Client<'_> {
        let mut command = Command::new("timeout");
        self.isolate(&mut command);
        Client { stage: self, command, line: vec![program.to_owned()], input: None }
    }

    /// A daemon with its output in a file of the scenario's folder. It dies
    /// with this runner, however that ends.
    pub(crate) fn daemon(
        &self,
        name: &'static str,
        program: impl AsRef<OsStr>,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Daemon> {
        let log = self.path(&format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        // setpriv becomes the program, so that the child's pid is the daemon's.
        let mut command = Command::new("setpriv");
        self.isolate(&mut command);
        command
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .stdout(output.try_clone()?)
            .stderr(output);
        prepare(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Daemon { name, child, log })
    }

    /// The last warnings and errors of a daemon of that name, ready to be added to an error.
    pub(crate) fn complaints(&self, name: &str) -> String {
        let log = read_lossy(&self.path(&format!("{name}.log")));
        let is_one = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let lines = log.lines().filter(is_one).collect::<Vec<_>>().join("\n");
        format!("\n    complaints of {name}:{}", tail(&lines))
    }

    fn isolate(&self, command: &mut Command) {
        let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/bin");
        let home = self.path("home");
        let temporary = self.path("tmp");
        for folder in [&home, &temporary] {
            let _ = std::fs::create_dir_all(folder);
        }
        command
            .env_clear()
            .env("PATH", format!("{tools}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", &home)
            .env("XDG_RUNTIME_DIR", &home)
            .env("TMPDIR", &temporary)
            .current_dir(self.path(""))
            .stdin(Stdio::null());
    }
}

/// A command that is run to its end.
pub(crate) struct Client<'a> {
    stage: &'a Stage,
    command: Command,
    line: Vec<String>,
    input: Option<Vec<u8>>,
}

/// How a client ended and what it said.
pub(crate) struct Outcome {
    line: String,
    status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Client<'_> {
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.line.push(argument.as_ref().to_string_lossy().into_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Client::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Runs it; it must succeed. What it printed, without the last newline.
    pub(crate) fn text(self) -> Result<String> {
        let outcome = self.succeed()?;
        Ok(String::from_utf8_lossy(&outcome.stdout).trim_end().to_owned())
    }

    /// Runs it; it must succeed and print JSON.
    pub(crate) fn json(self) -> Result<serde_json::Value> {
        let outcome = self.succeed()?;
        serde_json::from_slice(&outcome.stdout)
            .with_context(|| format!("not JSON, but{}", outcome.said()))
    }

    /// Runs it; it must succeed.
    pub(crate) fn succeed(self) -> Result<Outcome> {
        let outcome = self.outcome()?;
        ensure!(outcome.status.success(), "{}", outcome.said());
        Ok(outcome)
    }

    /// Runs it; it must fail. What it said.
    pub(crate) fn fail(self) -> Result<String> {
        let outcome = self.outcome()?;
        ensure!(!outcome.status.success(), "expected this to fail:{}", outcome.said());
        Ok(outcome.said())
    }

    /// Runs it, however it ends.
    pub(crate) fn outcome(mut self) -> Result<Outcome> {
        let line = self.line.join(" ");
        let seconds = format!("{:.1}", self.stage.remaining()?.as_secs_f64());
        self.command
            .args(["--kill-after=5", &seconds])
            .args(&self.line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self.command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let writer = child.stdin.take().zip(self.input).map(|(mut pipe, bytes)| {
            // Of its own, because a client may print before it has read all.
            std::thread::spawn(move || pipe.write_all(&bytes))
        });
        let output =
            child.wait_with_output().with_context(|| format!("cannot wait for `{line}`"))?;
        drop(writer);
        Ok(Outcome { line, status: output.status, stdout: output.stdout, stderr: output.stderr })
    }
}

impl Outcome {
    /// The exit code; none if a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The command, how it ended and what it printed, for an error.
    pub(crate) fn said(&self) -> String {
        let mut text = format!("\n    $ {}\n    ended with {}", self.line, self.status);
        if self.status.code() == Some(124) {
            text.push_str(" (killed at the scenario's deadline)");
        }
        for (name, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !bytes.is_empty() {
                let _ = write!(text, "\n    {name}:{}", tail(&String::from_utf8_lossy(bytes)));
            }
        }
        text
    }
}

/// A process that runs until it is stopped; killed when dropped.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the log's end if the process has ended.
    pub(crate) fn is_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                // Another one may write what it serves to the same file.
                let log = self.log();
                let words = log.lines().filter(|line| !line.contains(" INFO access "));
                let words = words.collect::<Vec<_>>().join("\n");
                bail!("{} ended early with {status}; its log:{}", self.name, tail(&words))
            }
        }
    }

    /// Asks it to end with SIGTERM; it must do so within the limit.
    pub(crate) fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        // Once it has been waited for, its id may be another process's.
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Waits until it has ended, as it was told to; it must do so within the limit.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!(
                    "{} still runs {} s after the signal to end{}",
                    self.name,
                    limit.as_secs(),
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it with SIGKILL, as the machine would: nothing of it runs after.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id that is none")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// The end of what it printed, ready to be added to an error.
    pub(crate) fn log_tail(&self) -> String {
        format!("\n    log of {}:{}", self.name, tail(&self.log()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A daemon with children of its own needs the chance to end them.
        if self.stop(Duration::from_secs(15)).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines, each on a line of its own and indented.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    lines.iter().skip(first).fold(String::new(), |mut joined, line| {
        let shown: String = line.chars().take(TAIL_LINE_CHARACTERS).collect();
        let _ = write!(joined, "\n      {shown}");
        joined
    })
}
