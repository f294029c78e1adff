//! What runs: three servers behind nginx, PostgreSQL, Redis, and an object store of three nodes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::service::{Role, Service};
use super::topology::{Machine, Network};
use crate::guide::{REVERSE_PROXY, replace};
use crate::http::Http;
use crate::process::Client;
use crate::scenario::{Stage, wait_until};
use crate::seaweedfs::{Bucket, identities};
use crate::{postgres, proxy};

pub(super) const REPLICAS: [&str; 3] = ["replica-1", "replica-2", "replica-3"];
const VOLUMES: [&str; 3] = ["volume-1", "volume-2", "volume-3"];
const PORT: u16 = 5000;
const FRONT_PORT: u16 = 80;
const DATABASE_PORT: u16 = 5432;
const REDIS_PORT: u16 = 6379;

const START_LIMIT: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(10);

/// The answer's header with the servers that nginx tried.
pub(super) const TRIED: &str = "x-tried";

pub(super) struct Cluster {
    pub(super) services: Vec<Service>,
    /// What the servers have in common, and `orlop check` needs.
    environment: Vec<(&'static str, String)>,
    /// Where clients go to.
    pub(super) front: String,
    database: String,
    network: Network,
}

impl Cluster {
    /// Starts all of it on a network that this thread is moved to.
    pub(super) fn start(stage: &Stage, program: &Path) -> Result<Self> {
        let network = Network::enter(stage)?;
        let database = network.machine(stage, "postgres", 20)?;
        let redis = network.machine(stage, "redis", 21)?;
        let balancer = network.machine(stage, "balancer", 10)?;
        let store = store(stage, &network)?;
        let bucket = Bucket { url: gateway_url(&store) };
        let mut environment = bucket.environment("registry");
        environment.extend([
            ("REGISTRY_DATABASE_URL", database_url(&database.address)),
            ("REGISTRY_REDIS_ADDR", format!("{}:{REDIS_PORT}", redis.address)),
            ("REGISTRY_HTTP_SECRET", "shared by all".to_owned()),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "true".to_owned()),
            // So that what the store does wrong is seen by Orlop, not by its clients.
            ("REGISTRY_STORAGE_REDIRECT_DISABLE", "true".to_owned()),
        ]);
        let mut cluster = Self {
            services: store,
            environment,
            front: format!("{}:{FRONT_PORT}", balancer.address),
            database: database.address.clone(),
            network,
        };
        cluster.services.push(postgres_server(stage, database)?);
        cluster.services.push(redis_server(redis));
        cluster.services.iter_mut().try_for_each(|service| service.start(stage))?;
        wait_until(START_LIMIT, || bucket.make(stage))?;
        wait_until(START_LIMIT, || cluster.query(stage, "SELECT 1"))?;
        cluster.add_replicas(stage, program)?;
        cluster.add_balancer(stage, balancer)?;
        Ok(cluster)
    }

    fn add_replicas(&mut self, stage: &Stage, program: &Path) -> Result<()> {
        for (name, last) in REPLICAS.into_iter().zip(11..) {
            let machine = self.network.machine(stage, name, last)?;
            let mut environment = self.environment.clone();
            environment.push(("REGISTRY_HTTP_ADDR", format!("{}:{PORT}", machine.address)));
            let line = vec![program.to_string_lossy().into_owned(), "serve".to_owned()];
            let mut replica = Service::new(Role::Replica, machine, line, environment);
            replica.start(stage)?;
            self.services.push(replica);
        }
        self.replicas().iter().try_for_each(|host| wait_for(host))
    }

    /// nginx, as the guide has it, which says in addition where a request went.
    fn add_balancer(&mut self, stage: &Stage, machine: Machine) -> Result<()> {
        let guide = REVERSE_PROXY.block("nginx", "10.0.0.13:5000")?;
        let replicas = self.replicas();
        let mut changes: Vec<(&str, &str)> = ["10.0.0.11:5000", "10.0.0.12:5000", "10.0.0.13:5000"]
            .into_iter()
            .zip(replicas.iter().map(String::as_str))
            .collect();
        let pass = "proxy_pass http://registry;";
        let tell = format!("{pass}\n        add_header {TRIED} $upstream_addr always;");
        changes.push((pass, &tell));
        let server = proxy::without_tls(&replace(&guide, &changes)?, &self.front)?;
        let line = proxy::nginx_command(stage, &server)?;
        let nginx = Service::new(Role::Balancer, machine, line, Vec::new());
        // It takes its workers with it.
        let mut nginx = nginx.crashes_with(Signal::TERM);
        nginx.start(stage)?;
        self.services.push(nginx);
        wait_for(&self.front)
    }

    /// The addresses of the servers.
    pub(super) fn replicas(&self) -> Vec<String> {
        let replicas = self.services.iter().filter(|service| service.role == Role::Replica);
        replicas.map(|service| format!("{}:{PORT}", service.machine.address)).collect()
    }

    /// Waits until all answer.
    pub(super) fn wait_for_all(&mut self) -> Result<()> {
        for host in self.replicas().iter().chain([&self.front]) {
            wait_for(host)?;
        }
        self.services.iter_mut().try_for_each(Service::is_well)
    }

    /// What a query says.
    pub(super) fn query(&self, stage: &Stage, sql: &str) -> Result<String> {
        let client = postgres::client(stage, "psql")?.args(["--no-psqlrc", "--tuples-only"]);
        client.args(["--no-align", "--command", sql]).arg(database_url(&self.database)).text()
    }

    /// Stops the servers and has `orlop check` compare the database with the store, and every
    /// object with its digest.
    pub(super) fn stop_and_check(&mut self, stage: &Stage) -> Result<()> {
        let replicas = self.services.iter_mut().filter(|service| service.role == Role::Replica);
        for replica in replicas {
            replica.ask_to_stop()?;
            replica.wait_for_stop()?;
        }
        let found = self.command(stage, "check").outcome()?;
        ensure!(found.code() == Some(0), "orlop check:{}", found.said());
        Ok(())
    }

    /// Another command of the program, with the servers' configuration.
    fn command<'a>(&self, stage: &'a Stage, verb: &str) -> Client<'a> {
        let client = stage.client(&stage.binary().to_string_lossy()).arg(verb);
        self.environment.iter().fold(client, |client, (name, value)| client.env(name, value))
    }
}

/// Waits until requests to this address are answered.
pub(super) fn wait_for(host: &str) -> Result<()> {
    let http = Http::new(host, TIMEOUT);
    wait_until(START_LIMIT, || http.get("/v2/")?.expect(200))?;
    Ok(())
}

fn database_url(address: &str) -> String {
    format!("postgres://orlop@{address}:{DATABASE_PORT}/postgres")
}

fn postgres_server(stage: &Stage, machine: Machine) -> Result<Service> {
    let data = postgres::initialise(stage)?;
    let everybody = format!("host all all {} trust\n", Network::range());
    std::fs::write(data.join("pg_hba.conf"), everybody)?;
    let line = postgres::command_line(&data, &machine.address, DATABASE_PORT)?;
    // Its immediate shutdown, which is a crash.
    Ok(Service::new(Role::Postgres, machine, line, Vec::new()).crashes_with(Signal::QUIT))
}

/// It keeps nothing on disk.
fn redis_server(machine: Machine) -> Service {
    let (address, port) = (machine.address.clone(), REDIS_PORT.to_string());
    let line = ["redis-server", "--bind", &address, "--port", &port, "--save", ""];
    let line = [&line[..], &["--protected-mode", "no"]].concat();
    let line = line.into_iter().map(str::to_owned).collect();
    Service::new(Role::Redis, machine, line, Vec::new())
}

/// Two copies of everything, on two of three nodes.
fn store(stage: &Stage, network: &Network) -> Result<Vec<Service>> {
    let weed = |role, machine: Machine, verb: &str, arguments: &[String]| {
        let here = &machine.address;
        let mut line = ["weed", verb].map(str::to_owned).to_vec();
        line.extend([format!("-ip={here}"), format!("-ip.bind={here}")]);
        line.extend_from_slice(arguments);
        Service::new(role, machine, line, Vec::new())
    };
    let folder =
        |name: &str| -> Result<String> { Ok(stage.folder(name)?.to_string_lossy().into_owned()) };
    let master = network.machine(stage, "master", 30)?;
    let known = format!("{}:9333", master.address);
    let arguments = [
        format!("-mdir={}", folder("master")?),
        // One more copy, on another rack.
        "-defaultReplication=010".to_owned(),
        "-volumeSizeLimitMB=256".to_owned(),
        "-telemetry=false".to_owned(),
    ];
    let mut services = vec![weed(Role::Master, master, "master", &arguments)];
    for (name, last) in VOLUMES.into_iter().zip(31..) {
        let arguments = [
            format!("-dir={}", folder(name)?),
            format!("-mserver={known}"),
            format!("-rack={name}"),
            "-dataCenter=one".to_owned(),
            "-max=100".to_owned(),
        ];
        let machine = network.machine(stage, name, last)?;
        services.push(weed(Role::Volume, machine, "volume", &arguments));
    }
    let filer = folder("filer")?;
    let arguments = [
        format!("-defaultStoreDir={filer}"),
        format!("-localSocket={filer}/filer.sock"),
        format!("-s3.localSocket={filer}/s3.sock"),
        format!("-master={known}"),
        "-s3".to_owned(),
        format!("-s3.port={S3_PORT}"),
        format!("-s3.config={}", identities(stage)?.display()),
    ];
    let gateway = network.machine(stage, "gateway", 34)?;
    services.push(weed(Role::Gateway, gateway, "filer", &arguments));
    Ok(services)
}

const S3_PORT: u16 = 8333;

fn gateway_url(store: &[Service]) -> String {
    let gateway = store.iter().find(|service| service.role == Role::Gateway);
    let address = gateway.map(|service| service.machine.address.as_str()).unwrap_or_default();
    format!("http://{address}:{S3_PORT}")
}
