//! The wire between gate and ledger, which can be cut, and can lose the ledger's answers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Carries everything.
    Whole,
    /// Carries what the gate says, and loses what the ledger says.
    Deaf,
    /// Carries nothing, and takes nobody.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    state: watch::Sender<Wire>,
}

impl Proxy {
    pub(crate) async fn start(ledger: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = watch::Sender::new(Wire::Whole);
        let seen = state.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *seen.borrow() != Wire::Cut
                    && let Ok(far) = TcpStream::connect(ledger).await
                {
                    tokio::spawn(carry(near, far, seen.clone()));
                }
            }
        });
        Self { addr, state }
    }

    /// Changes the wire. A connection that lost an answer is never whole again: what it carried
    /// is gone.
    pub(crate) fn set(&self, wire: Wire) {
        self.state.send_replace(wire);
    }
}

async fn carry(near: TcpStream, far: TcpStream, mut state: watch::Receiver<Wire>) {
    let (mut from_gate, mut to_gate) = near.into_split();
    let (mut from_ledger, mut to_ledger) = far.into_split();
    let deaf = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut seen = state.clone();
    let lost = Arc::clone(&deaf);
    let out = async move {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_gate.read(&mut bytes).await {
            if to_ledger.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let back = async move {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_ledger.read(&mut bytes).await {
            if *seen.borrow_and_update() == Wire::Deaf {
                lost.store(true, std::sync::atomic::Ordering::SeqCst);
                continue;
            }
            if to_gate.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let broken = async {
        loop {
            let now = *state.borrow_and_update();
            let holed = deaf.load(std::sync::atomic::Ordering::SeqCst) && now == Wire::Whole;
            if now == Wire::Cut || holed || state.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = out => {}, () = back => {}, () = broken => {} }
}
