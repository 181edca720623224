//! A row that only the latest holder of its lock may write, however late the others are.
//!
//! ```sh
//! cargo run --example fencing -- elock://127.0.0.1:11400
//! ```

use std::time::Duration;

use elock_client::{Client, Error};
use rusqlite::{Connection, params};

/// `last_token` is what makes a late writer known.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS reports (
    id INTEGER PRIMARY KEY, body TEXT NOT NULL, last_token INTEGER NOT NULL DEFAULT 0
)";

/// Whether it was written: not if someone with a later grant has written before.
pub fn write(db: &Connection, id: i64, body: &str, token: u64) -> rusqlite::Result<bool> {
    // Tokens are below 2^63.
    let token = i64::try_from(token).unwrap_or(i64::MAX);
    let changed = db.execute(
        "INSERT INTO reports (id, body, last_token) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET body = ?2, last_token = ?3 WHERE last_token <= ?3",
        params![id, body, token],
    )?;
    Ok(changed == 1)
}

#[tokio::main]
#[allow(dead_code, reason = "it is a test's module, too")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let servers = std::env::args().nth(1);
    let client = Client::connect(servers.as_deref().unwrap_or("127.0.0.1:11400")).await?;
    let db = Connection::open_in_memory()?;
    db.execute(TABLE, [])?;
    let guard = client.lock("report-7").wait(Duration::from_secs(5)).await?;
    if !write(&db, 7, "everything is fine", guard.token())? {
        println!("someone else has had the lock since");
    }
    match guard.release().await {
        Ok(()) => println!("written"),
        Err(Error::Lost { why }) => println!("written, or refused by the database: {why}"),
        Err(error) => return Err(error.into()),
    }
    client.close().await;
    Ok(())
}
