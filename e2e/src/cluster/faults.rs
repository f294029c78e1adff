//! What goes wrong while clients work: programs are killed, paused and cut off, at random.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::service::{Role, Service};
use super::stack::Cluster;
use crate::random::Random;
use crate::scenario::Stage;

/// Something that goes wrong with a program of a kind.
struct Fault {
    role: Role,
    trouble: Trouble,
    /// How long it lasts, in milliseconds.
    lasts: (usize, usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    /// It ends at once, and is started again in the end.
    Crash,
    /// It is asked to end, and is started again.
    Stop,
    /// It stands still.
    Pause,
    /// Nothing comes through to it or from it; connections stay.
    Cut,
    /// Connections to it and from it break.
    Reset,
}

const fn fault(role: Role, trouble: Trouble, least: usize, most: usize) -> Fault {
    Fault { role, trouble, lasts: (least, most) }
}

/// Longer than the lease of a server (8 s): others have taken over what it had when it goes on.
const ASLEEP: (usize, usize) = (9_000, 12_000);

/// All that goes wrong. Clean-up and events will have their lines here.
const FAULTS: &[Fault] = &[
    fault(Role::Replica, Trouble::Crash, 0, 3_000),
    fault(Role::Replica, Trouble::Stop, 0, 1_000),
    fault(Role::Replica, Trouble::Pause, ASLEEP.0, ASLEEP.1),
    fault(Role::Replica, Trouble::Cut, 1_000, 10_000),
    fault(Role::Replica, Trouble::Reset, 100, 1_000),
    fault(Role::Balancer, Trouble::Crash, 0, 500),
    fault(Role::Postgres, Trouble::Crash, 0, 3_000),
    fault(Role::Postgres, Trouble::Cut, 1_000, 6_000),
    fault(Role::Postgres, Trouble::Reset, 100, 1_000),
    fault(Role::Redis, Trouble::Crash, 0, 5_000),
    fault(Role::Redis, Trouble::Pause, 500, 5_000),
    fault(Role::Redis, Trouble::Cut, 500, 5_000),
    fault(Role::Volume, Trouble::Crash, 0, 8_000),
    fault(Role::Volume, Trouble::Pause, 1_000, 8_000),
    fault(Role::Volume, Trouble::Cut, 1_000, 8_000),
    fault(Role::Master, Trouble::Pause, 500, 3_000),
    fault(Role::Gateway, Trouble::Pause, 500, 4_000),
    fault(Role::Gateway, Trouble::Cut, 500, 4_000),
    fault(Role::Gateway, Trouble::Reset, 100, 1_000),
];

/// Between the beginnings of two faults, in milliseconds. Several may be on at a time.
const BETWEEN: (usize, usize) = (500, 4_000);
/// How long programs of one kind are left alone after a fault of one of them.
const PEACE: Duration = Duration::from_secs(2);
/// The same for the nodes of the store, of which two must not be missing at a time: until the one
/// that was away counts among the others again.
const STORE_PEACE: Duration = Duration::from_secs(8);
/// What a server that is asked to end may take beside other troubles.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(20);

/// A fault that is on.
struct Present {
    trouble: Trouble,
    /// The place of the service among all.
    service: usize,
    end: Instant,
}

/// What went wrong so far.
pub(super) struct Faults<'a> {
    stage: &'a Stage,
    random: Random,
    begun: Instant,
    present: Vec<Present>,
    /// When a fault of a kind of program ended.
    ended: Vec<(Role, Instant)>,
    pub(super) count: usize,
    pub(super) log: Vec<String>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(stage: &'a Stage, random: Random) -> Self {
        let (begun, present, ended) = (Instant::now(), Vec::new(), Vec::new());
        Self { stage, random, begun, present, ended, count: 0, log: Vec::new() }
    }

    /// Makes trouble for so long, or until `stop`; in the end all is well again.
    pub(super) fn make(
        &mut self,
        cluster: &mut Cluster,
        duration: Duration,
        stop: &AtomicBool,
    ) -> Result<()> {
        let end = Instant::now() + duration;
        let mut next = Instant::now();
        while Instant::now() < end && !stop.load(Ordering::SeqCst) {
            self.end_what_is_over(cluster, Instant::now())?;
            self.nobody_ended(cluster)?;
            if Instant::now() >= next {
                self.begin_one(cluster)?;
                next = Instant::now() + self.milliseconds(BETWEEN);
            }
            std::thread::sleep(TICK);
        }
        while !self.present.is_empty() {
            let last = self.present.iter().map(|fault| fault.end).max().unwrap_or(end);
            self.end_what_is_over(cluster, last)?;
            std::thread::sleep(TICK);
        }
        self.say("the end of all faults");
        cluster.wait_for_all()
    }

    /// Nothing ends that was not told to.
    fn nobody_ended(&self, cluster: &mut Cluster) -> Result<()> {
        for (at, service) in cluster.services.iter_mut().enumerate() {
            let stops = |fault: &Present| fault.service == at && fault.trouble == Trouble::Stop;
            if !self.present.iter().any(stops) {
                service.is_well()?;
            }
        }
        Ok(())
    }

    fn begin_one(&mut self, cluster: &mut Cluster) -> Result<()> {
        let possible = FAULTS.iter().filter(|fault| !self.is_left_alone(cluster, fault.role));
        let possible: Vec<_> = possible.collect();
        let Some(last) = possible.len().checked_sub(1) else { return Ok(()) };
        let fault = *possible.get(self.random.between(0, last)).context("a fault")?;
        let those = cluster.services.iter().enumerate();
        let those: Vec<_> =
            those.filter(|(_, one)| one.role == fault.role).map(|(at, _)| at).collect();
        let at = *those.get(self.random.between(0, those.len() - 1)).context("a service")?;
        let lasts = self.milliseconds(fault.lasts);
        let service = cluster.services.get_mut(at).context("a service")?;
        self.count += 1;
        self.say(&format!("{:?} {} for {} ms", fault.trouble, service.name(), lasts.as_millis()));
        begin(fault.trouble, service, self.stage)?;
        let end = Instant::now() + lasts;
        self.present.push(Present { trouble: fault.trouble, service: at, end });
        Ok(())
    }

    /// One of the kind has trouble, or had it a moment ago.
    fn is_left_alone(&self, cluster: &Cluster, role: Role) -> bool {
        let has = |fault: &Present| {
            cluster.services.get(fault.service).is_some_and(|service| service.role == role)
        };
        let peace = if role == Role::Volume { STORE_PEACE } else { PEACE };
        let had = |(of, at): &(Role, Instant)| *of == role && at.elapsed() < peace;
        self.present.iter().any(has) || self.ended.iter().any(had)
    }

    fn end_what_is_over(&mut self, cluster: &mut Cluster, now: Instant) -> Result<()> {
        for at in (0..self.present.len()).rev() {
            let Some(fault) = self.present.get(at).filter(|fault| fault.end <= now) else {
                continue;
            };
            let service = cluster.services.get_mut(fault.service).context("a service")?;
            // Others have their troubles meanwhile.
            let is_patient = fault.end + STOP_LIMIT > Instant::now();
            if fault.trouble == Trouble::Stop && service.runs() && is_patient {
                continue;
            }
            let fault = self.present.swap_remove(at);
            let service = cluster.services.get_mut(fault.service).context("a service")?;
            end(fault.trouble, service, self.stage)?;
            self.ended.push((service.role, Instant::now()));
            let name = service.name();
            self.say(&format!("end of {:?} {name}", fault.trouble));
        }
        Ok(())
    }

    fn milliseconds(&mut self, (least, most): (usize, usize)) -> Duration {
        Duration::from_millis(self.random.between(least, most) as u64)
    }

    fn say(&mut self, what: &str) {
        self.log.push(format!("{:.2} s: {what}", self.begun.elapsed().as_secs_f64()));
    }
}

fn begin(trouble: Trouble, service: &mut Service, stage: &Stage) -> Result<()> {
    match trouble {
        Trouble::Crash => service.crash(),
        Trouble::Stop => service.ask_to_stop(),
        Trouble::Pause => service.pause(),
        Trouble::Cut => service.machine.cut_off(stage),
        Trouble::Reset => service.machine.reset_connections(stage, true),
    }
}

fn end(trouble: Trouble, service: &mut Service, stage: &Stage) -> Result<()> {
    match trouble {
        Trouble::Crash => service.start(stage),
        Trouble::Stop => service.wait_for_stop().and_then(|()| service.start(stage)),
        Trouble::Pause => service.resume(),
        Trouble::Cut => service.machine.plug_in(stage),
        Trouble::Reset => service.machine.reset_connections(stage, false),
    }
}
