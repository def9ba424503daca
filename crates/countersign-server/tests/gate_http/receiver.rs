//! A receiver of signals that answers as it was told, and a gate's store of signals.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use countersign_server::gate::Signal;
use countersign_server::gate::webhook::{Signals, SignalsError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::support::Holder;

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// An answer with this status line's rest and these headers and body, as bytes.
    Says(String),
    /// It never answers.
    Hangs,
    /// It closes the connection.
    Closes,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Says(format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n"))
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Came {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    pub(crate) fn index(&self) -> u64 {
        self.header("countersign-index").parse().unwrap()
    }
}

#[derive(Debug, Default)]
struct Inner {
    came: Mutex<Vec<Came>>,
    script: Mutex<VecDeque<Reply>>,
    always: Mutex<Option<Reply>>,
}

/// A receiver: what it was not told to do otherwise, it takes with a 204.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) addr: SocketAddr,
    inner: Arc<Inner>,
}

impl Receiver {
    pub(crate) async fn start(tls: Option<&Holder>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let inner = Arc::new(Inner::default());
        let receiver = Self { addr, inner };
        let acceptor = tls.map(|holder| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let chain = vec![CertificateDer::from_pem_slice(holder.cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(holder.key.as_bytes()).unwrap();
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
            TlsAcceptor::from(Arc::new(config))
        });
        let inner = Arc::clone(&receiver.inner);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (inner, acceptor) = (Arc::clone(&inner), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => inner.converse(socket).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(socket).await {
                                inner.converse(stream).await;
                            }
                        }
                    }
                });
            }
        });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/signals", self.addr)
    }

    /// What it does with the next requests, one each.
    pub(crate) fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.script.lock().unwrap().extend(replies);
    }

    /// What it does with all others.
    pub(crate) fn always(&self, reply: Option<Reply>) {
        *self.inner.always.lock().unwrap() = reply;
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.inner.came.lock().unwrap().clone()
    }

    pub(crate) fn indices(&self) -> Vec<u64> {
        self.came().iter().map(Came::index).collect()
    }
}

impl Inner {
    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Some(came) = read_request(&mut stream).await {
            self.came.lock().unwrap().push(came);
            let scripted = self.script.lock().unwrap().pop_front();
            let always = self.always.lock().unwrap().clone();
            match scripted.or(always).unwrap_or_else(|| Reply::status(204)) {
                Reply::Says(text) => {
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                    let _ = stream.flush().await;
                }
                Reply::Hangs => std::future::pending().await,
                Reply::Closes => return,
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Came> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(Came { head: head.to_owned(), body: body.to_owned() });
            }
        }
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
}

/// Signals in memory, with a cursor that outlives the sender.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    signals: Vec<Signal>,
    cursor: Option<u64>,
    /// Every step of the cursor.
    steps: Vec<u64>,
    /// Steps that fail from now on.
    failing: usize,
    /// The most signals that were ever asked for at once.
    asked_max: usize,
}

impl Kept {
    /// Keeps a signal of this index.
    pub(crate) fn add(&self, index: u64) {
        let signal = Signal {
            index,
            tenant: "acme".to_owned(),
            gate: "prod-1".to_owned(),
            action_id: "0193ad5e-7c00-7000-8000-000000000001".to_owned(),
            outcome: "refuse".to_owned(),
            mode: "enforce".to_owned(),
            codes: vec![format!("R_{index}")],
            logged_at: 1_795_435_201_500_000,
        };
        self.state.lock().unwrap().signals.push(signal);
        self.changed.notify_one();
    }

    pub(crate) fn cursor(&self) -> Option<u64> {
        self.state.lock().unwrap().cursor
    }

    pub(crate) fn steps(&self) -> Vec<u64> {
        self.state.lock().unwrap().steps.clone()
    }

    pub(crate) fn asked_max(&self) -> usize {
        self.state.lock().unwrap().asked_max
    }

    /// The next steps of the cursor fail.
    pub(crate) fn fail(&self, steps: usize) {
        self.state.lock().unwrap().failing = steps;
    }
}

impl Signals for Kept {
    async fn waiting(&self, max: usize) -> Result<Vec<Signal>, SignalsError> {
        let mut state = self.state.lock().unwrap();
        state.asked_max = state.asked_max.max(max);
        let after = state.cursor;
        let waits = |signal: &&Signal| after.is_none_or(|after| signal.index > after);
        Ok(state.signals.iter().filter(waits).take(max).cloned().collect())
    }

    async fn delivered(&self, index: u64) -> Result<(), SignalsError> {
        let mut state = self.state.lock().unwrap();
        if state.failing > 0 {
            state.failing -= 1;
            return Err(SignalsError("the disk is full".to_owned()));
        }
        state.cursor = Some(index);
        state.steps.push(index);
        Ok(())
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A secret in a file of its own.
pub(crate) fn secret(dir: &tempfile::TempDir, secret: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.path().join("webhook.secret");
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
