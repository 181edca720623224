//! A network between commands and their server that can be cut, slow, and silent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: SocketAddr,
    is_silent: Mutex<bool>,
    changed: Condvar,
    delay_ms: AtomicU64,
    is_over: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a port");
        let state = Arc::new(State {
            server,
            is_silent: Mutex::new(false),
            changed: Condvar::new(),
            delay_ms: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if accepting.is_over.load(Ordering::SeqCst) {
                    return;
                }
                accepting.join(near);
            }
        });
        Self { address, state }
    }

    /// Ends every connection, on both sides.
    pub fn cut(&self) {
        let mut connections = self.state.connections.lock().expect("no panic");
        for connection in connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Whether nothing passes, while every connection stands.
    pub fn silence(&self, is_silent: bool) {
        *self.state.is_silent.lock().expect("no panic") = is_silent;
        self.state.changed.notify_all();
    }

    /// Everything comes later by that.
    pub fn delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).expect("a short time");
        self.state.delay_ms.store(ms, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.silence(false);
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn join(self: &Arc<Self>, near: TcpStream) {
        let Ok(far) = TcpStream::connect(self.server) else {
            return;
        };
        let clone = |stream: &TcpStream| stream.try_clone().expect("a socket");
        let pairs = [(clone(&near), clone(&far)), (clone(&far), clone(&near))];
        self.connections
            .lock()
            .expect("no panic")
            .extend([near, far]);
        for (from, to) in pairs {
            let state = Arc::clone(self);
            std::thread::spawn(move || state.pass_on(from, to));
        }
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst)));
            let mut is_silent = self.is_silent.lock().expect("no panic");
            while *is_silent {
                is_silent = self.changed.wait(is_silent).expect("no panic");
            }
            drop(is_silent);
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
