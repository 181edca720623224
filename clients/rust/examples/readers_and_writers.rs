//! A document that many may read at once, and that one may change while nobody reads.
//!
//! ```sh
//! cargo run --example readers_and_writers -- elock://127.0.0.1:11400
//! ```

use std::time::Duration;

use elock_client::{Client, Error, Guard};

const WAIT: Duration = Duration::from_secs(10);

/// All who read name the same value, and share the lock.
pub async fn read(client: &Client, document: &str) -> Result<Guard, Error> {
    client.lock(document).shared("r").wait(WAIT).await
}

/// Whoever writes has it alone. It is served in its turn, however many readers go on coming.
pub async fn write(client: &Client, document: &str) -> Result<Guard, Error> {
    client.lock(document).wait(WAIT).await
}

#[tokio::main]
#[allow(dead_code, reason = "it is a test's module, too")]
async fn main() -> Result<(), Error> {
    let servers = std::env::args().nth(1);
    let client = Client::connect(servers.as_deref().unwrap_or("127.0.0.1:11400")).await?;
    let (one, other) = (read(&client, "doc").await?, read(&client, "doc").await?);
    println!("two read");
    drop(other);
    // The only reader may become the writer, and the writer a reader, without letting go.
    one.promote().await?;
    println!("one writes");
    one.demote("r").await?;
    one.release().await?;
    let writer = write(&client, "doc").await?;
    println!("one writes");
    writer.release().await?;
    client.close().await;
    Ok(())
}
