//! PostgreSQL passes the suite. Starts a server of its own, which must be installed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metadata::adoption::{count_unread, mark_all_unread};
use metadata::{
    Address, CopyProgress, Durability, Error, ErrorKind, Lock, Metadata, Presence, Role, Status,
    repositories, settings,
};
use support::Server;
use tokio_postgres::NoTls;

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_suite() {
    let server = Server::start();
    let metadata = server.connect().await;
    metadata::conformance::run(&metadata).await.unwrap();
    // A second start finds the schema that the first one made.
    server.connect().await.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_make_one_schema() {
    let server = Server::start();
    server.connect().await;
    let client = client(&server, "postgres").await;
    client.batch_execute("CREATE DATABASE fresh").await.unwrap();
    let config = server.url("fresh");
    let opening = (0..8).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { Metadata::open_postgres(&config.parse().unwrap()).await })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap().ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_bridged() {
    let mut server = Server::start();
    let metadata = server.connect().await;
    let presence = metadata.enter(Role::Server).await.unwrap().unwrap();
    for crash in [false, true] {
        let writers = (0..4).map(|writer| {
            let metadata = metadata.clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    let name = format!("w{writer}/{crash}/n{number}");
                    // Nobody knows what became of a commit that the crash has interrupted. It
                    // may be repeated, as a client does.
                    if let Err(error) = make(&metadata, &name).await {
                        assert!(error.to_string().contains("may have happened"), "{error}");
                        make(&metadata, &name).await.unwrap();
                    }
                    assert!(is_there(&metadata, &name).await.unwrap(), "{name}");
                }
            })
        });
        let writers = writers.collect::<Vec<_>>();
        // All of them are at it by then.
        for writer in 0..4 {
            wait_for(&metadata, &format!("w{writer}/{crash}/n0")).await;
        }
        server.stop(if crash { "immediate" } else { "fast" });
        server.start_again();
        for writer in writers {
            writer.await.unwrap();
        }
        for writer in 0..4 {
            for number in 0..200 {
                let name = format!("w{writer}/{crash}/n{number}");
                assert!(is_there(&metadata, &name).await.unwrap(), "{name} is lost");
            }
        }
    }
    let lost = tokio::time::timeout(Duration::from_secs(8), presence.lost()).await;
    assert!(lost.is_err(), "nobody was alone with it meanwhile");
}

async fn wait_for(metadata: &Metadata, name: &str) {
    let found = async {
        while !is_there(metadata, name).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_is_an_error_in_time() {
    let mut server = Server::start();
    let metadata = server.connect().await;
    server.stop("fast");
    let started = Instant::now();
    let error = make(&metadata, "a/b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    // Those who come later hear of it at once.
    let started = Instant::now();
    let error = metadata.ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    server.start_again();
    server.connect().await;
    metadata.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_says_where_to_go() {
    let server = Server::start();
    server.connect().await;
    let client = client(&server, "postgres").await;
    client.execute("CREATE DATABASE still", &[]).await.unwrap();
    let read_only = "ALTER DATABASE still SET default_transaction_read_only = on";
    client.execute(read_only, &[]).await.unwrap();
    let opened = Metadata::open_postgres(&server.url("still").parse().unwrap()).await;
    let Err(error) = opened else { panic!("it was opened") };
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    assert!(error.to_string().contains("name the primary in database.url"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_has_an_end() {
    let server = Server::start();
    server.connect().await;
    let address: Address = server.url("postgres").parse().unwrap();
    let metadata = Metadata::open_postgres(&address.with_connections(2)).await.unwrap();
    let reading = (0..20).map(|_| {
        let metadata = metadata.clone();
        tokio::spawn(async move { metadata.ping().await })
    });
    for read in reading.collect::<Vec<_>>() {
        read.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_commands_that_must_be_alone() {
    let server = Server::start();
    let first = server.connect().await;
    let second = server.connect().await;
    let serving = first.enter(Role::Server).await.unwrap().unwrap();
    let beside = second.enter(Role::Server).await.unwrap().unwrap();
    let command = server.connect().await;
    assert!(command.enter(Role::Alone).await.unwrap().is_none(), "servers run");
    drop(beside);
    drop(second);

    // The connection that shows that it runs is cut, and the command comes first.
    let alone = cut_and_enter(&server.url("postgres"), &command).await;
    assert!(second_server(&server).await.is_none(), "a command runs");
    let error = make(&first, "a/b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    make(&command, "a/c").await.unwrap();
    drop(alone);
    tokio::time::timeout(Duration::from_secs(30), serving.lost()).await.unwrap();
    make(&first, "a/b").await.unwrap_err();
    assert!(second_server(&server).await.is_some());
}

/// What a command does to a store looks at no mark: so nobody writes there before it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_cut_off_has_ended_when_others_begin() {
    let server = Server::start();
    let command = server.connect().await;
    let alone = command.enter(Role::Alone).await.unwrap().unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_locks \
               WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'";
    client(&server, "postgres").await.batch_execute(cut).await.unwrap();
    let entering = second_server(&server);
    let first = tokio::select! {
        () = alone.lost() => "lost",
        _ = entering => "entered",
    };
    assert_eq!(first, "lost");
    alone.leave().await;
    let _serving = second_server(&server).await.unwrap();
    let error = make(&command, "a/b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    // One that was killed is waited for once; one that has said that it ended, not at all.
    let marks = "SELECT 1 FROM settings WHERE name = 'used-alone' AND value LIKE 'running %'";
    assert!(client(&server, "postgres").await.query(marks, &[]).await.unwrap().is_empty());
}

/// What a server was about to commit when it seemed to be gone is waited for, and seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_must_be_alone_waits_for_writes_that_have_begun() {
    let server = Server::start();
    server.connect().await;
    let client = client(&server, "postgres").await;
    for is_locked in [false, true] {
        let serving = server.connect().await;
        let _presence = serving.enter(Role::Server).await.unwrap().unwrap();
        let name = if is_locked { "locked/b" } else { "isolated/b" };
        make(&serving, name).await.unwrap();
        client.batch_execute("BEGIN; SELECT 1 FROM repositories FOR UPDATE").await.unwrap();
        let write = tokio::spawn(async move {
            let name: oci::RepositoryName = name.parse().unwrap();
            let (lock, durability) = (Lock::exclusive(&name), Durability::Power);
            if is_locked {
                serving
                    .write_locked(durability, lock, (), |tx, ()| Box::pin(mark_all_unread(tx)))
                    .await
            } else {
                serving.write(durability, (), |tx, ()| Box::pin(mark_all_unread(tx))).await
            }
        });
        until(&server, "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
            .await;
        let command = server.connect().await;
        let (entering, entered) = (command.clone(), server.url("postgres"));
        let entering = tokio::spawn(async move { cut_and_enter(&entered, &entering).await });
        let waits = "SELECT 1 FROM pg_locks WHERE relation = 'settings'::regclass \
                     AND mode = 'AccessExclusiveLock' AND NOT granted";
        until(&server, waits).await;
        client.batch_execute("COMMIT").await.unwrap();
        write.await.unwrap().unwrap();
        let alone = entering.await.unwrap();
        let seen = command.read(&(), |tx, ()| Box::pin(count_unread(tx))).await;
        assert!(seen.unwrap() > 0, "what was written is not there");
        drop(alone);
        client.batch_execute("UPDATE repositories SET links_unread = 0").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_stops_halfway_does_not_hold_up_others_for_long() {
    let server = Server::start();
    let stopped = server.connect().await;
    make(&stopped, "a/b").await.unwrap();
    let writing = tokio::spawn(async move {
        stopped
            .write(Durability::Power, (), |tx, ()| {
                Box::pin(async move {
                    mark_all_unread(tx).await?;
                    std::future::pending::<Result<(), Error>>().await
                })
            })
            .await
    });
    until(&server, "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'").await;
    let other = server.connect().await;
    let write = other.write(Durability::Power, (), |tx, ()| Box::pin(mark_all_unread(tx)));
    let written = tokio::time::timeout(Duration::from_secs(30), write).await;
    written.expect("it waits for a transaction of a program that has stopped").unwrap();
    writing.abort();
}

/// Waits until a query finds something.
async fn until(server: &Server, sql: &str) {
    let client = client(server, "postgres").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.query(sql, &[]).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "{sql}: nothing");
    }
}

async fn second_server(server: &Server) -> Option<Presence> {
    server.connect().await.enter(Role::Server).await.unwrap()
}

async fn cut_and_enter(url: &str, command: &Metadata) -> Presence {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_locks \
               WHERE locktype = 'advisory' AND mode = 'ShareLock'";
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        client.batch_execute(cut).await.unwrap();
        if let Some(alone) = command.enter(Role::Alone).await.unwrap() {
            return alone;
        }
        assert!(Instant::now() < deadline);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_goes_on_beside_a_newer_one_that_says_so() {
    let server = Server::start();
    let older = server.connect().await;
    let newer = client(&server, "postgres").await;
    let Status { known, compatible, .. } = older.status().await.unwrap();
    newer
        .batch_execute(&format!(
            "BEGIN; ALTER TABLE blobs ADD COLUMN news TEXT; \
             ALTER TABLE tags ALTER COLUMN updated_at SET DEFAULT 0; \
             INSERT INTO migrations (version) VALUES ({}); COMMIT",
            known + 1
        ))
        .await
        .unwrap();
    make(&older, "a/b").await.unwrap();
    assert!(is_there(&older, "a/b").await.unwrap());
    server.connect().await;
    let status = older.status().await.unwrap();
    assert_eq!((status.schema, status.compatible), (known + 1, compatible));

    let breaking = format!("UPDATE settings SET value = '{}' WHERE name = 'compatible'", known + 1);
    newer.batch_execute(&breaking).await.unwrap();
    let address = server.url("postgres").parse().unwrap();
    let error = Metadata::open_postgres(&address).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_to_and_fro_is_the_same() {
    let server = Server::start();
    server.connect().await;
    let folder = tempfile::tempdir().unwrap();
    let source = Metadata::open_sqlite(&folder.path().join("a")).await.unwrap();
    metadata::conformance::run(&source).await.unwrap();
    for number in 0..1200 {
        make(&source, &format!("copy/n{number}")).await.unwrap();
    }
    let id = store_id(&source).await;

    client(&server, "postgres").await.batch_execute("CREATE DATABASE copy").await.unwrap();
    let address: Address = server.url("copy").parse().unwrap();
    let target = Metadata::open_postgres_for_copy(&address).await.unwrap();
    // Cut short, it is nothing that can be used, and goes on later.
    let progress = Arc::new(CopyProgress::default());
    let cut = {
        let (source, target, progress) = (source.clone(), target.clone(), Arc::clone(&progress));
        tokio::spawn(async move { source.copy_into(&target, &progress).await })
    };
    while progress.done.load(Ordering::Relaxed) < 600 {
        tokio::task::yield_now().await;
    }
    cut.abort();
    assert!(cut.await.is_err());
    let error = Metadata::open_postgres(&address).await.err().unwrap();
    assert!(error.to_string().contains("orlop db copy"), "{error}");
    let progress = CopyProgress::default();
    let rows = source.copy_into(&target, &progress).await.unwrap();
    assert!(rows > 1200);
    assert_eq!(progress.done.load(Ordering::Relaxed), 2 * rows);
    let copied = Metadata::open_postgres(&address).await.unwrap();
    assert_eq!(store_id(&copied).await, id);
    // Numbers go on.
    make(&copied, "copy/new").await.unwrap();
    let error = source.copy_into(&target, &progress).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");

    let back = Metadata::open_sqlite_for_copy(&folder.path().join("b")).await.unwrap();
    assert_eq!(copied.copy_into(&back, &CopyProgress::default()).await.unwrap(), rows + 1);
    let back = Metadata::open_sqlite(&folder.path().join("b")).await.unwrap();
    assert_eq!(store_id(&back).await, id);
    assert!(
        is_there(&back, "copy/n77").await.unwrap() && is_there(&back, "copy/new").await.unwrap()
    );
    make(&back, "copy/newer").await.unwrap();
    let (mut left, mut right) = (back.status().await.unwrap(), copied.status().await.unwrap());
    left.tables.retain(|(table, _)| table != "repositories");
    right.tables.retain(|(table, _)| table != "repositories");
    assert_eq!(left.tables, right.tables);
    assert_eq!(back.check_structure().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_as_the_url_asks_for_it() {
    let server = start_with_tls();
    server.connect().await;
    let client = client(&server, "postgres").await;
    client.batch_execute("CREATE ROLE ada LOGIN SUPERUSER PASSWORD 'w@rd'").await.unwrap();
    let authority = server.folder.path().join("server.crt");
    let authority = authority.to_str().unwrap();
    let other = server.folder.path().join("other.crt");
    fs::write(&other, certificate("localhost").0).unwrap();
    let other = other.to_str().unwrap();
    for (host, query, works) in [
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={authority}"), true),
        ("localhost", format!("sslmode=verify-full&sslrootcert={authority}"), true),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={authority}"), false),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={other}"), false),
        ("localhost", "sslmode=verify-full".to_owned(), false),
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
    ] {
        let port = server.port;
        let url = format!("postgres://ada:w%40rd@{host}:{port}/postgres?{query}");
        let started = Instant::now();
        let opened = Metadata::open_postgres(&url.parse().unwrap()).await;
        assert_eq!(opened.is_ok(), works, "{host} {query}: {:?}", opened.err());
        assert!(started.elapsed() < Duration::from_secs(20), "{host} {query}");
        if let Err(error) = opened {
            assert!(!error.to_string().contains("w@rd"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_is_shown_by_a_certificate_or_a_password_file() {
    let (certificate, key) = certificate("localhost");
    let (of_client, key_of_client) = named_certificate("ada");
    let server = Server::start_with(&[
        ("server.crt", certificate),
        ("server.key", key),
        ("clients.crt", of_client.clone()),
        (
            "hba",
            "host all orlop all trust\nhostssl all ada all cert\nhost all bob all scram-sha-256\n"
                .to_owned(),
        ),
    ]);
    server.connect().await;
    let client = client(&server, "postgres").await;
    let roles = "CREATE ROLE ada LOGIN SUPERUSER; CREATE ROLE bob LOGIN SUPERUSER PASSWORD 'w:rd'";
    client.batch_execute(roles).await.unwrap();

    let file = |name: &str, text: &str| {
        let path = server.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let open = async |user: &str, query: String| {
        let url = format!("postgres://{user}@127.0.0.1:{}/postgres?{query}", server.port);
        let opened = Metadata::open_postgres(&url.parse().unwrap()).await;
        opened.map(drop).map_err(|error| error.to_string())
    };
    let (of_client, key_of_client) = (file("ada.crt", &of_client), file("ada.key", &key_of_client));
    let shown = format!("sslcert={of_client}&sslkey={key_of_client}");
    open("ada", format!("sslmode=require&{shown}")).await.unwrap();
    let refused = open("ada", "sslmode=require".to_owned()).await.unwrap_err();
    assert!(refused.contains("client certificate"), "{refused}");

    let line = format!("127.0.0.1:{}:postgres:bob:w\\:rd\n", server.port);
    let passwords = file("passwords", &line);
    open("bob", format!("passfile={passwords}")).await.unwrap();
    let readable = server.folder.path().join("passwords");
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = open("bob", format!("passfile={passwords}")).await.unwrap_err();
    assert!(refused.contains("password missing") && refused.contains("found 0644"), "{refused}");
    assert!(!refused.contains("w:rd"), "{refused}");
    // Who needs none is not held up.
    open("orlop", format!("passfile={passwords}")).await.unwrap();
}

async fn make(metadata: &Metadata, name: &str) -> Result<(), Error> {
    let name = name.parse::<oci::RepositoryName>().unwrap();
    let made = metadata
        .write(Durability::Power, name, |tx, name| Box::pin(repositories::ensure(tx, name, 1)));
    made.await.map(drop)
}

async fn is_there(metadata: &Metadata, name: &str) -> Result<bool, Error> {
    let name = name.parse::<oci::RepositoryName>().unwrap();
    let found = metadata.read(&name, |tx, name| Box::pin(repositories::find(tx, name))).await;
    Ok(found?.is_some())
}

async fn store_id(metadata: &Metadata) -> String {
    let id = metadata.read(&(), |tx, ()| Box::pin(settings::get(tx, settings::STORE_ID))).await;
    id.unwrap().unwrap()
}

/// One that has signed itself, and its key, as PEM.
fn certificate(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// The same of a client, which PostgreSQL knows by the common name.
fn named_certificate(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

async fn client(server: &Server, database: &str) -> tokio_postgres::Client {
    let config = server.url(database);
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Who comes without TLS must be `orlop`.
fn start_with_tls() -> Server {
    let (certificate, key) = certificate("localhost");
    Server::start_with(&[
        ("server.crt", certificate),
        ("server.key", key),
        ("hba", "host all orlop all trust\nhostssl all all all scram-sha-256\n".to_owned()),
    ])
}

/// A standby answers only what is new enough, and is missed by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_believed_as_far_as_it_has_come() {
    const LIMIT: Duration = Duration::from_millis(4);
    let server = Server::start();
    let writer = server.connect().await;
    let mut standby = server.standby();
    let address = |server: &Server| server.url("postgres").parse::<Address>().unwrap();
    let follows = async |limit| {
        let replica = address(&standby).with_connections(2);
        let both = address(&server).with_staleness(limit).with_replica(Some(replica));
        Metadata::open_postgres(&both).await.unwrap()
    };
    let (reader, strict) = (follows(Duration::from_hours(24)).await, follows(LIMIT).await);
    assert!(!is_there_relaxed(&reader, "a/b").await);
    make(&writer, "a/b").await.unwrap();
    catch_up(&server, &standby).await;
    let control = client(&standby, "postgres").await;
    control.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();

    make(&writer, "late/first").await.unwrap();
    assert!(!is_there_relaxed(&reader, "late/first").await, "the standby was asked");
    for number in 0..20 {
        let name = format!("late/n{number}");
        make(&writer, &name).await.unwrap();
        tokio::time::sleep(LIMIT).await;
        assert!(is_there_relaxed(&strict, &name).await, "{name} is older than it may be");
    }
    make(&reader, "own/one").await.unwrap();
    assert!(is_there_relaxed(&reader, "own/one").await, "what it has written itself it knows");

    standby.stop("immediate");
    make(&writer, "c/d").await.unwrap();
    tokio::time::sleep(LIMIT).await;
    assert!(is_there_relaxed(&strict, "c/d").await);
}

/// Waits until the standby has all that the server has written.
async fn catch_up(server: &Server, standby: &Server) {
    let (server, standby) = (client(server, "postgres").await, client(standby, "postgres").await);
    let ask = "SELECT pg_current_wal_insert_lsn()::text";
    let written: String = server.query_one(ask, &[]).await.unwrap().get(0);
    let ask = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    let caught_up = async {
        while !standby.query_one(&ask, &[]).await.unwrap().get::<_, bool>(0) {
            // Something more to send, as the end of a page is never reached.
            server.batch_execute("SELECT pg_log_standby_snapshot()").await.ok();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), caught_up).await.unwrap();
}

async fn is_there_relaxed(metadata: &Metadata, name: &str) -> bool {
    let name = name.parse::<oci::RepositoryName>().unwrap();
    let find = metadata.read_relaxed(&name, |tx, name| Box::pin(repositories::find(tx, name)));
    find.await.unwrap().is_some()
}
