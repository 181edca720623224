//! provisional

use std::sync::Arc;
use std::time::{Duration, Instant};

use elock_client::command::{self, Mode};
use elock_client::{Connection, Error, Loss, Servers};
use tokio::sync::{Mutex, oneshot, watch};

pub struct Request {
    pub keys: Vec<Vec<u8>>,
    pub mode: Mode,
    pub wait: Duration,
    pub lease: Option<Duration>,
    pub grace: Duration,
    pub margin: Duration,
    pub name: Vec<u8>,
}

#[derive(Clone)]
pub struct Client(Arc<Mutex<Option<Connection>>>);

impl Client {
    pub async fn close(self) {}
}

pub struct Guard {
    tokens: Vec<u64>,
    state: watch::Receiver<(Instant, Option<Loss>)>,
    limit: Duration,
    release: oneshot::Sender<oneshot::Sender<Result<(), Error>>>,
}

impl Request {
    pub async fn connect(&self, servers: &Servers) -> Result<Client, Error> {
        let mut c = Connection::connect(&servers.addresses()[0]).await?;
        c.call(&command::SetTimeout { grace: self.grace }).await?;
        c.call(&command::Name {
            name: self.name.clone(),
        })
        .await?;
        Ok(Client(Arc::new(Mutex::new(Some(c)))))
    }

    pub async fn take(&self, client: &Client) -> Result<Guard, Error> {
        let mut c = client.0.lock().await.take().expect("once");
        if self.keys.len() > 1 {
            c.call(&command::LockAll {
                keys: self.keys.clone(),
                wait: self.wait,
            })
            .await?;
        } else {
            c.call(&command::Lock {
                key: self.keys[0].clone(),
                mode: self.mode.clone(),
                wait: self.wait,
                owner: None,
            })
            .await?;
        }
        let mut tokens = Vec::new();
        for key in &self.keys {
            tokens.push(
                c.call(&command::Token {
                    key: key.clone(),
                    owner: None,
                })
                .await?,
            );
        }
        let limit = self.lease.unwrap_or(self.grace).min(self.grace) - self.margin;
        let (tx, state) = watch::channel((Instant::now(), None));
        let (release, mut released) = oneshot::channel::<oneshot::Sender<_>>();
        let (keys, lease) = (self.keys.clone(), self.lease);
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(limit / 4);
            loop {
                tokio::select! {
                    Ok(reply) = &mut released => {
                        let mut r = Ok(());
                        for key in &keys { r = r.and(c.call(&command::Unlock { key: key.clone(), owner: None }).await); }
                        let _ = reply.send(r);
                        return;
                    }
                    _ = beat.tick() => {
                        for key in &keys {
                            let asked = Instant::now();
                            let r = match lease {
                                Some(lease) => c.call(&command::Expire { key: key.clone(), lease, owner: None }).await,
                                None => c.call(&command::Token { key: key.clone(), owner: None }).await.map(|_| ()),
                            };
                            match r {
                                Ok(()) => { let _ = tx.send((asked, None)); }
                                Err(Error::NotHeld(_)) => { let _ = tx.send((asked, Some(Loss::Released))); }
                                Err(_) => { let _ = tx.send((asked, Some(Loss::NotResumed))); return; }
                            }
                        }
                    }
                }
            }
        });
        Ok(Guard {
            tokens,
            state,
            limit,
            release,
        })
    }
}

impl Guard {
    pub fn tokens(&self) -> Vec<u64> {
        self.tokens.clone()
    }
    pub fn remaining(&self) -> Duration {
        let state = self.state.borrow();
        match state.1 {
            Some(_) => Duration::ZERO,
            None => self.limit.saturating_sub(state.0.elapsed()),
        }
    }
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + 'static {
        let mut state = self.state.clone();
        let limit = self.limit;
        async move {
            loop {
                let (at, why) = *state.borrow_and_update();
                if let Some(why) = why {
                    return why;
                }
                tokio::select! {
                    _ = state.changed() => {},
                    _ = tokio::time::sleep((at + limit).saturating_duration_since(Instant::now())) => return Loss::NotResumed,
                }
            }
        }
    }
    pub async fn release(self) -> Result<(), Error> {
        if self.remaining().is_zero() {
            return Err(Error::Lost {
                why: Loss::NotResumed,
            });
        }
        let (tx, rx) = oneshot::channel();
        let _ = self.release.send(tx);
        rx.await.unwrap_or(Err(Error::Lost {
            why: Loss::NotResumed,
        }))
    }
}
