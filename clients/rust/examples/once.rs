//! A job that ten machines start at the same time, and that only one of them does.
//!
//! ```sh
//! cargo run --example once -- elock://127.0.0.1:11400
//! ```

use std::time::Duration;

use elock_client::{Client, Error};

/// Whether this one did it. The others do not wait: tomorrow is another day.
pub async fn once(
    client: &Client,
    job: &str,
    work: impl Future<Output = ()>,
) -> Result<bool, Error> {
    // The lease ends it if this process hangs, although its connection stands.
    let guard = match client.lock(job).lease(Duration::from_secs(60)).await {
        Ok(guard) => guard,
        Err(Error::Unavailable) => return Ok(false),
        Err(error) => return Err(error),
    };
    tokio::select! {
        () = work => guard.release().await.map(|()| true),
        why = guard.lost() => Err(Error::Lost { why }),
    }
}

#[tokio::main]
#[allow(dead_code, reason = "it is a test's module, too")]
async fn main() -> Result<(), Error> {
    let servers = std::env::args().nth(1);
    let client = Client::connect(servers.as_deref().unwrap_or("127.0.0.1:11400")).await?;
    let did_it = once(&client, "nightly-report", async {
        println!("making the report");
    });
    match did_it.await? {
        true => println!("done"),
        false => println!("another machine does it"),
    }
    client.close().await;
    Ok(())
}
