//! One program on a machine of its own, which can be killed, paused and cut off.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::topology::Machine;
use crate::process::Daemon;
use crate::scenario::Stage;

/// What a program that is asked to end may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What a program is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    Replica,
    Balancer,
    Postgres,
    Redis,
    /// Of the object store: who knows which volume is where, those that keep them, and who speaks
    /// S3.
    Master,
    Volume,
    Gateway,
}

pub(super) struct Service {
    pub(super) role: Role,
    pub(super) machine: Machine,
    /// Program and arguments.
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// What ends it at once.
    crash: Signal,
    process: Option<Daemon>,
}

impl Service {
    pub(super) fn new(
        role: Role,
        machine: Machine,
        command: Vec<String>,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        Self { role, machine, command, environment, crash: Signal::KILL, process: None }
    }

    /// The same for a program whose children would go on without it.
    pub(super) fn crashes_with(mut self, crash: Signal) -> Self {
        self.crash = crash;
        self
    }

    pub(super) fn name(&self) -> &'static str {
        self.machine.name
    }

    /// Another program with the same arguments, from the next start on.
    pub(super) fn replace_program(&mut self, program: String) {
        if let Some(first) = self.command.first_mut() {
            *first = program;
        }
    }

    /// Starts it, and does not wait until it is of use.
    pub(super) fn start(&mut self, stage: &Stage) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name());
        self.process = Some(stage.daemon(self.name(), "nsenter", |command| {
            command.args([&self.machine.place(), "--"]).args(&self.command);
            command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        })?);
        Ok(())
    }

    /// An error if it has ended although nobody wanted it to.
    pub(super) fn is_well(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.is_running(),
            None => Ok(()),
        }
    }

    /// Ends it without a chance to put anything in order.
    pub(super) fn crash(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(self.crash)?;
        process.wait(STOP_LIMIT).map(drop)
    }

    /// Asks it to end, and does not wait.
    pub(super) fn ask_to_stop(&self) -> Result<()> {
        self.process()?.signal(Signal::TERM)
    }

    /// Waits until it has ended, as it was asked to: with success.
    pub(super) fn wait_for_stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let status = process.wait(STOP_LIMIT)?;
        ensure!(status.success(), "{} ended with {status}{}", self.name(), process.log_tail());
        Ok(())
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.is_running().is_ok())
    }

    pub(super) fn pause(&self) -> Result<()> {
        self.process()?.signal(Signal::STOP)
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.process()?.signal(Signal::CONT)
    }

    fn process(&self) -> Result<&Daemon> {
        self.process.as_ref().with_context(|| format!("{} does not run", self.name()))
    }
}

impl Drop for Service {
    /// What it has kept is of no use to anybody any more: none is given time to put it in order.
    fn drop(&mut self) {
        let _ = self.crash();
    }
}
