//! What stands where a witness is expected: it hands on to one, sleeps, hangs up, or lies.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it behaves towards each connection.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Hands everything on to the witness at this address.
    HandOn(SocketAddr),
    /// The same, so much later.
    Slow(Duration, SocketAddr),
    /// Hangs up.
    Dead,
    /// Reads, and says nothing for ever.
    Silent,
    /// Answers each request with a status and a body, made of the checkpoint that was sent.
    Says(u16, fn(&str) -> String),
}

/// A listener of its own, whose address stays while its manner changes.
pub(crate) struct StandIn {
    pub(crate) addr: SocketAddr,
    manner: Arc<Mutex<Manner>>,
}

impl StandIn {
    pub(crate) fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let shared = Arc::clone(&manner);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let manner = shared.lock().unwrap().clone();
                std::thread::spawn(move || serve(socket, &manner));
            }
        });
        Self { addr, manner }
    }

    /// From the next connection on.
    pub(crate) fn be(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

/// One connection, one request: the answer ends it, so that the next one meets the manner of then.
fn serve(mut socket: TcpStream, manner: &Manner) {
    match manner {
        Manner::Dead => {}
        Manner::Silent => {
            let _ = read_request(&mut socket);
            // Until the other side hangs up.
            let _ = socket.read(&mut [0; 1]);
        }
        Manner::HandOn(to) => hand_on(&mut socket, *to),
        Manner::Slow(after, to) => {
            std::thread::sleep(*after);
            hand_on(&mut socket, *to);
        }
        Manner::Says(status, body) => {
            let Some(request) = read_request(&mut socket) else { return };
            let body = body(&request);
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(answer.as_bytes());
        }
    }
}

/// The body of a request; none where it broke off.
fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let mut chunk = [0; 4_096];
        let read = socket.read(&mut chunk).ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&chunk[..read]);
        let whole = String::from_utf8(text.clone()).ok()?;
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        if body.len() >= length.parse::<usize>().ok()? {
            return Some(body.to_owned());
        }
    }
}

fn hand_on(socket: &mut TcpStream, to: SocketAddr) {
    let Some(body) = read_request(socket) else { return };
    let Some((status, answer)) =
        countersign_tests::http::call(to, "POST", "/add-checkpoint", &body)
    else {
        return;
    };
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", answer.len());
    let _ = socket.write_all(format!("{head}connection: close\r\n\r\n{answer}").as_bytes());
}
