//! HTTP as plainly as it can be spoken, so that no client library smooths anything over.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Status and body of an answer; none where the process is gone, or half of it came.
pub fn call(addr: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(addr).ok()?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    // Half an answer is none.
    let whole = body.len() == length.parse::<usize>().ok()?;
    whole.then_some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The body of a resource that must be there.
pub fn get(addr: SocketAddr, path: &str) -> String {
    let (status, body) = call(addr, "GET", path, "").unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    body
}
