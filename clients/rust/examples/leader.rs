//! One of several processes leads, and stops the moment it cannot be sure of it.
//!
//! ```sh
//! cargo run --example leader -- elock://127.0.0.1:11400
//! ```

use std::time::Duration;

use elock_client::{Client, Error, Loss, Options};

/// Leads when it is this one's turn, for as long as `work` takes; again and again it would be in a loop.
pub async fn lead<T>(client: &Client, work: impl Future<Output = T>) -> Result<T, Error> {
    let guard = client.lock("leader").wait(Duration::MAX).await?;
    println!("leading, number {}", guard.token());
    tokio::select! {
        done = work => guard.release().await.map(|()| done),
        why = guard.lost() => {
            println!("not the leader any more: {why}");
            Err(Error::Lost { why })
        }
    }
}

#[tokio::main]
#[allow(dead_code, reason = "it is a test's module, too")]
async fn main() -> Result<(), Error> {
    let servers = std::env::args().nth(1);
    let servers = servers.as_deref().unwrap_or("127.0.0.1:11400");
    // A second before another could lead, so that this one has stopped by then.
    let options = Options::new(servers.parse()?).margin(Duration::from_secs(1));
    let client = options.connect().await?;
    let work = tokio::time::sleep(Duration::from_millis(200));
    match lead(&client, work).await {
        Err(Error::Lost {
            why: Loss::NotResumed,
        }) => println!("the network is gone"),
        led => led?,
    }
    client.close().await;
    Ok(())
}
