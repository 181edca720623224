//! The lock that etcd has itself: `v3lockpb.Lock`, by gRPC and by etcd's JSON gateway, and `etcdctl lock`.
//!
//! Its clients are connected to etcd's leader, each by a connection and with a lease of its own. The leases
//! outlive the benchmark, so that no renewals are counted.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::load::{Load, Processes, Shown, key, measure};
use crate::servers::Etcd;

const LEASE_SECS: i64 = 3600;

/// A client of etcd's lock.
trait LockClient: 'static {
    async fn connect(etcd: SocketAddr) -> Self;

    /// Returns what is to be unlocked.
    async fn lock(&mut self, name: &str) -> Vec<u8>;

    async fn unlock(&mut self, key: Vec<u8>);
}

pub fn by_grpc(etcd: &Etcd, load: Load) -> Shown {
    pairs::<ByGrpc>(etcd, load)
}

pub fn by_json(etcd: &Etcd, load: Load) -> Shown {
    pairs::<ByJson>(etcd, load)
}

/// Each connection locks and unlocks a name of its own.
fn pairs<C: LockClient>(etcd: &Etcd, load: Load) -> Shown {
    let address = etcd.client(etcd.leader());
    let connect = async || C::connect(address).await;
    let work = |mut client: C, number: usize, until| async move {
        let name = key(number);
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let begin = Instant::now();
            let locked = client.lock(&name).await;
            let half = Instant::now();
            client.unlock(locked).await;
            latencies.extend([half - begin, half.elapsed()]);
        }
        (latencies.len(), latencies)
    };
    measure(&of_etcd(etcd), load, connect, work)
}

fn of_etcd(etcd: &Etcd) -> Processes {
    Processes {
        stores: etcd.pids(),
        ..Processes::default()
    }
}

/// A program that takes a lock and runs `true`, time after time. Two commands each, as others lock and unlock.
pub fn runs(program: impl Fn() -> Command, processes: &Processes, load: Load) -> Shown {
    let work = |mut program: Command, _, until| async move {
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let begin = Instant::now();
            // Nothing else is to be done meanwhile.
            let status = program.status();
            assert!(status.is_ok_and(|status| status.success()), "{program:?}");
            latencies.push(begin.elapsed());
        }
        (2 * latencies.len(), latencies)
    };
    let one = Load {
        connections: 1,
        ..load
    };
    measure(processes, one, async || program(), work)
}

pub fn etcdctl(etcd: &Etcd, load: Load) -> Shown {
    let url = format!("http://{}", etcd.client(etcd.leader()));
    let program = || {
        let mut program = Command::new("etcdctl");
        program
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &url, "lock", "k", "true"])
            .stdout(Stdio::null());
        program
    };
    runs(program, &of_etcd(etcd), load)
}

// ------------------------------------------------------------------------------------------------ gRPC

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockRequest {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(int64, tag = "2")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockResponse {
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnlockRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnlockResponse {}

struct ByGrpc {
    grpc: Grpc<Channel>,
    lease: i64,
}

impl ByGrpc {
    async fn call<Q, A>(&mut self, method: &'static str, request: Q) -> A
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.grpc.ready().await.expect("etcd is there");
        let request = tonic::Request::new(request);
        let path = PathAndQuery::from_static(method);
        let answer = self.grpc.unary(request, path, ProstCodec::default()).await;
        answer.expect("it is done").into_inner()
    }
}

impl LockClient for ByGrpc {
    async fn connect(etcd: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{etcd}")).expect("a URL");
        let channel = endpoint.tcp_nodelay(true).connect().await;
        let grpc = Grpc::new(channel.expect("etcd is there"));
        let mut client = Self { grpc, lease: 0 };
        let request = LeaseGrantRequest { ttl: LEASE_SECS };
        let lease: LeaseGrantResponse =
            client.call("/etcdserverpb.Lease/LeaseGrant", request).await;
        client.lease = lease.id;
        client
    }

    async fn lock(&mut self, name: &str) -> Vec<u8> {
        let request = LockRequest {
            name: name.into(),
            lease: self.lease,
        };
        let locked: LockResponse = self.call("/v3lockpb.Lock/Lock", request).await;
        locked.key
    }

    async fn unlock(&mut self, key: Vec<u8>) {
        let UnlockResponse {} = self
            .call("/v3lockpb.Lock/Unlock", UnlockRequest { key })
            .await;
    }
}

// ------------------------------------------------------------------------------------------------ JSON

struct ByJson {
    stream: TcpStream,
    input: Vec<u8>,
    lease: Value,
}

impl ByJson {
    async fn post(&mut self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let length = body.len();
        let request = format!(
            "POST /v3/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        self.input.clear();
        loop {
            let read = self.stream.read_buf(&mut self.input).await;
            assert!(read.expect("an answer") > 0, "etcd hung up");
            if let Some(body) = body_of(&self.input) {
                return serde_json::from_slice(body).expect("JSON");
            }
        }
    }
}

/// The body of an answer, if all of it is there.
fn body_of(answer: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "refused: {text}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length
        .and_then(|length| length.parse().ok())
        .expect("a length");
    (body.len() == length).then_some(body.as_bytes())
}

impl LockClient for ByJson {
    async fn connect(etcd: SocketAddr) -> Self {
        let stream = TcpStream::connect(etcd).await.expect("etcd is there");
        stream.set_nodelay(true).expect("a socket");
        let mut client = Self {
            stream,
            input: Vec::new(),
            lease: Value::Null,
        };
        let request = json!({"TTL": LEASE_SECS});
        client.lease = client.post("lease/grant", &request).await["ID"].take();
        client
    }

    async fn lock(&mut self, name: &str) -> Vec<u8> {
        let request = json!({"name": BASE64.encode(name), "lease": self.lease});
        let locked = self.post("lock/lock", &request).await;
        let key = BASE64.decode(locked["key"].as_str().expect("a key"));
        key.expect("a key")
    }

    async fn unlock(&mut self, key: Vec<u8>) {
        let request = json!({"key": BASE64.encode(key)});
        self.post("lock/unlock", &request).await;
    }
}
