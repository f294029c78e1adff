//! PostgreSQL passes the suite. Starts a server of its own, which must be installed.

mod support;

use metadata::Metadata;
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
    let config = server.url("postgres");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE DATABASE fresh").await.unwrap();
    let config = server.url("fresh");
    let opening = (0..8).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { Metadata::open_postgres(&config).await })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap().ping().await.unwrap();
    }
}
