//! Amazon's list of its networks: fetched in the background, and again now and then.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cloudfront::Networks;
use http::StatusCode;
use net::client::{Client, Limits};
use tokio::sync::watch;

use crate::config::AmazonNetworks;

/// What the list may cost. It has some 2 MB.
const LIMITS: Limits = Limits { time: Duration::from_mins(1), body: 32 << 20 };

/// The longest wait after a failure: without a list, nobody is in Amazon's networks.
const RETRY: Duration = Duration::from_mins(5);

/// The networks as they are known at any time: none until the list was fetched, which begins now.
pub(crate) fn follow(asked: AmazonNetworks) -> anyhow::Result<watch::Receiver<Networks>> {
    let client = Client::new(LIMITS, None)?;
    let (sender, receiver) = watch::channel(Networks::default());
    tokio::spawn(async move {
        while !sender.is_closed() {
            tokio::time::sleep(update(&client, &asked, &sender).await).await;
        }
    });
    Ok(receiver)
}

/// Fetches the list; what was known before stays if that fails. Says how long to wait then.
async fn update(
    client: &Client,
    asked: &AmazonNetworks,
    known: &watch::Sender<Networks>,
) -> Duration {
    match fetch(client, asked).await {
        Ok(networks) => {
            known.send_replace(networks);
            asked.update_interval
        }
        Err(error) => {
            let error = format!("{error:#}");
            let first = known.borrow().is_empty();
            let consequence =
                if first { "all clients go to CloudFront" } else { "the last one stays" };
            tracing::warn!(error, "cannot fetch the list of Amazon's networks: {consequence}");
            asked.update_interval.min(RETRY)
        }
    }
}

async fn fetch(client: &Client, asked: &AmazonNetworks) -> anyhow::Result<Networks> {
    let AmazonNetworks { list: url, regions, .. } = asked;
    let answer = client.get(url).await?;
    let status = answer.status();
    ensure!(status == StatusCode::OK, "{url}: expected status 200, found {status}");
    let networks = Networks::parse(answer.body(), regions).with_context(|| url.to_string())?;
    // An empty list would send everybody to CloudFront, as if nothing had been asked for.
    ensure!(
        !networks.is_empty(),
        "{url}: expected networks{}, found none",
        if regions.is_empty() { String::new() } else { format!(" in {}", regions.join(", ")) }
    );
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn list(network: &str) -> String {
        let list = format!(
            r#"{{"prefixes": [{{"ip_prefix": "{network}", "region": "eu-west-1"}},
                {{"ip_prefix": "192.0.2.0/24", "region": "us-east-1"}}]}}"#
        );
        format!("200 OK\r\ncontent-length: {}\r\n\r\n{list}", list.len())
    }

    /// Sends one answer to the next who asks.
    async fn answer(listener: &TcpListener, answer: &str) {
        let (mut stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
    }

    async fn listen() -> (TcpListener, AmazonNetworks) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let list = format!("http://{}/ip-ranges.json", listener.local_addr().unwrap());
        let (regions, update_interval) = (vec!["eu-west-1".to_owned()], Duration::from_millis(1));
        (listener, AmazonNetworks { list: list.parse().unwrap(), update_interval, regions })
    }

    #[tokio::test]
    async fn the_list_is_fetched_again_and_again() {
        let (listener, asked) = listen().await;
        let mut known = follow(asked).unwrap();
        let [first, second, other]: [IpAddr; 3] =
            ["203.0.113.7", "198.51.100.7", "192.0.2.7"].map(|text| text.parse().unwrap());
        assert!(known.borrow().is_empty());
        answer(&listener, "503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        answer(&listener, &list("203.0.113.0/24")).await;
        timeout(LIMIT, known.changed()).await.unwrap().unwrap();
        assert!(known.borrow().contain(first) && !known.borrow().contain(second));
        assert!(!known.borrow().contain(other));

        // That is no list, and those before stay. The next question shows that it was read.
        answer(&listener, "200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        answer(&listener, "404 No\r\ncontent-length: 0\r\n\r\n").await;
        assert!(!known.has_changed().unwrap() && known.borrow().contain(first));

        answer(&listener, &list("198.51.100.0/24")).await;
        timeout(LIMIT, known.changed()).await.unwrap().unwrap();
        assert!(!known.borrow().contain(first) && known.borrow().contain(second));
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let (listener, mut asked) = listen().await;
        let client = Client::new(LIMITS, None).unwrap();
        let failure = async |asked: &AmazonNetworks, said: &str| {
            let (failure, ()) = tokio::join!(fetch(&client, asked), answer(&listener, said));
            format!("{:#}", failure.unwrap_err())
        };
        let url = asked.list.to_string();
        let said = failure(&asked, "200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert!(said.starts_with(&format!("{url}: expected a list of networks as in")), "{said}");
        asked.regions = vec!["mars-1".to_owned(), "mars-2".to_owned()];
        let said = failure(&asked, &list("203.0.113.0/24")).await;
        assert_eq!(said, format!("{url}: expected networks in mars-1, mars-2, found none"));
    }
}
